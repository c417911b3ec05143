//! `ILSVRC2012_img_val.tar`: a flat tar of `ILSVRC2012_val_00000001.JPEG` and so on. Labels come from
//! a list with one synset a line, line n for file number n (the number in the name, so that a part of
//! the archive is labelled right too). The class index is the place in the sorted synsets.

use std::path::{Path, PathBuf};

use super::{Ended, Item, Layout, Sink, file_name, tar_stream};
use crate::{Error, Result};

/// Longest list of labels that is read.
const MAX_LABELS: u64 = 64 << 20;

pub(super) struct ImagenetVal {
    path: PathBuf,
    classes: Vec<String>,
    /// Class of file number n at n - 1; none without a list.
    labels: Option<Vec<usize>>,
    bytes: u64,
    max_bytes: u64,
}

/// The number in a file's name.
pub(super) fn number_of(name: &str) -> Option<usize> {
    let name = file_name(name);
    let digits = name.strip_prefix("ILSVRC2012_val_")?.split_once('.')?.0;
    (digits.len() == 8).then(|| digits.parse().ok())?
}

impl ImagenetVal {
    pub(super) fn open(path: &Path, labels: Option<&Path>, max_bytes: u64) -> Result<Self> {
        let mut last = 0;
        let bytes = tar_stream::scan(path, |name, _| {
            last = last.max(number_of(name).unwrap_or(0));
            true
        })?;
        if last == 0 {
            let message = "holds no ILSVRC2012_val_*.JPEG; try --layout auto";
            return Err(Error::source(path, message));
        }
        let (classes, labels) = match labels {
            None => (Vec::new(), None),
            Some(list) => {
                let (classes, labels) = read_labels(list)?;
                if labels.len() < last {
                    let message = format!(
                        "has {} labels, the archive has file number {last}; give the list with \
                         one synset a line for all 50000 files",
                        labels.len()
                    );
                    return Err(Error::source(list, message));
                }
                (classes, Some(labels))
            }
        };
        Ok(Self { path: path.to_owned(), classes, labels, bytes, max_bytes })
    }
}

fn read_labels(list: &Path) -> Result<(Vec<String>, Vec<usize>)> {
    let length = std::fs::metadata(list).map_err(Error::io("open", list))?.len();
    if length > MAX_LABELS {
        return Err(Error::source(list, "is too long for a list of labels"));
    }
    let text = std::fs::read_to_string(list).map_err(Error::io("read", list))?;
    let names: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if let Some(line) = names.iter().position(|name| name.contains(char::is_whitespace)) {
        let message = format!("line {}: one synset a line is expected", line + 1);
        return Err(Error::source(list, message));
    }
    let mut classes: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    classes.sort_unstable();
    classes.dedup();
    let index = |name: &&str| classes.binary_search_by(|class| class.as_str().cmp(name)).ok();
    let labels = names.iter().filter_map(index).collect();
    Ok((classes, labels))
}

impl Layout for ImagenetVal {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn found(&self) -> String {
        match self.labels {
            Some(_) => format!("a flat tar with labels of {} classes", self.classes.len()),
            None => "a flat tar, without labels (give --labels FILE for them)".into(),
        }
    }

    fn read(self: Box<Self>, sink: &mut Sink) -> Result<Ended> {
        let path = &self.path;
        let mut archive = tar_stream::open(path)?;
        let mut whole = true;
        for entry in archive.entries().map_err(tar_stream::broken(path))? {
            let mut entry = entry.map_err(tar_stream::broken(path))?;
            let name = tar_stream::name(&entry);
            let Some(number) = number_of(&name) else { continue };
            let labels = self.labels.as_deref();
            let item = Item {
                key: file_name(&name).to_owned(),
                path: file_name(&name).to_owned(),
                class: labels.and_then(|labels| labels.get(number.checked_sub(1)?).copied()),
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
