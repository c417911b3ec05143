//! Human studies as their users have them: the real program, a real Postgres, a real browser.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod browser;
mod house;
mod http;
mod making;
mod protocol;
mod rating;
