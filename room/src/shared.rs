//! Answers that many pages ask for: each is made once, whoever waits for it, and kept for a moment. So the database is
//! asked as often by two hundred open pages as by ten.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::Answer;

/// The most answers that are kept.
const MOST: usize = 512;

/// What nobody has asked for so long is forgotten.
const IDLE: Duration = Duration::from_secs(600);

/// An answer that is kept for no longer than this is about what goes on: one from before the last event is not given to
/// pages that ask because of it.
const LIVE: Duration = Duration::from_secs(5);

type Kept = Arc<Mutex<Option<(Instant, Arc<dyn Any + Send + Sync>)>>>;

/// Answers by their keys.
#[derive(Default)]
pub struct Shared {
    answers: Lock<HashMap<String, (Instant, Kept)>>,
    /// When the last event was heard.
    changed: Lock<Option<Instant>>,
}

impl Shared {
    /// The answer under this key that was made less than `age` ago, or what `make` gives; others who ask
    /// meanwhile wait for it. A refusal is not kept. A key has one type: keys begin with the name of their screen.
    ///
    /// # Errors
    /// Those of `make`.
    pub async fn get<T: Any + Send + Sync>(
        &self,
        key: &str,
        age: Duration,
        make: impl Future<Output = Answer<T>>,
    ) -> Answer<Arc<T>> {
        let asked = Instant::now();
        let place = self.place(key);
        let mut kept = place.lock().await;
        if let Some((made, answer)) = kept.as_ref()
            // What was begun after this was asked for is new enough, however long it took.
            && (*made >= asked
                || (made.elapsed() < age
                    && (age > LIVE || self.heard().is_none_or(|heard| heard < *made))))
            && let Ok(answer) = Arc::clone(answer).downcast()
        {
            return Ok(answer);
        }
        // What changes while it is made may be missing in it.
        let begun = Instant::now();
        let answer = Arc::new(make.await?);
        *kept = Some((begun, Arc::clone(&answer) as _));
        Ok(answer)
    }

    /// Something changed: what was made before is out of date.
    pub fn change(&self) {
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn heard(&self) -> Option<Instant> {
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the answers whose keys begin so, after a change.
    pub fn forget(&self, prefix: &str) {
        self.lock().retain(|key, _| !key.starts_with(prefix));
    }

    fn place(&self, key: &str) -> Kept {
        let mut all = self.lock();
        all.retain(|_, (used, _)| used.elapsed() < IDLE);
        if all.len() >= MOST && !all.contains_key(key) {
            let oldest = all.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| all.remove(&oldest));
        }
        let (used, kept) =
            all.entry(key.to_owned()).or_insert_with(|| (Instant::now(), Kept::default()));
        *used = Instant::now();
        Arc::clone(kept)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Kept)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_who_ask_at_once_get_one_answer() {
        let shared = Arc::new(Shared::default());
        let made = Arc::new(AtomicU32::new(0));
        let asking = (0..200).map(|_| {
            let (shared, made) = (Arc::clone(&shared), Arc::clone(&made));
            tokio::spawn(async move {
                let answer = shared.get("now/runs", Duration::from_secs(3600), async {
                    tokio::task::yield_now().await;
                    Ok(made.fetch_add(1, Ordering::Relaxed))
                });
                *answer.await.unwrap()
            })
        });
        for one in asking.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap(), 0);
        }
        shared.forget("now/");
        let again = shared.get("now/runs", Duration::from_secs(3600), async { Ok(7_u32) });
        assert_eq!(*again.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn an_event_makes_what_is_about_the_moment_out_of_date() {
        let shared = Shared::default();
        let long = Duration::from_secs(3600);
        let ask = async |key: &str, age, number: u32| {
            *shared.get(key, age, async { Ok(number) }).await.unwrap()
        };
        assert_eq!((ask("now", LIVE, 1).await, ask("table", long, 1).await), (1, 1));
        shared.change();
        assert_eq!((ask("now", LIVE, 2).await, ask("table", long, 2).await), (2, 1));
        // Also what was being made when it came.
        shared
            .get("now", Duration::ZERO, async {
                shared.change();
                Ok(3_u32)
            })
            .await
            .unwrap();
        assert_eq!(ask("now", LIVE, 4).await, 4);
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let shared = Shared::default();
        for number in 0..2 * MOST {
            let key = number.to_string();
            let made = shared.get(&key, Duration::MAX, async { Ok(number) }).await.unwrap();
            assert_eq!(*made, number);
        }
        assert!(shared.lock().len() <= MOST);
    }
}
