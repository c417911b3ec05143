//! Messages that whoever asks the server could cause at any rate: one in a while is written, so that nobody fills a log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two messages of a kind.
const PAUSE: Duration = Duration::from_secs(10);

/// Whether the next message is due.
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// True at most once in a [`PAUSE`].
    pub fn is_due(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.duration_since(last) >= PAUSE);
        if due {
            *last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_messages_a_second_are_one_in_a_while() {
        let (seldom, begin) = (Seldom::new(), Instant::now());
        let count = |from: u64, to: u64| {
            (from..to).filter(|ms| seldom.is_due(begin + Duration::from_millis(*ms))).count()
        };
        assert_eq!(count(0, 1), 1, "the first");
        assert_eq!(count(1, 10_000), 0);
        assert_eq!(count(10_000, 30_000), 2);
    }
}
