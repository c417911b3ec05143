//! What tells a source from another one at the same path: sizes, times, and names. Kept beside the manifest
//! (`ingest.json`) and not in it, so that the same images make the same dataset whenever they were copied.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use storage::{Far, FarFolder, atomic};

use super::layout::directory_digest;
use super::origin::Origin;
use crate::{Error, Result};

/// Folders within folders, at most.
const DEPTH: usize = 64;
/// How often one folder is entered by links, as when it is read.
const TIMES: u32 = 16;

/// Of an archive its length and time, of a zip the digest of its directory too, and of one that is far away its address and ETag too; of a folder
/// digests of the names and sizes of its files, and of their times or ETags. Nothing of their content is
/// read.
///
/// # Errors
/// Where the source cannot be looked at.
pub(super) fn of(source: &Origin) -> Result<Value> {
    match source.far() {
        None => {
            let mut json = of_path(source.name())?;
            let is_file = json.get("names").is_none();
            if let Some(digest) =
                is_file.then(|| directory_digest(&source.packed())).transpose()?.flatten()
            {
                json["directory"] = digest.into();
            }
            Ok(json)
        }
        Some(Far::Folder(folder)) => of_prefix(folder),
        Some(Far::File(file)) => Ok(json!({
            "address": file.name(),
            "bytes": file.length(),
            "etag": file.tag(),
            "modified": file.modified(),
        })),
    }
}

/// A prefix of an object store, as a folder.
fn of_prefix(folder: &FarFolder) -> Result<Value> {
    let mut listing = Listing::default();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        let (mut files, mut deeper) = folder.entries(&below)?;
        let join =
            |name: &str| if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (name, file) in files {
            let changed = file.tag().or(file.modified()).unwrap_or_default();
            listing.file(&join(&name), file.length(), changed);
        }
        deeper.sort_unstable();
        folders.extend(deeper.iter().rev().map(|name| join(name)));
    }
    let mut json = listing.json();
    json["address"] = folder.name().into();
    Ok(json)
}

fn of_path(source: &Path) -> Result<Value> {
    let meta = fs::metadata(source).map_err(Error::io("open", source))?;
    if !meta.is_dir() {
        return Ok(json!({ "bytes": meta.len(), "modified": modified(&meta) }));
    }
    let mut listing = Listing::default();
    let entries = fs::read_dir(source).map_err(Error::io("read folder", source))?;
    listing.folder(entries, "", &mut vec![(meta.dev(), meta.ino())]);
    Ok(listing.json())
}

/// Of a file that is read whole, such as a list of labels: its digest. Of a folder as [`of`].
///
/// # Errors
/// Where it cannot be read.
pub(super) fn of_list(path: &Path) -> Result<Value> {
    let meta = fs::metadata(path).map_err(Error::io("open", path))?;
    if meta.is_dir() {
        of_path(path)
    } else {
        Ok(json!({ "sha256": atomic::sha256_file(path)?.0 }))
    }
}

/// What two descriptions of the same form differ in, by their keys; `sources` by the source's name.
pub(super) fn differences(then: &Value, now: &Value) -> Vec<String> {
    let mut all = Vec::new();
    compare("", then, now, &mut all);
    all
}

/// What is found now, but for what says nothing of the content of a source: the time of a zip whose directory
/// is the same. Of an earlier version, no directory is known.
pub(super) fn settled(then: &Value, mut now: Value) -> Value {
    let sources = now["sources"].as_array_mut().into_iter().flatten();
    for (source, then) in sources.zip(then["sources"].as_array().into_iter().flatten()) {
        let Some(directory) = source.get("directory") else { continue };
        match then.get("directory") {
            Some(same) if same == directory => source["modified"] = then["modified"].clone(),
            Some(_) => {}
            None => {
                source.as_object_mut().map(|source| source.remove("directory"));
            }
        }
    }
    now
}

fn compare(key: &str, then: &Value, now: &Value, all: &mut Vec<String>) {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            let keys = then.keys().chain(now.keys().filter(|key| !then.contains_key(*key)));
            for name in keys {
                let inner = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                let of =
                    |object: &serde_json::Map<_, _>| object.get(name).cloned().unwrap_or_default();
                compare(&inner, &of(then), &of(now), all);
            }
        }
        (Value::Array(then), Value::Array(now)) if then.len() == now.len() && key == "sources" => {
            for (then, now) in then.iter().zip(now) {
                let name = then["name"].as_str().unwrap_or_default();
                compare(&format!("source {name}:"), then, now, all);
            }
        }
        (then, now) if then != now => all.push(difference(key, then, now)),
        _ => {}
    }
}

