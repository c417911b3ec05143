//! A folder on disk: a sub-folder a class (nested ones too, named by their path), or flat. Files are
//! read in the order of their names, folder by folder. Linked folders are not entered.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Ended, Item, Layout, Sink, is_hidden, is_image_name, too_long};
use crate::{Error, Result};

/// Deepest nesting that is entered.
const DEPTH: usize = 64;

pub(super) struct Folder {
    root: PathBuf,
    classes: Vec<String>,
    files: u64,
    bytes: u64,
    max_bytes: u64,
}

impl Folder {
    pub(super) fn open(root: &Path, max_bytes: u64) -> Result<Self> {
        let (mut files, mut bytes) = (0, 0);
        let mut classes = std::collections::BTreeSet::new();
        walk(root, "", DEPTH, &mut |folder, _, path| {
            files += 1;
            bytes += fs::metadata(path).map_or(0, |meta| meta.len());
            if !folder.is_empty() && !classes.contains(folder) {
                classes.insert(folder.to_owned());
            }
            Ok(true)
        })?;
        if files == 0 {
            return Err(Error::source(root, "holds no images"));
        }
        let classes = classes.into_iter().collect();
        Ok(Self { root: root.to_owned(), classes, files, bytes, max_bytes })
    }

    fn content(&self, path: &Path) -> Result<Vec<u8>, String> {
        use std::io::Read;
        let unreadable = |error: std::io::Error| format!("unreadable: {error}");
        let file = fs::File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        if length > self.max_bytes {
            return Err(too_long(length, self.max_bytes));
        }
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(self.max_bytes + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Ok(bytes)
    }
}

impl Layout for Folder {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn found(&self) -> String {
        match self.classes.len() {
            0 => format!("a flat folder of {} images", self.files),
            classes => format!("a folder of {classes} class folders with {} images", self.files),
        }
    }

    fn read(self: Box<Self>, sink: &mut Sink) -> Result<Ended> {
        walk(&self.root, "", DEPTH, &mut |folder, name, path| {
            Ok(sink(Item {
                key: if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") },
                path: name.to_owned(),
                class: self.classes.binary_search_by(|class| class.as_str().cmp(folder)).ok(),
                content: self.content(path),
            }))
        })?;
        Ok(Ended { bytes: self.bytes, sha256: None })
    }
}

/// Visits image files as (folder below the root, name, path); false ends the walk.
fn walk(
    at: &Path,
    below: &str,
    depth: usize,
    visit: &mut dyn FnMut(&str, &str, &Path) -> Result<bool>,
) -> Result<bool> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(at).map_err(Error::io("read folder", at))? {
        let entry = entry.map_err(Error::io("read folder", at))?;
        entries.push((entry.file_name(), entry));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, entry) in entries {
        let path = entry.path();
        let name = name.to_string_lossy();
        let kind = entry.file_type().map_err(Error::io("read folder", at))?;
        let go_on = if is_hidden(&name) {
            true
        } else if kind.is_dir() && depth > 0 {
            let below = if below.is_empty() { name.to_string() } else { format!("{below}/{name}") };
            walk(&path, &below, depth - 1, visit)?
        } else if is_image_name(&name) && (kind.is_file() || kind.is_symlink() && path.is_file()) {
            visit(below, &name, &path)?
        } else {
            true
        };
        if !go_on {
            return Ok(false);
        }
    }
    Ok(true)
}
