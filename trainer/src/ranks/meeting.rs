//! How ranks find each other: the first one listens, the others reach it and say that they are there, and when
//! all are, they form a group.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tch::Device;
use torch_ext::group::{Group, Meeting, Member, Store};

use super::outside::Outside;
use super::{LostRank, own_address};

/// How long ranks wait for one another.
const PATIENCE: Duration = Duration::from_mins(5);

/// How long a host without an address is taken for one that has not come up yet.
const NAMED_WITHIN: Duration = Duration::from_secs(30);

/// A wait that is longer than this is reported.
const QUIET: Duration = Duration::from_secs(10);

/// The number of ranks that have arrived.
const ARRIVED: &str = "arrived";

/// Joins the ranks of a run; returns when all are there. `listener` is a socket that the first rank is to listen
/// on; without it, it listens on every address of its host. `wait` is asked every now and then while this rank
/// waits; its error ends that.
///
/// # Errors
/// That of `wait`, and when the others do not come.
pub fn join(
    outside: &Outside,
    listener: Option<TcpListener>,
    device: Device,
    wait: &mut dyn FnMut() -> Result<()>,
) -> Result<Group> {
    let first = outside.rank == 0;
    let at = format!("{}:{}", outside.host, outside.port);
    if !first || outside.hosted {
        reach(outside, PATIENCE, wait)?;
    }
    let meeting = Meeting {
        host: outside.host.clone(),
        port: outside.port,
        listener,
        hosted: outside.hosted,
        name: outside.name(),
        patience: PATIENCE,
    };
    let store = meeting.open(first).with_context(|| match first && !outside.hosted {
        true => format!("the first rank cannot listen at {at}: give another MASTER_PORT"),
        false => format!("the first rank is lost, at {at}"),
    })?;
    store.add(&mark(outside.rank), 1)?;
    store.add(ARRIVED, 1)?;
    if first {
        gather(&store, outside, wait).with_context(|| format!("the ranks did not meet at {at}"))?;
    }
    let local = outside.here == Some(outside.size);
    let interface = std::env::var("GLOO_SOCKET_IFNAME").ok().filter(|name| !name.is_empty());
    let member = Member {
        rank: outside.rank,
        size: outside.size,
        device,
        interface,
        address: if local { Some("127.0.0.1".to_owned()) } else { own_address() },
        limit: registry::collective_limit()?,
    };
    Group::at(&store, member)
        .context(LostRank)
        .with_context(|| format!("the {} ranks did not meet at {at}", outside.size))
}

/// A group of one, over the library that ranks on this device use.
///
/// # Errors
/// When that library does not work.
pub fn alone(device: Device) -> Result<Group> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let outside = Outside::leader(1, 1, &listener)?;
    join(&outside, Some(listener), device, &mut || Ok(()))
}

/// What says that a rank has arrived.
fn mark(rank: usize) -> String {
    format!("rank {rank}")
}

/// Waits until somebody listens where the first rank is to be.
fn reach(
    outside: &Outside,
    patience: Duration,
    wait: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let (host, port) = (outside.host.as_str(), outside.port);
    let begun = Instant::now();
    let mut said = false;
    loop {
        let (error, limit) = match (host, port).to_socket_addrs().map(Vec::from_iter) {
            Ok(addresses) => match connect(&addresses) {
                Ok(()) => return Ok(()),
                Err(error) => (anyhow!("nobody answers at {host}:{port}: {error}"), patience),
            },
            Err(error) => (anyhow!("{host} (MASTER_ADDR) has no address: {error}"), NAMED_WITHIN),
        };
        let limit = limit.min(patience);
        if begun.elapsed() > limit {
            let text = format!(
                "rank {} of {} did not reach the first rank within {}",
                outside.rank,
                outside.size,
                terminal::duration(limit)
            );
            return Err(error.context(text));
        }
        if !said && begun.elapsed() > QUIET {
            tracing::warn!(
                "rank {} of {} waits for the first: {error}",
                outside.rank,
                outside.size
            );
            said = true;
        }
        pause(outside.size, wait)?;
    }
}

/// Whether somebody listens at one of these addresses.
fn connect(addresses: &[std::net::SocketAddr]) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect_timeout(address, Duration::from_secs(2)) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Waits, as the first rank, until all are there.
fn gather(store: &Store, outside: &Outside, wait: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let begun = Instant::now();
    let mut said = false;
    while store.add(ARRIVED, 0)? < outside.size as i64 {
        let late = begun.elapsed() > PATIENCE;
        if late || !said && begun.elapsed() > QUIET {
            let text =
                format!("{} of {} ranks are missing", missing(store, outside.size)?, outside.size);
            if late {
                return Err(
                    anyhow!("{text} after {}", terminal::duration(PATIENCE)).context(LostRank)
                );
            }
            tracing::warn!("waits for the other ranks: {text}");
            said = true;
        }
        pause(outside.size, wait)?;
    }
    Ok(())
}

/// The ranks that are not there, the first few of them by number.
fn missing(store: &Store, size: usize) -> Result<String> {
    const SHOWN: usize = 8;
    let mut missing = Vec::new();
    for rank in 0..size {
        if store.add(&mark(rank), 0)? == 0 {
            missing.push(rank.to_string());
        }
    }
    let more = if missing.len() > SHOWN { ", …" } else { "" };
    let shown = missing.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    Ok(format!("{} (rank {shown}{more})", missing.len()))
}

/// Between two looks: many ranks look less often.
fn pause(size: usize, wait: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    wait()?;
    std::thread::sleep(Duration::from_millis(if size > 16 { 200 } else { 20 }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(host: &str, port: u16) -> Outside {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let first = Outside::leader(2, 2, &listener).unwrap();
        Outside { rank: 1, host: host.to_owned(), port, ..first }
    }

    #[test]
    fn who_does_not_reach_the_first_rank_says_where_and_why() {
        let patience = Duration::from_millis(50);
        let said = |outside: &Outside| {
            format!("{:#}", reach(outside, patience, &mut || Ok(())).unwrap_err())
        };
        let free =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let error = said(&second("127.0.0.1", free));
        assert!(error.contains("rank 1 of 2 did not reach the first rank"), "{error}");
        assert!(error.contains(&format!("nobody answers at 127.0.0.1:{free}")), "{error}");
        let error = said(&second("nowhere.invalid", 29_500));
        assert!(error.contains("nowhere.invalid (MASTER_ADDR) has no address"), "{error}");
    }

    #[test]
    fn whoever_waits_can_be_called_off() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let first = Outside::leader(3, 3, &listener).unwrap();
        let mut looks = 0;
        let error = join(&first, Some(listener), Device::Cpu, &mut || {
            looks += 1;
            if looks < 3 { Ok(()) } else { Err(anyhow!("no more")) }
        });
        let error = format!("{:#}", error.err().unwrap());
        assert!(error.ends_with("no more"), "{error}");
    }

    #[test]
    fn the_ranks_that_are_missing_are_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let outside = Outside::leader(3, 3, &listener).unwrap();
        let meeting = Meeting {
            host: outside.host.clone(),
            port: outside.port,
            listener: Some(listener),
            hosted: false,
            name: "test".to_owned(),
            patience: PATIENCE,
        };
        let store = meeting.open(true).unwrap();
        store.add(&mark(1), 1).unwrap();
        assert_eq!(missing(&store, 3).unwrap(), "2 (rank 0, 2)");
        assert_eq!(missing(&store, 30).unwrap(), "29 (rank 0, 2, 3, 4, 5, 6, 7, 8, …)");
    }
}
