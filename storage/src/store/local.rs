//! A folder on this machine.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use nix::unistd::AccessFlags;

use super::Source;
use super::open::Opened;
use crate::{Error, Place, Result, atomic, regular};

#[derive(Clone)]
pub(super) struct Local {
    folder: PathBuf,
}

impl Local {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn read(&self, file: &str, most: u64) -> Result<Option<Bytes>> {
        let path = self.folder.join(file);
        let opened = match regular::open(&path) {
            Ok((opened, _)) => opened,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(Error::io("open", path)(error)),
        };
        let mut bytes = Vec::new();
        opened.take(most + 1).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        if bytes.len() as u64 > most {
            let message = format!("{file} is longer than {most} bytes, too long to be one");
            return Err(Error::TooLong { place: self.folder.display().to_string(), message });
        }
        Ok(Some(bytes.into()))
    }

    pub(super) fn size(&self, file: &str) -> Result<Option<u64>> {
        Ok(self.meta(file)?.map(|meta| meta.len()))
    }

    pub(super) fn written(&self, file: &str) -> Result<Option<SystemTime>> {
        Ok(self.meta(file)?.and_then(|meta| meta.modified().ok()))
    }

    fn meta(&self, file: &str) -> Result<Option<Metadata>> {
        let path = self.folder.join(file);
        match fs::metadata(&path) {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    pub(super) fn list(&self, folder: &str) -> Result<BTreeMap<String, u64>> {
        let path = self.folder.join(folder);
        let failed = || Error::io("read folder", &path);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if is_missing(&error) => return Ok(BTreeMap::new()),
            Err(error) => return Err(failed()(error)),
        };
        let mut files = BTreeMap::new();
        for entry in entries {
            let entry = entry.map_err(failed())?;
            // Follows links; what vanished meanwhile is no file any more.
            let Ok(meta) = fs::metadata(entry.path()) else { continue };
            if meta.is_file() {
                files.insert(entry.file_name().to_string_lossy().into_owned(), meta.len());
            }
        }
        Ok(files)
    }

    pub(super) fn only_files(&self) -> Result<Option<Vec<String>>> {
        let failed = || Error::io("read folder", &self.folder);
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if is_missing(&error) => return Ok(Some(Vec::new())),
            Err(error) => return Err(failed()(error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed())?;
            if !entry.file_type().map_err(failed())?.is_file() {
                return Ok(None);
            }
            files.push(entry.file_name().to_string_lossy().into_owned());
        }
        Ok(Some(files))
    }

    pub(super) fn siblings(&self, with: &str) -> Result<Vec<Place>> {
        let own = self.folder.canonicalize().map_err(Error::io("open", &self.folder))?;
        let Some(parent) = own.parent() else { return Ok(Vec::new()) };
        let mut places = Vec::new();
        for entry in fs::read_dir(parent).map_err(Error::io("read folder", parent))? {
            let path = entry.map_err(Error::io("read folder", parent))?.path();
            if path != own && path.join(with).is_file() {
                // A folder whose name is not UTF-8 has no address.
                places.extend(Place::folder(path));
            }
        }
        places.sort_unstable();
        Ok(places)
    }

    pub(super) fn open(&self, file: &str) -> Result<Source> {
        let path = self.folder.join(file);
        Ok(Source::Local(Opened::open(path)?))
    }

    pub(super) fn write(&self, file: &str, bytes: &[u8]) -> Result<()> {
        atomic::write(&self.made(file)?, bytes)
    }

    pub(super) fn create(&self, file: &str, bytes: &[u8]) -> Result<bool> {
        atomic::create(&self.made(file)?, bytes)
    }

    pub(super) fn copy(&self, from: &Path, file: &str) -> Result<()> {
        let path = self.made(file)?;
        let beside = atomic::beside(&path);
        let copied = fs::copy(from, &beside)
            .and_then(|_| File::open(&beside))
            .and_then(|copied| copied.sync_all());
        if let Err(error) = copied {
            let _ = fs::remove_file(&beside);
            return Err(Error::io("copy into", path)(error));
        }
        atomic::rename(&beside, &path)
    }

    pub(super) fn adopt(&self, from: &Path, file: &str) -> Result<()> {
        atomic::rename(from, &self.made(file)?)
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<()> {
        let from = self.folder.join(from);
        atomic::rename(&from, &self.made(to)?)?;
        atomic::sync_folder(&from)
    }

    pub(super) fn remove(&self, file: &str) -> Result<()> {
        let path = self.folder.join(file);
        match fs::remove_file(&path) {
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(Error::io("remove", path)(error)),
            Ok(()) => atomic::sync_folder(&path),
        }
    }

    pub(super) fn remove_folder(&self, folder: &str) -> Result<()> {
        let path = self.folder.join(folder);
        match fs::remove_dir_all(&path) {
            Err(error) if !is_missing(&error) => Err(Error::io("remove", path)(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn check_writable(&self) -> Result<()> {
        let failed = |error| Error::io("write to", &self.folder)(error);
        // What is not there yet is made in the nearest folder that is.
        let there = self.folder.ancestors().find(|path| fs::symlink_metadata(path).is_ok());
        let there = there.unwrap_or(&self.folder);
        if !fs::metadata(there).map_err(failed)?.is_dir() {
            return Err(failed(ErrorKind::NotADirectory.into()));
        }
        let wanted = AccessFlags::W_OK | AccessFlags::X_OK;
        nix::unistd::eaccess(there, wanted).map_err(|error| failed(error.into()))
    }

    /// A lock on `.lock`, which the system takes back when the process ends, however it ends.
    pub(super) fn claim(&self) -> Result<File> {
        fs::create_dir_all(&self.folder).map_err(Error::io("create folder", &self.folder))?;
        let path = self.folder.join(".lock");
        let lock = File::create(&path).map_err(Error::io("create", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => {
                Err(Error::Taken { place: self.folder.display().to_string() })
            }
            Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
        }
    }

    /// The path of a file whose folder exists.
    fn made(&self, file: &str) -> Result<PathBuf> {
        let path = self.folder.join(file);
        let folder = path.parent().unwrap_or(&self.folder);
        if !folder.is_dir() {
            fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
        }
        Ok(path)
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
