//! What the database calls out, and when a worker answers.
//!
//! A job that is submitted is called out to every worker that listens. Were all of the idle ones to look for it at
//! once, a thousand of them would keep the server busy for seconds, with the claim that finds the job somewhere among them. So
//! each waits at random for up to a millisecond for each idle worker: about one looks each millisecond, whatever
//! their number, and the first comes as soon as with a single one. A lone worker does not wait.

use std::time::Duration;

use registry::{Database, Lease};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{at, health};

/// What the database called out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    Jobs,
    Stops,
}

/// Of a worker that listens.
pub(super) struct Listener {
    pub database: Database,
    pub lease: Lease,
    pub poll: Duration,
    pub wakes: mpsc::Sender<Wake>,
}

impl Listener {
    /// Passes on what the database calls out, through outages. That takes a connection of its own, which is given up as
    /// long as the server has few left: without it the queue is looked at every now and then all the same.
    pub async fn listen(self) {
        const LOOK_EVERY: Duration = Duration::from_secs(20);
        const BEGIN_BELOW: f64 = 0.6;
        const END_ABOVE: f64 = 0.8;
        loop {
            let mut wait = match self.database.crowd(&self.lease).await {
                Ok(crowd) if crowd.used < BEGIN_BELOW => spread(crowd.idle, self.poll),
                _ => {
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
            };
            if let Ok(mut listener) = self.database.listen(&["jobs", "stops"]).await {
                let mut look = tokio::time::interval(LOOK_EVERY);
                // When to look for the jobs that were called out.
                let mut due = None;
                loop {
                    let notification = tokio::select! {
                        notification = listener.recv() => notification,
                        () = at(due) => {
                            due = None;
                            // Of many calls that are not heard yet one is enough.
                            match self.wakes.try_send(Wake::Jobs) {
                                Err(mpsc::error::TrySendError::Closed(_)) => return,
                                _ => continue,
                            }
                        }
                        _ = look.tick() => match self.database.crowd(&self.lease).await {
                            Ok(crowd) if crowd.used >= END_ABOVE => break,
                            Ok(crowd) => {
                                wait = spread(crowd.idle, self.poll);
                                continue;
                            }
                            Err(_) => continue,
                        },
                    };
                    let Ok(notification) = notification else { break };
                    if notification.channel() == "stops" {
                        // A stop must come through.
                        if self.wakes.send(Wake::Stops).await.is_err() {
                            return;
                        }
                    } else {
                        // A look sees all that was called out before it.
                        due.get_or_insert_with(|| {
                            Instant::now() + wait.mul_f64(health::fraction())
                        });
                    }
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// The longest wait of a worker after a call, where this number of workers is idle. Without a call each looks at the
/// queue every `poll`, so it is at most half of that.
fn spread(idle: u32, poll: Duration) -> Duration {
    const EACH: Duration = Duration::from_millis(1);
    const MOST: Duration = Duration::from_secs(1);
    (EACH * idle.saturating_sub(1)).min(MOST).min(poll / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_spread_with_the_idle_workers_and_never_beyond_the_next_look() {
        let poll = Duration::from_secs(2);
        for (idle, ms) in [(0, 0), (1, 0), (2, 1), (100, 99), (1001, 1000), (u32::MAX, 1000)] {
            assert_eq!(spread(idle, poll), Duration::from_millis(ms), "{idle}");
        }
        assert_eq!(spread(1000, Duration::from_millis(100)), Duration::from_millis(50));
        assert_eq!(spread(1000, Duration::ZERO), Duration::ZERO);
    }
}
