//! Who is at the other end of a connection.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;

/// The other end of a connection; every request has it among its extensions.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// The address of this server that it connected to.
    pub local: SocketAddr,
    /// The number of this server's own socket in the kernel's tables.
    number: u64,
    user: Arc<OnceLock<Option<u32>>>,
}

impl Peer {
    /// The other end of a connection that was taken.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn of(stream: &TcpStream) -> std::io::Result<Self> {
        let number = File::from(stream.as_fd().try_clone_to_owned()?).metadata()?.ino();
        let (address, local) = (plain(stream.peer_addr()?), plain(stream.local_addr()?));
        Ok(Self { address, local, number, user: Arc::default() })
    }

    /// The user of this machine whose process opened the connection, by its number; none where that cannot be told: the
    /// other end is another machine, another network name space, or closed by now. The kernel's table of sockets
    /// is read for it, once for each connection; that blocks.
    pub fn user(&self) -> Option<u32> {
        if !self.address.ip().is_loopback() || !self.local.ip().is_loopback() {
            return None;
        }
        *self.user.get_or_init(|| {
            // A socket of IPv6 may talk IPv4.
            let tables = match self.address.is_ipv4() {
                true => &["/proc/net/tcp", "/proc/net/tcp6"][..],
                false => &["/proc/net/tcp6"],
            };
            let find = |own, other| {
                tables.iter().find_map(|table| {
                    let lines = BufReader::new(File::open(table).ok()?).lines();
                    lines.map_while(Result::ok).find_map(|line| socket(&line, own, other))
                })
            };
            let (user, _) = find(self.address, self.local)?;
            // Read later: while our own end stands, nobody else has the port of the other.
            let (_, number) = find(self.local, self.address)?;
            (number == self.number).then_some(user)
        })
    }
}

/// An IPv4 address as such, also where a socket of IPv6 has it.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The user and the number of a line of the kernel's table, where it is the socket between these two and somebody still
/// has it: the line of a closed one says 0, which is nobody's word that root opened it.
fn socket(line: &str, own: SocketAddr, other: SocketAddr) -> Option<(u32, u64)> {
    const ESTABLISHED: &str = "01";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (here, there, state) = (fields.next()?, fields.next()?, fields.next()?);
    let (user, inode) = (fields.nth(3)?, fields.nth(1)?);
    let same = state == ESTABLISHED
        && inode != "0"
        && address(here) == Some(own)
        && address(there) == Some(other);
    if same { Some((user.parse().ok()?, inode.parse().ok()?)) } else { None }
}

/// `0100007F:1F90`: words of 32 bits in this machine's order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (digits, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        Some(u32::from_str_radix(digits.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes())
    };
    let ip = match digits.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(plain(SocketAddr::new(ip, port)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_is_of_one_connection_that_somebody_has() {
        let line = |state: &str, inode: &str| {
            format!(
                "   7: 0100007F:9C40 0100007F:1FA4 {state} 00000000:00000000 00:00000000 00000000  1000        0 \
                 {inode} 1 0000000000000000 20 4 30 10 -1"
            )
        };
        let (own, other) = ("127.0.0.1:40000".parse().unwrap(), "127.0.0.1:8100".parse().unwrap());
        assert_eq!(socket(&line("01", "4711"), own, other), Some((1000, 4711)));
        assert_eq!(socket(&line("01", "4711"), other, own), None, "the server's own end");
        assert_eq!(socket(&line("06", "0"), own, other), None, "closed: the user says nothing");
        assert_eq!(socket(&line("01", "0"), own, other), None);
        let mapped = "0000000000000000FFFF00000100007F:1FA4";
        assert_eq!(address(mapped), Some(other));
        assert_eq!(
            address("00000000000000000000000001000000:0050"),
            Some("[::1]:80".parse().unwrap())
        );
        for text in ["", ":", "0100007F", "0100007F:", "01:1", "0100007G:1FA4"] {
            assert_eq!(address(text), None, "{text}");
            assert_eq!(socket(text, own, other), None);
        }
    }

    #[tokio::test]
    async fn the_user_of_a_connection_is_who_opened_it() {
        let me = Some(std::fs::metadata("/proc/self").unwrap().uid());
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = tokio::net::TcpListener::bind(bind).await else { continue };
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (kept, _) = listener.accept().await.unwrap();
            let peer = Peer::of(&kept).unwrap();
            assert_eq!(peer.user(), me, "{bind}");
            drop(stream);
            assert_eq!(peer.user(), me, "it is known of the connection from then on");
            if let Ok(late) = Peer::of(&kept) {
                assert_eq!(late.user(), None);
            }
        }
    }
}
