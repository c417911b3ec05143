//! Sources as they are read: on this machine, or far away and opened once, so that all passes over one
//! read the same file.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use storage::{Far, FarFile, FarFolder, Fault, Reach, Source};

use crate::{Error, Result};

/// A source, found.
#[derive(Clone)]
pub(super) struct Origin {
    /// The path, or for messages the address of what is far away.
    name: PathBuf,
    /// The last part of either.
    file_name: String,
    far: Option<Far>,
}

/// One file of a source, which may be all of it.
#[derive(Clone)]
pub(super) struct Packed {
    name: PathBuf,
    far: Option<FarFile>,
}

/// A file that is read.
pub(super) trait Bytes: Read + Seek + Send {}

impl<T: Read + Seek + Send> Bytes for T {}

impl Origin {
    /// Finds a source. What is on this machine is looked at when it is read.
    pub(super) fn open(source: &Source, reach: &Reach) -> Result<Self> {
        Ok(match source.local() {
            Some(path) => Self::local(path),
            None => Self {
                name: source.to_string().into(),
                file_name: source.name(),
                far: Some(source.open(reach)?),
            },
        })
    }

    /// A source on this machine.
    pub(super) fn local(path: &Path) -> Self {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { name: path.to_owned(), file_name, far: None }
    }

    /// The path, or for messages the address.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// The last part of the path or address.
    pub(super) fn file_name(&self) -> &str {
        &self.file_name
    }

    /// What is far away.
    pub(super) fn far(&self) -> Option<&Far> {
        self.far.as_ref()
    }

    /// The path, of a source on this machine.
    pub(super) fn path(&self) -> Option<&Path> {
        self.far.is_none().then_some(&self.name)
    }

    /// The prefix of an object store.
    pub(super) fn folder(&self) -> Option<&FarFolder> {
        match &self.far {
            Some(Far::Folder(folder)) => Some(folder),
            _ => None,
        }
    }

    /// The source as a file, which it must be.
    pub(super) fn packed(&self) -> Packed {
        let far = match &self.far {
            Some(Far::File(file)) => Some(file.clone()),
            _ => None,
        };
        Packed { name: self.name.clone(), far }
    }

    /// A result of reading this source: where the connection failed, that is the error, whatever was made
    /// of it.
    pub(super) fn told<T>(&self, result: Result<T>) -> Result<T> {
        let fault: Option<&Fault> = match &self.far {
            Some(Far::File(file)) => Some(file.fault()),
            Some(Far::Folder(folder)) => Some(folder.fault()),
            None => None,
        };
        match fault {
            Some(fault) if fault.is_set() => match (fault.take(), result) {
                (Some(error), _) => Err(error.into()),
                (None, Err(error)) => Err(error),
                (None, Ok(_)) => Err(Error::source(&self.name, "could not be read")),
            },
            _ => result,
        }
    }
}

impl Packed {
    /// A file on this machine.
    pub(super) fn local(path: &Path) -> Self {
        Self { name: path.to_owned(), far: None }
    }

    /// A file far away.
    pub(super) fn far(file: FarFile) -> Self {
        Self { name: file.name().into(), far: Some(file) }
    }

    /// The path, or for messages the address.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// The file, where it is far away.
    pub(super) fn as_far(&self) -> Option<&FarFile> {
        self.far.as_ref()
    }

    /// True where the connection to it failed.
    pub(super) fn has_failed(&self) -> bool {
        self.far.as_ref().is_some_and(|file| file.fault().is_set())
    }

    /// An error where only parts are read, and the file cannot be read in parts.
    pub(super) fn check_ranges(&self, what: &str) -> Result<()> {
        match &self.far {
            Some(file) if !file.has_ranges() => {
                let message = format!(
                    "is {what}, which is read in parts, and its server does not send parts \
                     (Range): download it first"
                );
                Err(Error::source(&self.name, message))
            }
            _ => Ok(()),
        }
    }

    /// Length in bytes.
    pub(super) fn length(&self) -> Result<u64> {
        match &self.far {
            Some(file) => Ok(file.length()),
            None => Ok(std::fs::metadata(&self.name).map_err(Error::io("open", &self.name))?.len()),
        }
    }

    /// Opens the file for reading.
    pub(super) fn open(&self) -> Result<Box<dyn Bytes>> {
        Ok(match &self.far {
            Some(file) => Box::new(file.reader()),
            None => Box::new(File::open(&self.name).map_err(Error::io("open", &self.name))?),
        })
    }
}
