//! Files that are there whole or not at all: written beside, synced, renamed, folder synced.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Writes a file whole or not at all; an older one of the name is replaced, by one that the same people may read.
///
/// # Errors
/// When the folder cannot be written to or the disk is full; what was there is unharmed then.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = beside(path);
    let mut file = File::create(&beside).map_err(Error::io("create", path))?;
    let written = liken(&beside, path)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .map_err(Error::io("write", path))
        .and_then(|()| rename(&beside, path));
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Gives a file the mode of the one that it is to replace, and its owner where we may.
pub(crate) fn liken(file: &Path, replaced: &Path) -> std::io::Result<()> {
    let Ok(old) = fs::metadata(replaced) else { return Ok(()) };
    let new = fs::metadata(file)?;
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        let _ = std::os::unix::fs::chown(file, Some(old.uid()), Some(old.gid()));
    }
    match old.mode() == new.mode() {
        true => Ok(()),
        false => fs::set_permissions(file, old.permissions()),
    }
}

/// Writes a file whole unless there is one of the name; tells whether it did. Of several writers one
/// does.
///
/// # Errors
/// When the folder cannot be written to, or its file system has no hard links, or the disk is full.
pub fn create(path: &Path, bytes: &[u8]) -> Result<bool> {
    // Also threads of one process never share the unfinished file.
    static WRITERS: AtomicU64 = AtomicU64::new(0);
    let number = WRITERS.fetch_add(1, Ordering::Relaxed);
    let mut beside = beside(path);
    beside.set_extension(format!("{number}.part"));
    let written = File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(Error::io("write", path));
    // A link is made or is there already; a rename would replace what is there.
    let linked = written.and_then(|()| match fs::hard_link(&beside, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::io("create", path)(error)),
    });
    let _ = fs::remove_file(&beside);
    let won = linked?;
    sync_folder(path)?;
    Ok(won)
}

/// Renames a synced file into place and syncs the folder.
///
/// # Errors
/// When the folder cannot be written.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io("rename into", to))?;
    sync_folder(to)
}

/// Syncs the folder that holds `path`, so that its name outlives a crash.
///
/// # Errors
/// When there is no such folder.
pub fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io("sync folder", folder))
}

/// Where the unfinished file of `path` is written; the process is part of the name, so that two
/// writers of one file never share it.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// SHA-256 of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a whole file, in hexadecimal, and its length.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_file(path: &Path) -> Result<(String, u64)> {
    use std::io::Read;
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if count == 0 {
            return Ok((hex(&hash.finalize()), length));
        }
        hash.update(&buffer[..count]);
        length += count as u64;
    }
}

/// A writer or reader that hashes and counts what passes.
pub struct Hashing<W> {
    inner: W,
    hash: Sha256,
    count: u64,
}

impl<W> Hashing<W> {
    /// A writer or reader of which nothing has passed yet.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    /// The inner value, the digest in hexadecimal, the number of bytes.
    pub fn finish(self) -> (W, String, u64) {
        (self.inner, hex(&self.hash.finalize()), self.count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl<R: std::io::Read> std::io::Read for Hashing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.hash.update(&bytes[..count]);
        self.count += count as u64;
        Ok(count)
    }
}
