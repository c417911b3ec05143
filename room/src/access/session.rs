//! Sessions: what a browser's cookie says. A session is signed and kept nowhere; one of a token holds while the token
//! does.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use registry::Uuid;
use time::OffsetDateTime;

use super::Key;
use super::token::equal;

/// How long one holds.
const LENGTH: time::Duration = time::Duration::days(30);

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of whoever comes without a token.
    Plain,
    /// Of somebody who entered with this token.
    Token(Uuid),
}

/// A session, as its cookie has it.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whose it is.
    pub kind: Kind,
    /// The cookie's value.
    pub value: String,
    /// The token that its forms carry.
    pub csrf: String,
}

impl Session {
    /// A new one, from now on.
    pub fn new(key: &Key, kind: Kind) -> Self {
        let id = match kind {
            Kind::Plain => Uuid::nil(),
            Kind::Token(id) => id,
        };
        let end = (OffsetDateTime::now_utc() + LENGTH).unix_timestamp();
        let mut bytes = [0; 40];
        bytes[..16].copy_from_slice(id.as_bytes());
        bytes[16..24].copy_from_slice(&end.to_be_bytes());
        bytes[24..].copy_from_slice(&rand::random::<[u8; 16]>());
        let text = URL_SAFE_NO_PAD.encode(bytes);
        let value = format!("{text}.{}", key.sign("session", text.as_bytes()));
        Self { kind, csrf: key.sign("csrf", value.as_bytes()), value }
    }

    /// The one of this cookie; none where it was not made with this key, or is over.
    pub fn read(key: &Key, value: &str) -> Option<Self> {
        const LONGEST: usize = 128;
        let (text, signature) = value.split_once('.').filter(|_| value.len() <= LONGEST)?;
        let signed = key.sign("session", text.as_bytes());
        if !equal(signed.as_bytes(), signature.as_bytes()) {
            return None;
        }
        let bytes: [u8; 40] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let id = Uuid::from_slice(&bytes[..16]).ok()?;
        let end = i64::from_be_bytes(bytes[16..24].try_into().ok()?);
        if end <= OffsetDateTime::now_utc().unix_timestamp() {
            return None;
        }
        let kind = if id.is_nil() { Kind::Plain } else { Kind::Token(id) };
        let csrf = key.sign("csrf", value.as_bytes());
        Some(Self { kind, value: value.to_owned(), csrf })
    }

    /// The seconds that its cookie is kept by a browser.
    pub fn seconds() -> i64 {
        LENGTH.whole_seconds()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_session_is_read_by_the_key_that_made_it_alone() {
        let key = Key::random();
        for kind in [Kind::Plain, Kind::Token(Uuid::from_u128(7))] {
            let made = Session::new(&key, kind);
            let read = Session::read(&key, &made.value).unwrap();
            assert_eq!((read.kind, &read.csrf), (kind, &made.csrf));
            assert!(Session::read(&Key::random(), &made.value).is_none());
            for at in 0..made.value.len() {
                let mut changed = made.value.clone().into_bytes();
                changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(changed).unwrap();
                assert!(Session::read(&key, &changed).is_none(), "{at}");
            }
        }
        for value in ["", ".", "a.b", &"x".repeat(10_000)] {
            assert!(Session::read(&key, value).is_none());
        }
    }
}
