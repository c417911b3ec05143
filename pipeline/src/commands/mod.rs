//! The commands, one a file: arguments in, library calls, something printed.

pub mod bench;
pub mod cut;
pub mod ingest;
pub mod inspect;
pub mod masks;
pub mod preview;
pub mod scenes;
pub mod verify;

/// Marks an error of the library that the user's arguments caused as wrong use (exit status 2).
pub fn usage(result: anyhow::Result<()>) -> anyhow::Result<()> {
    result.map_err(|error| {
        let error = match error.downcast::<storage::Error>() {
            Ok(error) => pipeline::Error::from(error).into(),
            Err(error) => error,
        };
        match error.downcast_ref::<pipeline::Error>() {
            Some(cause) if cause.is_usage() => terminal::Usage::new(cause.to_string()).into(),
            _ => error,
        }
    })
}

/// A plural that reads well: `1 image`, `2 images`.
pub fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
