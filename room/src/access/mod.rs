//! Who asks, and what they may do.

mod guesses;
mod key;
mod session;
mod token;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;

use crate::Refusal;

pub use guesses::Guesses;
pub use key::Key;
pub use registry::RoomRole as Role;
pub use session::{Kind, Session};
pub use token::{Token, Tokens, equal};

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
    /// They came without a token, as the user of this server on its own machine.
    pub local: bool,
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
        parts.extensions.get::<Self>().cloned().ok_or_else(Refusal::stranger)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Refusal> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}
