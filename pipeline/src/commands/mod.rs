//! The commands, one a file: arguments in, library calls, something printed.

pub mod bench;
pub mod cut;
pub mod ingest;
pub mod inspect;
pub mod masks;
pub mod preview;
pub mod scenes;
pub mod verify;

/// A plural that reads well: `1 image`, `2 images`.
pub fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
