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

type Kept = Arc<Mutex<Option<(Instant, Arc<dyn Any + Send + Sync>)>>>;

/// Answers by their keys.
#[derive(Default)]
pub struct Shared(Lock<HashMap<String, (Instant, Kept)>>);

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
        let place = self.place(key);
        let mut kept = place.lock().await;
        if let Some((made, answer)) = kept.as_ref()
            && made.elapsed() < age
            && let Ok(answer) = Arc::clone(answer).downcast()
        {
            return Ok(answer);
        }
        let answer = Arc::new(make.await?);
        *kept = Some((Instant::now(), Arc::clone(&answer) as _));
        Ok(answer)
    }

    /// Forgets the answers whose keys begin so, after a change.
    pub fn forget(&self, prefix: &str) {
        self.lock().retain(|key, _| !key.starts_with(prefix));
    }

    fn place(&self, key: &str) -> Kept {
        let mut all = self.lock();
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
