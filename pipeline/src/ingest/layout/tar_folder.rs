//! A tar of a folder: a sub-folder a class, or flat. Classes are the folders of the images, in sorted
//! order, without the leading folders that all of them share; in a flat archive there are none.

use std::path::{Path, PathBuf};

use super::{Ended, Item, Layout, Sink, file_name, is_image_name, tar_stream};
use crate::{Error, Result};

pub(super) struct TarFolder {
    path: PathBuf,
    /// What the names of all images begin with; ends in `/` unless empty.
    prefix: String,
    classes: Vec<String>,
    files: u64,
    bytes: u64,
    max_bytes: u64,
}

impl TarFolder {
    pub(super) fn open(path: &Path, max_bytes: u64) -> Result<Self> {
        let mut folders = std::collections::BTreeSet::new();
        let mut files = 0;
        let bytes = tar_stream::scan(path, |name, _| {
            if is_image_name(name) {
                files += 1;
                let folder = parent(name);
                if !folders.contains(folder) {
                    folders.insert(folder.to_owned());
                }
            }
            true
        })?;
        if files == 0 {
            return Err(Error::source(path, "holds no images"));
        }
        let prefix = shared(folders.iter().map(String::as_str));
        let classes: Vec<_> = folders
            .iter()
            .filter_map(|folder| folder.strip_prefix(&prefix))
            .map(|class| class.trim_end_matches('/').to_owned())
            .filter(|class| !class.is_empty())
            .collect();
        Ok(Self { path: path.to_owned(), prefix, classes, files, bytes, max_bytes })
    }
}

/// The folder of a name, with its trailing `/`; empty where there is none.
fn parent(name: &str) -> &str {
    &name[..name.len() - file_name(name).len()]
}

/// The leading folders that all folders share.
fn shared<'a>(mut folders: impl Iterator<Item = &'a str>) -> String {
    let first = folders.next().unwrap_or_default();
    let mut common: Vec<&str> = first.split_inclusive('/').collect();
    for folder in folders {
        let same = common.iter().zip(folder.split_inclusive('/')).take_while(|(a, b)| *a == b);
        common.truncate(same.count());
    }
    common.concat()
}

impl Layout for TarFolder {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn found(&self) -> String {
        match self.classes.len() {
            0 => format!("a flat tar of {} images", self.files),
            classes => format!("a tar of {classes} class folders with {} images", self.files),
        }
    }

    fn read(self: Box<Self>, sink: &mut Sink) -> Result<Ended> {
        let path = &self.path;
        let mut archive = tar_stream::open(path)?;
        let mut whole = true;
        for entry in archive.entries().map_err(tar_stream::broken(path))? {
            let mut entry = entry.map_err(tar_stream::broken(path))?;
            let name = tar_stream::name(&entry);
            if !entry.header().entry_type().is_file() || !is_image_name(&name) {
                continue;
            }
            let key = name.strip_prefix(&self.prefix).unwrap_or(&name);
            let class = parent(key).trim_end_matches('/');
            let item = Item {
                class: self.classes.binary_search_by(|name| name.as_str().cmp(class)).ok(),
                path: file_name(key).to_owned(),
                key: key.to_owned(),
                content: tar_stream::content(path, &mut entry, self.max_bytes)?,
            };
            whole = sink(item);
            if !whole {
                break;
            }
        }
        tar_stream::finish(path, archive, whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_folders_are_no_classes() {
        assert_eq!(shared(["val/a/", "val/b/c/"].into_iter()), "val/");
        assert_eq!(shared(["val_256/"].into_iter()), "val_256/");
        assert_eq!(shared(["a/", "b/"].into_iter()), "");
        assert_eq!(parent("a/b.jpg"), "a/");
        assert_eq!(parent("b.jpg"), "");
    }
}
