//! One worker of a host hands out a GPU, however many there are and whatever databases they use.
//!
//! Who hands one out holds an abstract unix socket named after its UUID. The kernel lets one process
//! bind a name and frees it when that process ends, however it ends: no file is left, and no rights are
//! needed. Containers see each other's only if they share the host's network.

use std::io::{Error, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The right to hand out a GPU, as long as this lives.
#[derive(Debug)]
pub(crate) struct Hold(#[allow(dead_code, reason = "it is there to be there")] UnixDatagram);

impl Hold {
    /// Takes this GPU; none when another worker has it.
    ///
    /// # Errors
    /// When the kernel does not allow such a socket.
    pub fn take(uuid: &str) -> Result<Option<Self>, Error> {
        let name = SocketAddr::from_abstract_name(format!("palette-gpu-{uuid}"))?;
        match UnixDatagram::bind_addr(&name) {
            Ok(socket) => Ok(Some(Self(socket))),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a process of this host has this GPU, as far as can be seen without taking it.
    pub fn is_taken(uuid: &str) -> bool {
        let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let name = format!("@palette-gpu-{uuid}");
        sockets.lines().any(|line| line.split_ascii_whitespace().next_back() == Some(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_held_once_and_free_when_it_is_let_go() {
        let uuid = format!("GPU-{}", uuid::Uuid::new_v4());
        let first = Hold::take(&uuid).unwrap().unwrap();
        assert!(Hold::take(&uuid).unwrap().is_none());
        assert!(Hold::is_taken(&uuid));
        drop(first);
        assert!(!Hold::is_taken(&uuid));
        assert!(Hold::take(&uuid).unwrap().is_some());
    }
}
