//! Work that blocks: files, decoding, child programs. A bounded number of pieces is done at once, off the threads that
//! answer; what takes long is done once, behind the page that asked for it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use crate::{Answer, Refusal};

/// Pictures that are made at once. A photograph of 100 megapixels takes more than a gigabyte while it is decoded.
const PICTURES: usize = 2;
/// Long pieces of work at once.
const LONG: usize = 1;
/// Results of long work that are kept.
const KEPT: usize = 64;
/// For how long a page waits for long work before it says how far it is.
const PATIENCE: Duration = Duration::from_millis(1500);
/// After long work that failed, before it is tried again.
const AGAIN: Duration = Duration::from_secs(20);

/// Work that blocks.
pub struct Work {
    pictures: Arc<Semaphore>,
    long: Arc<Semaphore>,
    begun: Mutex<HashMap<String, Begun>>,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            pictures: Arc::new(Semaphore::new(PICTURES)),
            long: Arc::new(Semaphore::new(LONG)),
            begun: Mutex::default(),
        }
    }
}

/// How far a long piece of work is.
#[derive(Default)]
pub struct Progress {
    done: AtomicU64,
    all: AtomicU64,
}

impl Progress {
    /// Steps done, and steps in all.
    pub fn at(&self, done: u64, all: u64) {
        self.all.store(all, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
    }
}

/// A long piece of work, as a page sees it.
pub enum Long<T> {
    /// It goes on: steps done, and of how many; 0 of 0 while it waits or does not know.
    Running(u64, u64),
    /// What came of it.
    Done(Arc<T>),
}

type Outcome = Option<Answer<Arc<dyn Any + Send + Sync>>>;

#[derive(Clone)]
struct Begun {
    at: Instant,
    progress: Arc<Progress>,
    outcome: watch::Receiver<Outcome>,
}

impl Work {
    /// Does a short piece of work: reads a file, makes a picture.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn short<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let pass = Arc::clone(&self.pictures).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let _pass = pass;
            work()
        });
        done.await.unwrap_or_else(|error| {
            tracing::warn!("a page's work was given up: {error}");
            Err(Refusal::later("this could not be made; the server's messages say why"))
        })
    }

    /// What comes of a long piece of work; the first who asks begins it. A key has one type, and names all that the
    /// work depends on.
    ///
    /// # Errors
    /// Those of `work`, until it is tried again.
    pub async fn long<T: Any + Send + Sync>(
        &self,
        key: &str,
        work: impl FnOnce(&Progress) -> Answer<T> + Send + 'static,
    ) -> Answer<Long<T>> {
        let mut begun = self.begin(key, work);
        let waited = tokio::time::timeout(PATIENCE, begun.outcome.wait_for(Option::is_some)).await;
        let outcome = match waited {
            Ok(Ok(outcome)) => outcome.clone(),
            Ok(Err(_)) => return Err(Refusal::later("this could not be made; reload the page")),
            Err(_) => None,
        };
        match outcome {
            Some(answer) => answer?
                .downcast()
                .map(Long::Done)
                .map_err(|_| Refusal::later("this could not be made; reload the page")),
            None => {
                let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
                Ok(Long::Running(load(&begun.progress.done), load(&begun.progress.all)))
            }
        }
    }

    fn begin<T: Any + Send + Sync>(
        &self,
        key: &str,
        work: impl FnOnce(&Progress) -> Answer<T> + Send + 'static,
    ) -> Begun {
        let mut all = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(key).filter(|one| {
            let outcome = one.outcome.borrow();
            // Whose sender is gone without an outcome was given up.
            let lost = outcome.is_none() && one.outcome.has_changed().is_err();
            let failed = matches!(*outcome, Some(Err(_))) && one.at.elapsed() > AGAIN;
            !(lost || failed)
        });
        if let Some(known) = known {
            return known.clone();
        }
        if all.len() >= KEPT {
            let ended = all.iter().filter(|(_, one)| one.outcome.borrow().is_some());
            let oldest = ended.min_by_key(|(_, one)| one.at).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| all.remove(&oldest));
        }
        let (sender, outcome) = watch::channel(None);
        let progress = Arc::new(Progress::default());
        let begun = Begun { at: Instant::now(), progress: Arc::clone(&progress), outcome };
        all.insert(key.to_owned(), begun.clone());
        let long = Arc::clone(&self.long);
        tokio::spawn(async move {
            let pass = long.acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                let _pass = pass;
                let made = work(&progress);
                let _ = sender.send(Some(made.map(|made| Arc::new(made) as _)));
            });
        });
        begun
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[tokio::test]
    async fn long_work_is_done_once_and_a_panic_is_no_end() {
        let work = Work::default();
        let one = || work.long("a", |_| Ok(1_u32));
        let (first, second) = tokio::join!(one(), one());
        let (Long::Done(first), Long::Done(second)) = (first.unwrap(), second.unwrap()) else {
            panic!("it is short");
        };
        assert!(Arc::ptr_eq(&first, &second));
        let failed = work.long::<u32>("b", |_| Err(Refusal::bad("no"))).await;
        assert_eq!(failed.err().unwrap().why, "no");
        assert!(work.long::<u32>("c", |_| panic!("a damaged file")).await.is_err());
        assert!(
            matches!(work.long("c", |_| Ok(3_u32)).await.unwrap(), Long::Done(three) if *three == 3)
        );
        assert!(work.short::<u32>(|| panic!("a damaged picture")).await.is_err());
        assert_eq!(work.short(|| Ok(4)).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn work_that_takes_long_says_how_far_it_is() {
        let work = Work::default();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let slow = work.long("slow", move |progress| {
            progress.at(2, 5);
            let _ = wait.recv();
            Ok(7_u32)
        });
        assert!(matches!(slow.await.unwrap(), Long::Running(2, 5)));
        go.send(()).unwrap();
        let done = work.long("slow", |_| Ok(0_u32)).await.unwrap();
        assert!(matches!(done, Long::Done(seven) if *seven == 7));
    }
}
