//! Tokens: the secret that somebody from elsewhere enters with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use registry::{Database, Result, Uuid, ValidRoomToken};
use sha2::{Digest, Sha256};
use time::{Date, OffsetDateTime};
use tokio::sync::Mutex;

/// What each begins with, so that tools that look for secrets in texts find it.
const PREFIX: &str = "palette_";

/// How long a list of tokens holds: a token that was taken back somewhere else is refused after that.
const AGE: Duration = Duration::from_secs(2);

/// A token. Its text is shown once.
pub struct Token(String);

impl Token {
    /// From 256 of the system's random bits.
    pub fn random() -> Self {
        let bytes: [u8; 32] = rand::random();
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// What its owner keeps.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What the database keeps.
    pub fn digest(&self) -> [u8; 32] {
        digest(&self.0)
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The tokens that hold. Whatever is asked, the database is asked for them once in a while.
#[derive(Default)]
pub struct Tokens {
    kept: Mutex<Option<(Instant, Arc<Vec<ValidRoomToken>>)>>,
    /// The day that each was noted to be used on.
    used: Lock<HashMap<Uuid, Date>>,
}

impl Tokens {
    /// The one of this text.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn named(&self, database: &Database, text: &str) -> Result<Option<ValidRoomToken>> {
        const LONGEST: usize = 256;
        let text = text.trim();
        if !text.starts_with(PREFIX) || text.len() > LONGEST {
            return Ok(None);
        }
        let wanted = digest(text);
        let all = self.all(database).await?;
        // In the same time whichever it is.
        let found = all.iter().fold(None, |found, one| match equal(&one.digest, &wanted) {
            true => Some(one),
            false => found,
        });
        Ok(self.holding(database, found))
    }

    /// The one of this id.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn of(&self, database: &Database, id: Uuid) -> Result<Option<ValidRoomToken>> {
        let all = self.all(database).await?;
        Ok(self.holding(database, all.iter().find(|one| one.id == id)))
    }

    /// Forgets the list, after a change.
    pub async fn forget(&self) {
        *self.kept.lock().await = None;
    }

    fn holding(
        &self,
        database: &Database,
        found: Option<&ValidRoomToken>,
    ) -> Option<ValidRoomToken> {
        let now = OffsetDateTime::now_utc();
        let found = found.filter(|one| one.expires_at.is_none_or(|end| end > now))?;
        let before =
            self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(found.id, now.date());
        if before != Some(now.date()) {
            let (database, id) = (database.clone(), found.id);
            tokio::spawn(async move {
                if let Err(error) = database.note_room_token(id).await {
                    tracing::debug!("that a token is used cannot be noted: {error}");
                }
            });
        }
        Some(found.clone())
    }

    async fn all(&self, database: &Database) -> Result<Arc<Vec<ValidRoomToken>>> {
        let mut kept = self.kept.lock().await;
        if let Some((made, all)) = kept.as_ref()
            && made.elapsed() < AGE
        {
            return Ok(Arc::clone(all));
        }
        let all = match database.valid_room_tokens().await {
            Ok(all) => Arc::new(all),
            // Open pages say that the database is lost, which is no reason to log anybody out.
            Err(error) => match kept.as_ref() {
                Some((_, all)) if error.is_outage() => Arc::clone(all),
                _ => return Err(error),
            },
        };
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|id, _| all.iter().any(|one| one.id == *id));
        *kept = Some((Instant::now(), Arc::clone(&all)));
        Ok(all)
    }
}

/// In the same time whatever differs.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}
