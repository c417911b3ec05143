//! The files of a [`Place`]: of a local folder, or of a prefix in an object store (by the crate
//! `object_store`). Files are named relative to that place, with `/` between folders.
//!
//! Always holds: a file is there whole or not at all; nothing is read that is longer than the caller
//! allows; calls block, also from threads that belong to another async runtime.

mod download;
mod environment;
mod local;
mod open;
mod remote;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{Error, Place, Result, atomic, roots};
use local::Local;
pub(crate) use remote::Remote;
pub use remote::{Claim, Traffic, traffic};

/// A place for files. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    place: Place,
    files: Files,
}

#[derive(Clone)]
enum Files {
    Local(Local),
    Remote(Remote),
}

impl Store {
    /// The files of a place; nothing is read yet. Credentials of object stores come from the usual
    /// variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, `GOOGLE_APPLICATION_CREDENTIALS`…).
    ///
    /// # Errors
    /// For a store whose settings make no sense.
    pub fn open(place: &Place) -> Result<Self> {
        let files = match place.local() {
            Some(folder) => Files::Local(Local::new(folder.to_owned())),
            None => {
                roots::demand_read(&place.to_string())?;
                Files::Remote(Remote::open(place)?)
            }
        };
        Ok(Self { place: place.clone(), files })
    }

    /// The address.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// True where a read of a file costs a request over the network.
    pub fn is_remote(&self) -> bool {
        matches!(self.files, Files::Remote(_))
    }

    /// The folder, where the place is local.
    pub fn folder(&self) -> Option<&Path> {
        self.place.local()
    }

    /// The whole file; none where there is none.
    ///
    /// # Errors
    /// When it is longer than `most` bytes, or the folder or store cannot be read.
    pub fn read(&self, file: &str, most: u64) -> Result<Option<Bytes>> {
        match &self.files {
            Files::Local(local) => local.read(file, most),
            Files::Remote(remote) => remote.read(file, most),
        }
    }

    /// Length of a file; none where there is none.
    ///
    /// # Errors
    /// When the folder or store cannot be read.
    pub fn size(&self, file: &str) -> Result<Option<u64>> {
        match &self.files {
            Files::Local(local) => local.size(file),
            Files::Remote(remote) => remote.size(file),
        }
    }

    /// When a file was last written, if there is one and the system says so.
    ///
    /// # Errors
    /// When the folder or store cannot be read.
    pub fn written(&self, file: &str) -> Result<Option<SystemTime>> {
        match &self.files {
            Files::Local(local) => local.written(file),
            Files::Remote(remote) => remote.written(file),
        }
    }

    /// Names and lengths of all files directly in a folder; empty where there is no such folder.
    ///
    /// # Errors
    /// When the folder or store cannot be read.
    pub fn list(&self, folder: &str) -> Result<BTreeMap<String, u64>> {
        match &self.files {
            Files::Local(local) => local.list(folder),
            Files::Remote(remote) => remote.list(folder),
        }
    }

    /// Names of the files of the place; none where it holds anything else, such as folders or links.
    ///
    /// # Errors
    /// When the folder or store cannot be read.
    pub fn only_files(&self) -> Result<Option<Vec<String>>> {
        match &self.files {
            Files::Local(local) => local.only_files(),
            Files::Remote(remote) => remote.only_files(),
        }
    }

    /// The places beside this one that have a file of this name, in order.
    ///
    /// # Errors
    /// Where the folder or store cannot be listed.
    pub fn siblings(&self, with: &str) -> Result<Vec<Place>> {
        match &self.files {
            Files::Local(local) => local.siblings(with),
            Files::Remote(remote) => remote.siblings(with),
        }
    }

    /// Opens a file for ranged reads; its length is known to the caller.
    ///
    /// # Errors
    /// When there is no such file on this machine; in a store that shows when it is read.
    pub fn file(&self, file: &str, length: u64) -> Result<Ranges> {
        let source = match &self.files {
            Files::Local(local) => local.open(file)?,
            Files::Remote(remote) => Source::Remote(remote.clone(), file.to_owned()),
        };
        Ok(Ranges { source, length })
    }

