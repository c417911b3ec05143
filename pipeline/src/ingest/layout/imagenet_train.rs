//! `ILSVRC2012_img_train.tar`: a tar of one tar a class, `n01440764.tar`. Both levels are streamed.
//! The class index is the place in the sorted list of synsets.

use std::path::{Path, PathBuf};

use super::{Ended, Item, Layout, Sink, file_name, is_hidden, tar_stream};
use crate::{Error, Result};

pub(super) struct ImagenetTrain {
    path: PathBuf,
    classes: Vec<String>,
    bytes: u64,
    max_bytes: u64,
}

/// The synset of a class archive's name.
pub(super) fn class_of(name: &str) -> Option<&str> {
    let class = file_name(name).strip_suffix(".tar")?;
    let digits = class.strip_prefix('n')?;
    (digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(class)
}

impl ImagenetTrain {
    pub(super) fn open(path: &Path, max_bytes: u64) -> Result<Self> {
        let mut classes = Vec::new();
        let bytes = tar_stream::scan(path, |name, _| {
            classes.extend(class_of(name).map(str::to_owned));
            true
        })?;
        classes.sort_unstable();
        classes.dedup();
        if classes.is_empty() {
            let message = "holds no class archives such as n01440764.tar; try --layout auto";
            return Err(Error::source(path, message));
        }
        Ok(Self { path: path.to_owned(), classes, bytes, max_bytes })
    }
}

impl Layout for ImagenetTrain {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn found(&self) -> String {
        format!("a tar of {} class archives", self.classes.len())
    }

    fn read(self: Box<Self>, sink: &mut Sink) -> Result<Ended> {
        let path = &self.path;
        let mut archive = tar_stream::open(path)?;
        let mut whole = true;
        for entry in archive.entries().map_err(tar_stream::broken(path))? {
            let mut entry = entry.map_err(tar_stream::broken(path))?;
            let name = tar_stream::name(&entry);
            let Some(class) = class_of(&name) else { continue };
            whole = self.class(class, &mut entry, sink)?;
            if !whole {
                break;
            }
        }
        tar_stream::finish(path, archive, whole)
    }
}

impl ImagenetTrain {
    /// Reads the archive of one class; false where the sink asked to stop.
    fn class(&self, class: &str, tar: &mut impl std::io::Read, sink: &mut Sink) -> Result<bool> {
        let index = self.classes.binary_search_by(|name| name.as_str().cmp(class)).ok();
        let mut inner = tar::Archive::new(tar);
        for image in inner.entries().map_err(tar_stream::broken(&self.path))? {
            let mut image = image.map_err(tar_stream::broken(&self.path))?;
            let name = tar_stream::name(&image);
            if !image.header().entry_type().is_file() || is_hidden(&name) {
                continue;
            }
            let item = Item {
                key: format!("{class}/{}", file_name(&name)),
                path: file_name(&name).to_owned(),
                class: index,
                content: tar_stream::content(&self.path, &mut image, self.max_bytes)?,
            };
            if !sink(item) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
