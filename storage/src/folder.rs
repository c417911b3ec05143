//! Small folders of finished files, such as checkpoints, on this machine or in an object store
//! ([`Place`] says which addresses there are).
//!
//! Always holds: the last file makes a folder complete. It is written after all others and removed
//! before them, so that whoever sees it sees the whole folder. It is small; the others may be
//! gigabytes, and go through memory in parts only.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::cache::{self, remove_tree};
use crate::{Error, Place, Result, Store, atomic};

/// The most that the file may have that makes a folder complete.
const MOST: u64 = 64 << 20;

/// Copies the named files of a local folder to a place, in this order: the last one makes it
/// complete there. A complete folder that is there already is made incomplete first.
///
/// # Errors
/// When a file is missing, before anything is changed, or cannot be copied; the place is incomplete
/// then.
pub fn publish(from: &Path, files: &[String], to: &Place) -> Result<()> {
    let store = Store::open(to)?;
    let Some(last) = files.last() else { return Err(store.refused("no files to publish there")) };
    for file in files {
        plain(file)?;
        let path = from.join(file);
        let meta = fs::metadata(&path).map_err(Error::io("publish", &path))?;
        if !meta.is_file() {
            return Err(store.refused(format!("{} is no file to publish there", path.display())));
        }
    }
    let same = |folder: &Path| Some(folder.canonicalize().ok()? == from.canonicalize().ok()?);
    if store.folder().and_then(same) == Some(true) {
        return Ok(());
    }
    store.remove(last)?;
    files.iter().try_for_each(|file| store.copy(&from.join(file), file))
}

/// The local folder with the files of a complete one: itself where it is local, otherwise
/// `into/DIGEST` (16 hexadecimal digits of the address's SHA-256). Only what is not there already
/// is downloaded: a cached folder is good while its last file is as the remote one. Of several
/// processes that fetch a folder one downloads it. What is given counts as used now
/// ([`crate::cache`]).
///
/// # Errors
/// When the folder is not complete, or changes meanwhile, or cannot be read; when the cache
/// cannot be written, which is then without the folder or as before.
pub fn fetch(place: &Place, last: &str, into: &Path) -> Result<PathBuf> {
    plain(last)?;
    let store = Store::open(place)?;
    let failed =
        |message: String| Error::Store { doing: "fetch", place: place.to_string(), message };
    let seal = store.read(last, MOST)?.ok_or_else(|| match store.folder() {
        Some(folder) if !folder.exists() => failed("there is no such folder".to_owned()),
        _ => failed(format!("the folder is not complete: there is no {last} in it")),
    })?;
    if let Some(folder) = store.folder() {
        return Ok(folder.to_owned());
    }

    fs::create_dir_all(into).map_err(Error::io("create folder", into))?;
    let name = &atomic::sha256(place.to_string().as_bytes())[..16];
    let lock = into.join(cache::lock(name));
    // Held until the end of this function, or of the process.
    let held = File::create(&lock).map_err(Error::io("create", &lock))?;
    held.lock().map_err(Error::io("lock", &lock))?;

    let folder = into.join(name);
    if fs::read(folder.join(last)).is_ok_and(|cached| cached == seal) {
        cache::touch(&folder);
        tracing::debug!(copy = %folder.display(), "a folder is in the cache already");
        return Ok(folder);
    }
    let beside = into.join(cache::part(name));
    remove_tree(&beside)?;
    let downloaded = download(&store, last, &seal, &beside).and_then(|unchanged| {
        if unchanged {
            replace(&beside, &folder)
        } else {
            Err(failed("the folder was changed while it was fetched; fetch it again".into()))
        }
    });
    if let Err(error) = downloaded {
        let _ = fs::remove_dir_all(&beside);
        return Err(error);
    }
    tracing::debug!(copy = %folder.display(), "a folder was fetched into the cache");
    Ok(folder)
}

/// Removes a folder that was published with this last file, by its SHA-256; that it is gone already is no error. What a
/// removal that was killed has left is removed too.
///
/// # Errors
/// When the place holds anything but plain files, or has another last file: such a folder was never published so,
/// and nothing of it is removed.
pub fn remove(place: &Place, last: &str, sha256: &str) -> Result<()> {
    plain(last)?;
    let store = Store::open(place)?;
    let files = only_files(&store)?;
    match store.read(last, MOST)? {
        Some(text) if atomic::sha256(&text) == sha256 => {}
        Some(_) => {
            let message = format!("has another {last} than the one that is known: not removed");
            return Err(store.refused(message));
        }
        // Of a store the last file goes first: what is left of a removal that was killed is without it.
        None if files.is_empty() || store.folder().is_none() => {}
        None => return Err(store.refused(format!("has no {last}: not removed"))),
    }
    discard(place, last)
}

/// As [`remove`], of a folder that this process has published itself, wholly or in part.
///
/// # Errors
/// When the place holds anything but plain files.
pub fn discard(place: &Place, last: &str) -> Result<()> {
    plain(last)?;
    let store = Store::open(place)?;
    let files = only_files(&store)?;
    let Some(folder) = store.folder() else {
        store.remove(last)?;
        return files.iter().try_for_each(|file| store.remove(file));
    };

    // Hidden, so that nobody takes it for a folder of the place.
    let name = folder.file_name().ok_or_else(|| store.refused(NOT_PLAIN))?.to_string_lossy();
    let away = folder.with_file_name(format!(".{name}.removed"));
    remove_tree(&away)?;
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", folder)(error)),
        Ok(meta) if !meta.is_dir() => return Err(store.refused(NOT_PLAIN)),
        Ok(_) => atomic::rename(folder, &away)?,
    }
    remove_tree(&away)
}

const NOT_PLAIN: &str = "is no folder of plain files: not removed";

fn only_files(store: &Store) -> Result<Vec<String>> {
    store.only_files()?.ok_or_else(|| store.refused(NOT_PLAIN))
}

/// Downloads all files into a new folder, the last one last; false where it is no longer `seal`.
fn download(store: &Store, last: &str, seal: &Bytes, into: &Path) -> Result<bool> {
    fs::create_dir_all(into).map_err(Error::io("create folder", into))?;
    for (file, length) in store.list("")? {
        if file != last {
            plain(&file)?;
            store.fetch(&file, length, &into.join(&file))?;
        }
    }
    if store.read(last, MOST)?.as_ref() != Some(seal) {
        return Ok(false);
    }
    atomic::write(&into.join(last), seal)?;
    Ok(true)
}

/// Puts a finished folder in the place of an older one.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let old = to.with_extension("old");
    remove_tree(&old)?;
    match fs::rename(to, &old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("rename", to)(error));
        }
        _ => atomic::rename(from, to)?,
    }
    remove_tree(&old)
}

/// Refuses what is no name of a file directly in a folder.
fn plain(file: &str) -> Result<()> {
    if file.is_empty() || file == "." || file == ".." || file.contains(['/', '\\']) {
        let message = "is no name of a file; give one without folders".to_owned();
        return Err(Error::Refused { place: format!("`{file}`"), message });
    }
    Ok(())
}
