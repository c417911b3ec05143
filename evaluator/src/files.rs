//! The files that people hand to the program, read and checked as its commands do; nothing is opened that they
//! name.

use std::path::Path;

use anyhow::Result;

use crate::extractor::Config;
use crate::protocol::{Profile, Table};
use crate::report::cases;

/// A table of the paper, as `evaluator table` reads it.
///
/// # Errors
/// For a file that cannot be read and for contradictions, naming what is wrong.
pub fn table(path: &Path) -> Result<()> {
    Table::read(path).map(drop)
}

/// What a laboratory has, as `--profile` gives it.
///
/// # Errors
/// For a file that cannot be read, unknown keys and values out of range.
pub fn profile(path: &Path) -> Result<()> {
    Profile::read(path).map(drop)
}

/// What says how pictures are shown to a network, as `--extractor` gives it.
///
/// # Errors
/// For a file that cannot be read and for contradictions, naming the key.
pub fn extractor(path: &Path) -> Result<()> {
    Config::read(path).map(drop)
}

/// The scores of single outputs, as `evaluator report` reads them for its best and worst.
///
/// # Errors
/// For a file that cannot be read or is no such table.
pub fn details(path: &Path) -> Result<()> {
    cases::extremes(path, "colorization", 4).map(drop)
}
