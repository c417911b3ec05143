//! Texts as they may be shown. What the programs print, log and store for people goes through one of three
//! functions, which know the same secrets: passwords of addresses, whatever the form of these, queries of
//! web addresses, which may be signatures, and values of parameters that are called like a secret.
//!
//! | function | takes |
//! |---|---|
//! | [`database`] | what was given as the URL of a database, however wrong it is |
//! | [`address`] | one address of a file or a folder |
//! | [`text`] | any text, in which such may stand |
//!
//! They hide too much rather than too little, and leave a text without secrets as it is.

mod address;
mod parameter;
mod text;

pub use address::{address, database};
pub use parameter::names_a_secret;
pub use text::text;

/// What stands in a text instead of a secret.
const HIDDEN: &str = "***";