    /// Copies a file of this length to a path of this machine, a few parts at once and no more of it in
    /// memory.
    ///
    /// # Errors
    /// When it cannot be read or is shorter, or the path cannot be written.
    pub fn fetch(&self, file: &str, length: u64, to: &Path) -> Result<()> {
        download::download(&self.file(file, length)?, to)
    }

    /// SHA-256 of a file of this length, in hexadecimal.
    ///
    /// # Errors
    /// When the file cannot be read or is shorter.
    pub fn digest(&self, file: &str, length: u64) -> Result<String> {
        const STEP: u64 = 8 << 20;
        let ranges = self.file(file, length)?;
        let mut hash = Sha256::new();
        let mut at = 0;
        while at < length {
            let count = STEP.min(length - at);
            hash.update(ranges.read(at, count as usize).map_err(|error| unread(file, error))?);
            at += count;
        }
        Ok(atomic::hex(&hash.finalize()))
    }

    /// Writes a file whole or not at all; an older one of the name is replaced.
    ///
    /// # Errors
    /// When the folder or store cannot be written.
    pub fn write(&self, file: &str, bytes: Vec<u8>) -> Result<()> {
        match &self.files {
            Files::Local(local) => local.write(file, &bytes),
            Files::Remote(remote) => self.writable().and_then(|()| remote.write(file, bytes)),
        }
    }

    /// Writes a file whole unless there is one of the name; tells whether it did. Of several writers, on
    /// whatever hosts, one does.
    ///
    /// # Errors
    /// When the folder or store cannot be written.
    pub fn create(&self, file: &str, bytes: Vec<u8>) -> Result<bool> {
        match &self.files {
            Files::Local(local) => local.create(file, &bytes),
            Files::Remote(remote) => self.writable().and_then(|()| remote.create(file, bytes)),
        }
    }

    /// Makes sure that files can be written here, by one that is removed again.
    ///
    /// # Errors
    /// When the folder or store cannot be written.
    pub fn probe(&self) -> Result<()> {
        // Processes of several hosts may have one number.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let file = format!(".probe-{}-{}", std::process::id(), now.as_nanos());
        self.write(&file, Vec::new())?;
        self.remove(&file)
    }

    /// Makes sure that files could be written here by this user, and makes nothing of a folder that is not there:
    /// for a place that somebody is going to write to later. A store is probed.
    ///
    /// # Errors
    /// When the folder or store cannot be written.
    pub fn check_writable(&self) -> Result<()> {
        match &self.files {
            Files::Local(local) => local.check_writable(),
            Files::Remote(_) => self.probe(),
        }
    }

    /// Copies a file of this machine into the place, in parts; an older one of the name is replaced.
    ///
    /// # Errors
    /// When the file cannot be read, or the folder or store cannot be written.
    pub fn copy(&self, from: &Path, file: &str) -> Result<()> {
        match &self.files {
            Files::Local(local) => local.copy(from, file),
            Files::Remote(remote) => self.writable().and_then(|()| remote.copy(from, file)),
        }
    }

    /// Moves a finished file of this machine into the place; an older one of the name is replaced.
    ///
    /// # Errors
    /// When the folder or store cannot be written.
    pub fn adopt(&self, from: &Path, file: &str) -> Result<()> {
        match &self.files {
            Files::Local(local) => local.adopt(from, file),
            Files::Remote(remote) => self.writable().and_then(|()| remote.upload(from, file)),
        }
    }

