//! When what failed is tried again, and when it is given up.

use std::time::{Duration, Instant};

use super::Reach;
use super::origin::Failure;
use crate::Error;

/// Tries that are made whatever the time, and all that a server gets that was never reached.
const TRIES: u32 = 4;
/// The wait before the second try, doubled for each further one, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// The longest wait that a server may ask for.
const ASKED_WAIT: Duration = Duration::from_secs(60);

/// Tries without a further byte.
pub(super) struct Tries<'a> {
    name: &'a str,
    reach: Reach,
    /// Whether the server was reached before.
    known: bool,
    count: u32,
    since: Instant,
}

impl<'a> Tries<'a> {
    /// None so far. `name` is what messages call the file.
    pub(super) fn new(name: &'a str, reach: Reach, known: bool) -> Self {
        Self { name, reach, known, count: 0, since: Instant::now() }
    }

    /// Waits until it is time to try again; an error where it is time to give up. `at` says where the
    /// reading is.
    pub(super) fn again(&mut self, failure: Failure, at: &str) -> Result<(), Error> {
        let (said, asked, reached) = match failure {
            Failure::Passing { said, wait, reached } => (said, wait, reached),
            Failure::Changed(how) => {
                let message = format!(
                    "is another file than the one that was begun, {at}: {how}; start again with \
                     the file as it is now"
                );
                return Err(Error::Refused { place: self.name.to_owned(), message });
            }
            Failure::Final(error) => return Err(error),
        };
        self.count += 1;
        self.known |= reached;
        let passed = self.since.elapsed();
        if self.count >= TRIES && (passed >= self.reach.patience || !self.known) {
            let message = format!(
                "given up after {} tries in {} s without a byte, {at}: {said}; try again later",
                self.count,
                passed.as_secs()
            );
            return Err(Error::Store { doing: "read", place: self.name.to_owned(), message });
        }
        let wait = FIRST_WAIT.saturating_mul(1 << (self.count - 1).min(16)).min(LONGEST_WAIT);
        let wait = asked.map_or(wait, |asked| asked.clamp(wait, ASKED_WAIT));
        // The last try comes when the patience ends, not much later.
        let left = self.reach.patience.saturating_sub(passed).max(FIRST_WAIT);
        // That a connection breaks once is nothing to be told of.
        match self.count {
            1 => tracing::debug!("{}: {said}, {at}: taken up again", self.name),
            _ => tracing::warn!("{}: {said}, {at}: tried again", self.name),
        }
        std::thread::sleep(wait.min(left));
        Ok(())
    }
}
