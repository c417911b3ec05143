//! Who asks, and what they may do.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use sha2::{Digest, Sha256};

use crate::Refusal;

/// What somebody may do; each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything.
    Reader,
    /// Submit, cancel, pause, resume, rename, try.
    User,
    /// Make tokens, send tests of alerts.
    Admin,
}

/// Who asks. Every handler may take one; requests that change something come only from users, with a token
/// against forged requests (`http`).
#[derive(Clone, Debug)]
pub struct Who {
    /// The owner of what they submit.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The token that their forms carry.
    pub csrf: String,
}

impl Who {
    /// Refuses whoever may do less.
    ///
    /// # Errors
    /// 403 with the role that is needed.
    pub fn demand(&self, role: Role) -> Result<(), Refusal> {
        if self.role >= role {
            return Ok(());
        }
        let needed = match role {
            Role::Reader => "a reader",
            Role::User => "a user",
            Role::Admin => "an administrator",
        };
        Err(Refusal::forbidden(format!("this needs the token of {needed}")))
    }
}

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let who = parts.extensions.get::<Self>().cloned();
        who.ok_or_else(|| Refusal::forbidden("log in first, at /login"))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Refusal> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

/// A secret of this server, of 32 bytes.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// From the system's random numbers.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// One that was kept.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The token that the forms of a session carry.
    pub fn csrf(&self, session: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(Sha256::digest(session));
        hash.update(self.0);
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, hash.finalize())
    }
}

/// Without the secret.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}
