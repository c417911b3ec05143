//! Files of this machine that are read in ranges: one open file for all readers, and few of them in the
//! process, whatever the number of shards. One that had to be closed is opened again when it is read.
//!
//! Always holds: at most a quarter of the process's limit, and at most [`MOST`], is kept open here (the
//! rest is for checkpoints, logs and sockets); a file that is opened again is the one that was opened
//! first, or an error.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

use crate::{Error, Result, regular};

/// Most files that are kept open.
const MOST: u64 = 256;

/// A file that can be read; open or not. Clones share it.
#[derive(Clone)]
pub(super) struct Opened(Arc<Name>);

struct Name {
    number: u64,
    path: PathBuf,
    identity: Identity,
}

/// What tells a file from another one that took its name: device, inode, length, seconds and nanoseconds
/// of the last change.
#[derive(PartialEq, Eq)]
struct Identity(u64, u64, u64, i64, i64);

/// The open files of the process, each with when it was read last.
#[derive(Default)]
struct Table {
    clock: u64,
    files: HashMap<u64, (Arc<File>, u64)>,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

impl Opened {
    /// Opens a file.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let file = open(&path)?;
        let identity = Identity::of(&file).map_err(Error::io("open", &path))?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        table().keep(number, Arc::new(file));
        Ok(Self(Arc::new(Name { number, path, identity })))
    }

    /// The open file.
    pub(super) fn file(&self) -> io::Result<Arc<File>> {
        if let Some(file) = table().find(self.0.number) {
            return Ok(file);
        }
        // Other readers go on meanwhile; that two of them may open it does no harm.
        let file = open(&self.0.path).map_err(io::Error::other)?;
        if Identity::of(&file)? != self.0.identity {
            let message = "is another file than when it was opened; start again";
            return Err(io::Error::other(format!("{} {message}", self.0.path.display())));
        }
        let file = Arc::new(file);
        table().keep(self.0.number, Arc::clone(&file));
        Ok(file)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        table().files.remove(&self.number);
    }
}

impl Identity {
    fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self(meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    }
}

impl Table {
    fn find(&mut self, number: u64) -> Option<Arc<File>> {
        self.clock += 1;
        let (file, used) = self.files.get_mut(&number)?;
        *used = self.clock;
        Some(Arc::clone(file))
    }

    /// Keeps a file open, and closes those that were not read for longest where there are too many.
    fn keep(&mut self, number: u64, file: Arc<File>) {
        self.clock += 1;
        self.files.insert(number, (file, self.clock));
        while self.files.len() as u64 > most() {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used);
            let Some(number) = oldest.map(|(&number, _)| number) else { return };
            self.files.remove(&number);
        }
    }
}

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Files that may be kept open.
fn most() -> u64 {
    (limit() / 4).clamp(1, MOST)
}

/// Files that the process may have open.
fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(MOST, |(soft, _)| soft)
}

/// Opens a file; where the process or the machine has too many, after closing those kept here.
fn open(path: &Path) -> Result<File> {
    let opened = regular::open(path).or_else(|error| match is_shortage(&error) {
        true => {
            let kept = std::mem::take(&mut table().files);
            drop(kept);
            regular::open(path)
        }
        false => Err(error),
    });
    opened.map(|(file, _)| file).map_err(|error| match is_shortage(&error) {
        true => Error::OpenFiles { path: path.to_owned(), limit: limit() },
        false => Error::io("open", path)(error),
    })
}

/// Whether open files ran out, of the process or of the machine.
fn is_shortage(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_files_are_read_through_few_open_ones() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> = (0..MOST + 100)
            .map(|number| {
                let path = folder.path().join(number.to_string());
                std::fs::write(&path, number.to_le_bytes()).unwrap();
                Opened::open(path).unwrap()
            })
            .collect();
        for _ in 0..2 {
            for (number, file) in files.iter().enumerate() {
                use std::os::unix::fs::FileExt;
                let mut bytes = [0; 8];
                file.file().unwrap().read_exact_at(&mut bytes, 0).unwrap();
                assert_eq!(u64::from_le_bytes(bytes), number as u64);
            }
            assert!(table().files.len() as u64 <= MOST);
        }
        // One that was closed and replaced is not taken for what it was.
        let first = &files[0];
        std::fs::write(folder.path().join("other"), b"other").unwrap();
        std::fs::rename(folder.path().join("other"), folder.path().join("0")).unwrap();
        table().files.remove(&first.0.number);
        let error = first.file().unwrap_err().to_string();
        assert!(error.contains("another file"), "{error}");
    }
}
