//! Whether this process itself stood still (SIGSTOP, a debugger, a host that was frozen) while other ranks waited for
//! it: it finds them gone when it goes on, and nobody else knows why.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Watches how long this process stands still at most, as long as it is kept.
pub struct Pauses {
    longest: Arc<AtomicU64>,
}

impl Pauses {
    /// Begins to watch.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn watch() -> std::io::Result<Self> {
        const EVERY: Duration = Duration::from_millis(200);
        let longest = Arc::new(AtomicU64::new(0));
        let kept = Arc::downgrade(&longest);
        std::thread::Builder::new().name("pauses".to_owned()).spawn(move || {
            let mut last = Instant::now();
            while let Some(longest) = kept.upgrade() {
                let pause = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
                longest.fetch_max(pause, Ordering::Relaxed);
                drop(longest);
                last = Instant::now();
                std::thread::sleep(EVERY);
            }
        })?;
        Ok(Self { longest })
    }

    /// The longest time that it stood still.
    pub fn longest(&self) -> Duration {
        Duration::from_millis(self.longest.load(Ordering::Relaxed))
    }
}