    /// Renames a file; an older one of the new name is replaced.
    ///
    /// # Errors
    /// When there is no such file, or the folder or store cannot be written.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        match &self.files {
            Files::Local(local) => local.rename(from, to),
            Files::Remote(remote) => self.writable().and_then(|()| remote.rename(from, to)),
        }
    }

    /// Removes a file; that it is gone already is no error.
    ///
    /// # Errors
    /// When the folder or store cannot be written.
    pub fn remove(&self, file: &str) -> Result<()> {
        match &self.files {
            Files::Local(local) => local.remove(file),
            Files::Remote(remote) => self.writable().and_then(|()| remote.remove(file)),
        }
    }

    /// Claims the place for one writer, until the claim is dropped or the process ends.
    ///
    /// # Errors
    /// When another writer has it, or the folder or store cannot be written.
    pub fn claim(&self) -> Result<Claim> {
        match &self.files {
            Files::Local(local) => local.claim().map(Claim::local),
            Files::Remote(remote) => self.writable().and_then(|()| remote.claim()),
        }
    }

    /// Removes what an empty folder of the place leaves behind; object stores have no folders.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn remove_folder(&self, folder: &str) -> Result<()> {
        match &self.files {
            Files::Local(local) => local.remove_folder(folder),
            Files::Remote(_) => Ok(()),
        }
    }

    /// Refuses to write to a store that this process must not write to.
    fn writable(&self) -> Result<()> {
        roots::demand_write(&self.place.to_string())
    }

    /// The refusal to do something with this place: why, and what to do.
    pub fn refused(&self, message: impl Into<String>) -> Error {
        Error::Refused { place: self.place.to_string(), message: message.into() }
    }
}

/// The error of a read: that of the store where it is one.
fn unread(file: &str, error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::io("read", file)(error),
    }
}

/// A file that is read in ranges.
#[derive(Clone)]
pub struct Ranges {
    source: Source,
    length: u64,
}

#[derive(Clone)]
enum Source {
    Local(open::Opened),
    Remote(Remote, String),
    /// Parts of a file that are in memory, each from its offset on.
    Held(Vec<(u64, Bytes)>),
}

impl Ranges {
    /// A part of a file that was read already; `from` is where it stood in the file.
    pub fn held(from: u64, bytes: Bytes) -> Self {
        Self::parts(vec![(from, bytes)])
    }

    /// Parts of a file that were read already, each with where it stood in the file.
    pub fn parts(parts: Vec<(u64, Bytes)>) -> Self {
        let ends = parts.iter().map(|(from, bytes)| from + bytes.len() as u64);
        let length = ends.max().unwrap_or(0);
        Self { source: Source::Held(parts), length }
    }

    /// The parts of both, of a file that was read in parts; the parts of `self` are looked at first.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        if let (Source::Held(parts), Source::Held(more)) = (&mut self.source, &other.source) {
            parts.extend(more.iter().cloned());
            self.length = self.length.max(other.length);
        }
        self
    }

    /// These parts of the file, read at once where each read is a request over the network; the file
    /// itself where it is not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn fetch(&self, spans: &[Range<u64>]) -> std::io::Result<Self> {
        let Source::Remote(remote, file) = &self.source else { return Ok(self.clone()) };
        let parts = remote.ranges(file, spans.to_vec())?;
        let held = spans.iter().map(|span| span.start).zip(parts).collect();
        Ok(Self { source: Source::Held(held), length: self.length })
    }

    /// Bytes of the whole file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// True where a read costs a request over the network.
    pub fn is_remote(&self) -> bool {
        matches!(self.source, Source::Remote(..))
    }

    /// Bytes `from..from + length`.
    ///
    /// # Errors
    /// When the file ends before, or cannot be read.
    pub fn read(&self, from: u64, length: usize) -> std::io::Result<Bytes> {
        use std::io::{Error, ErrorKind};
        use std::os::unix::fs::FileExt;
        let past = || Error::new(ErrorKind::UnexpectedEof, "read past the end of the file");
        let to = from.checked_add(length as u64).filter(|&to| to <= self.length);
        let to = to.ok_or_else(past)?;
        match &self.source {
            Source::Local(file) => {
                let mut buffer = vec![0; length];
                file.file()?.read_exact_at(&mut buffer, from)?;
                Ok(buffer.into())
            }
            Source::Remote(remote, file) => {
                let bytes = remote.range(file, from..to)?;
                if bytes.len() == length { Ok(bytes) } else { Err(past()) }
            }
            Source::Held(parts) => {
                let part = |(start, bytes): &(u64, Bytes)| {
                    let at = usize::try_from(from.checked_sub(*start)?).ok()?;
                    let end = at.checked_add(length).filter(|&end| end <= bytes.len())?;
                    Some(bytes.slice(at..end))
                };
                parts.iter().find_map(part).ok_or_else(past)
            }
        }
    }
}
