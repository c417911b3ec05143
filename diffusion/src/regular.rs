//! Opens regular files only: of a pipe that nobody writes to an opening does not return, and a device has no end.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// Opens a file for reading; returns it with its length.
///
/// # Errors
/// As [`File::open`]; also for anything that is not a regular file.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a folder" } else { "a pipe or a device" };
        return Err(Error::new(ErrorKind::InvalidInput, format!("{what}, not a regular file")));
    }
    Ok((File::open(path)?, metadata.len()))
}

/// The bytes of a file; too little memory for them is an error.
///
/// # Errors
/// As [`open`], and when it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;

    let (mut file, length) = open(path)?;
    let mut bytes = Vec::new();
    let length = usize::try_from(length).map_err(|_| ErrorKind::OutOfMemory)?;
    bytes.try_reserve_exact(length)?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