fn difference(key: &str, then: &Value, now: &Value) -> String {
    let (place, what) = match key.rsplit_once('.') {
        Some((place, what)) => (format!("{place} "), what),
        None => (String::new(), key),
    };
    match what {
        "modified" => format!("{place}changed since"),
        "etag" => format!("{place}other ETag"),
        "directory" => format!("{place}names or content of files changed"),
        "names" => format!("{place}names or sizes of files changed"),
        "sha256" => format!("{place}content changed"),
        "classes" => format!("{place}other classes"),
        _ => format!("{place}{what} was {then}, is {now}"),
    }
}

/// Nanoseconds from 1970 to the last change.
fn modified(meta: &Metadata) -> String {
    format!("{}.{:09}", meta.mtime(), meta.mtime_nsec())
}

#[derive(Default)]
struct Listing {
    files: u64,
    bytes: u64,
    names: Sha256,
    times: Sha256,
    /// How often each folder was entered.
    entered: HashMap<(u64, u64), u32>,
}

impl Listing {
    /// Takes a file in; `changed` becomes another one when its content does.
    fn file(&mut self, name: &str, length: u64, changed: &str) {
        self.files += 1;
        self.bytes += length;
        self.names.update(format!("{name}\0{length}\n"));
        self.times.update(format!("{name}\0{changed}\n"));
    }

    fn json(self) -> Value {
        json!({
            "files": self.files,
            "bytes": self.bytes,
            "names": atomic::hex(&self.names.finalize()),
            "modified": atomic::hex(&self.times.finalize()),
        })
    }

    /// Goes through a folder in the order of names. `above` are the folders that lead here, so that a link
    /// back to one of them ends. What cannot be looked at counts by its name.
    fn folder(&mut self, entries: fs::ReadDir, prefix: &str, above: &mut Vec<(u64, u64)>) {
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort_unstable();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{prefix}{name}");
            match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => {
                    let own = (meta.dev(), meta.ino());
                    self.names.update(format!("{name}/\n"));
                    let times = self.entered.entry(own).or_default();
                    if above.contains(&own) || above.len() >= DEPTH || *times >= TIMES {
                        continue;
                    }
                    *times += 1;
                    if let Ok(entries) = fs::read_dir(&path) {
                        above.push(own);
                        self.folder(entries, &format!("{name}/"), above);
                        above.pop();
                    }
                }
                Ok(meta) => self.file(&name, meta.len(), &modified(&meta)),
                Err(_) => self.names.update(format!("{name}\0\n")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let plan = |bytes: u64, modified: &str, classes: &[&str], limit: Value| {
            json!({
                "classes": classes,
                "options": { "limit": limit },
                "sources": [{ "name": "a.tar", "bytes": bytes, "modified": modified }],
            })
        };
        let then = plan(10, "1.0", &["a"], Value::Null);
        assert!(differences(&then, &then).is_empty());
        assert_eq!(
            differences(&then, &plan(11, "2.0", &["a", "b"], json!(5))),
            [
                "other classes",
                "options limit was null, is 5",
                "source a.tar: bytes was 10, is 11",
                "source a.tar: changed since"
            ]
        );
    }

    #[test]
    fn a_folder_is_its_names_sizes_and_times() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("a")).unwrap();
        fs::create_dir_all(path("b")).unwrap();
        fs::write(path("a/1"), "one").unwrap();
        let first = of_path(folder.path()).unwrap();
        assert_eq!((&first["files"], &first["bytes"]), (&json!(1), &json!(3)));
        // A link back, and folders that each hold two links to the next: 2^40 ways to the last.
        std::os::unix::fs::symlink(folder.path(), path("b/back")).unwrap();
        for level in 0..40 {
            fs::create_dir(path(&format!("level{level}"))).unwrap();
            for link in ["x", "y"] {
                let to = path(&format!("level{}", level + 1));
                std::os::unix::fs::symlink(to, path(&format!("level{level}/{link}"))).unwrap();
            }
        }
        assert_ne!(of_path(folder.path()).unwrap()["names"], first["names"]);
        fs::remove_file(path("b/back")).unwrap();
        (0..40).for_each(|level| fs::remove_dir_all(path(&format!("level{level}"))).unwrap());
        assert_eq!(of_path(folder.path()).unwrap(), first);

        fs::rename(path("a/1"), path("b/1")).unwrap();
        assert_eq!(differences(&first, &of_path(folder.path()).unwrap()).len(), 2, "another class");
        fs::rename(path("b/1"), path("a/1")).unwrap();
        assert_eq!(of_path(folder.path()).unwrap(), first);
        fs::File::open(path("a/1"))
            .unwrap()
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(differences(&first, &of_path(folder.path()).unwrap()), ["changed since"]);
    }
}
