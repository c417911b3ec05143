//! Wrong tokens by address: after a few of them an address waits, longer with each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Wrong ones that cost nothing.
const FREE: u32 = 5;
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// An address that guessed nothing for so long is forgotten.
const MEMORY: Duration = Duration::from_secs(900);
/// Addresses that are remembered.
const MOST: usize = 4096;

struct Wrong {
    count: u32,
    last: Instant,
}

/// Addresses that named wrong tokens.
#[derive(Default)]
pub struct Guesses(Mutex<HashMap<IpAddr, Wrong>>);

impl Guesses {
    /// How long this address still waits, where it has to.
    pub fn wait(&self, address: IpAddr) -> Option<Duration> {
        let all = self.lock();
        let wrong = all.get(&network(address)).filter(|wrong| wrong.count >= FREE)?;
        let pause = Duration::from_secs(1 << (wrong.count - FREE).min(6)).min(LONGEST);
        pause.checked_sub(wrong.last.elapsed()).filter(|left| !left.is_zero())
    }

    /// This address named a wrong one.
    pub fn wrong(&self, address: IpAddr) {
        let mut all = self.lock();
        let address = network(address);
        if all.len() >= MOST && !all.contains_key(&address) {
            all.retain(|_, wrong| wrong.last.elapsed() < MEMORY);
        }
        if all.len() >= MOST && !all.contains_key(&address) {
            let oldest =
                all.iter().min_by_key(|(_, wrong)| wrong.last).map(|(address, _)| *address);
            oldest.and_then(|oldest| all.remove(&oldest));
        }
        let now = Instant::now();
        let wrong = all.entry(address).or_insert(Wrong { count: 0, last: now });
        let count = if wrong.last.elapsed() < MEMORY { wrong.count } else { 0 };
        *wrong = Wrong { count: count.saturating_add(1), last: now };
    }

    /// This address named a right one.
    pub fn right(&self, address: IpAddr) {
        self.lock().remove(&network(address));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Wrong>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address, or of IPv6 the network of 64 bits, of which a client has all addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn an_address_waits_after_some_and_others_do_not() {
        let guesses = Guesses::default();
        let (one, other) = (Ipv6Addr::from_bits(7), Ipv6Addr::from_bits(7 << 64));
        for _ in 0..FREE {
            assert_eq!(guesses.wait(one.into()), None);
            guesses.wrong(one.into());
        }
        assert!(guesses.wait(one.into()).is_some());
        assert!(guesses.wait(Ipv6Addr::from_bits(8).into()).is_some(), "of the same network");
        assert_eq!(guesses.wait(other.into()), None);
        for _ in 0..100 {
            guesses.wrong(one.into());
        }
        assert!(guesses.wait(one.into()).is_some_and(|left| left <= LONGEST));
        guesses.right(one.into());
        assert_eq!(guesses.wait(one.into()), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let guesses = Guesses::default();
        for number in 0..10_000 {
            guesses.wrong(Ipv4Addr::from_bits(number).into());
        }
        assert!(guesses.lock().len() <= MOST);
    }
}
