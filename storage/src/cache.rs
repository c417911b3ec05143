//! The folder of copies that [`crate::folder::fetch`] keeps: what lies in it, and how a copy is let go.
//!
//! A copy is the folder `DIGEST`; `DIGEST.part` and `DIGEST.old` are what a fetch that was killed has
//! left. `DIGEST.lock` is held by whoever changes any of them, and stays: a lock whose file may
//! vanish under its holder protects nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{Error, Result};

/// A copy of a folder of an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The digits that it goes by.
    pub name: String,
    /// Bytes of its files, and of what a fetch that was killed has left of it.
    pub bytes: u64,
    /// When it was fetched or given for the last time.
    pub used: SystemTime,
    /// A process is fetching it, or letting it go.
    pub busy: bool,
}

/// The copies in a cache, by name. Nothing is changed.
///
/// # Errors
/// When the folder cannot be read.
pub fn copies(cache: &Path) -> Result<Vec<Copy>> {
    let failed = || Error::io("read folder", cache);
    let entries = match fs::read_dir(cache) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed()(error)),
    };
    let mut copies: BTreeMap<String, Copy> = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(failed())?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let name = file.split('.').next().unwrap_or_default();
        let ours = [name.to_owned(), part(name), old(name)].contains(&file) && is_name(name);
        // Follows no links; what vanished meanwhile is no copy any more.
        let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
        if !ours || !meta.is_dir() {
            continue;
        }
        let used = meta.modified().map_err(Error::io("read", entry.path()))?;
        let copy = copies.entry(name.to_owned()).or_insert_with(|| Copy {
            name: name.to_owned(),
            bytes: 0,
            used,
            busy: is_held(&cache.join(lock(name))),
        });
        copy.bytes += bytes(&entry.path());
        copy.used = copy.used.max(used);
    }
    Ok(copies.into_values().collect())
}

/// Removes a copy and what was left of it, unless a process is fetching it or letting it go: false
/// then. Whoever wants it again fetches it again.
///
/// # Errors
/// When the cache cannot be written.
pub fn discard(cache: &Path, name: &str) -> Result<bool> {
    if !is_name(name) {
        let message = "is no name of a copy".to_owned();
        return Err(Error::Refused { place: cache.join(name).display().to_string(), message });
    }
    let path = cache.join(lock(name));
    // Held until the end of this function, or of the process.
    let held = File::create(&path).map_err(Error::io("create", &path))?;
    match held.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
    }
    let (copy, unfinished) = (cache.join(name), cache.join(part(name)));
    remove_tree(&cache.join(old(name)))?;
    remove_tree(&unfinished)?;
    // Half of a copy could be taken for the whole; under this name a fetch begins anew.
    match fs::rename(&copy, &unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Error::io("rename", &copy)(error));
        }
        _ => remove_tree(&unfinished)?,
    }
    Ok(true)
}

pub(crate) fn lock(name: &str) -> String {
    format!("{name}.lock")
}

pub(crate) fn part(name: &str) -> String {
    format!("{name}.part")
}

pub(crate) fn old(name: &str) -> String {
    format!("{name}.old")
}

/// Notes that a copy was given to somebody. In vain where the cache is another user's: then it
/// counts as used when it was fetched.
pub(crate) fn touch(copy: &Path) {
    let _ = File::open(copy).and_then(|folder| folder.set_modified(SystemTime::now()));
}

pub(crate) fn remove_tree(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::io("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

fn is_name(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn is_held(lock: &Path) -> bool {
    File::open(lock)
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Lengths of the files of a folder, which has no folders.
fn bytes(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = files.map(|file| file.path());
    let length = |path: PathBuf| Some(fs::symlink_metadata(path).ok()?.len());
    paths.filter_map(length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "0123456789abcdef";

    fn folder(at: &Path, file: &str) {
        fs::create_dir_all(at).unwrap();
        fs::write(at.join(file), b"1234").unwrap();
    }

    #[test]
    fn copies_are_listed_with_what_was_left_of_them_and_let_go_but_for_their_lock() {
        let cache = tempfile::tempdir().unwrap();
        let cache = cache.path();
        assert_eq!(copies(&cache.join("nothing")).unwrap(), []);
        for name in [NAME, &part(NAME), &old(NAME), &part("fedcba9876543210"), "other", "a.part"] {
            folder(&cache.join(name), "state");
        }
        fs::write(cache.join("0000000000000000"), b"no folder").unwrap();
        let listed = copies(cache).unwrap();
        let sizes: Vec<_> =
            listed.iter().map(|copy| (copy.name.as_str(), copy.bytes, copy.busy)).collect();
        assert_eq!(sizes, [(NAME, 12, false), ("fedcba9876543210", 4, false)]);

        let used = listed[0].used;
        touch(&cache.join(NAME));
        assert!(copies(cache).unwrap()[0].used > used);

        let lock = File::create(cache.join(lock(NAME))).unwrap();
        lock.lock().unwrap();
        assert!(copies(cache).unwrap()[0].busy);
        assert!(!discard(cache, NAME).unwrap());
        assert!(cache.join(NAME).join("state").exists());
        lock.unlock().unwrap();
        assert!(discard(cache, NAME).unwrap());
        assert!(discard(cache, "fedcba9876543210").unwrap());
        assert!(discard(cache, NAME).unwrap(), "gone already");
        assert_eq!(copies(cache).unwrap(), []);
        assert!(cache.join("other/state").exists() && cache.join("0000000000000000").exists());
        assert!(discard(cache, "../x").unwrap_err().to_string().contains("no name of a copy"));
    }
}
