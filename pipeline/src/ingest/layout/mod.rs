//! Source layouts: how an archive or a folder is read as a stream of (key, class, bytes). One file
//! each; an archive is never unpacked, and an unpacked archive gives the same images.
//!
//! Most layouts only tell what a name stands for (`named.rs`) in a source of named files (`files.rs`),
//! which an archive and a folder both are. A new layout is a file, a variant of [`LayoutKind`] and a
//! line in [`open`]; where its names are unlike others', a line in `recognize.rs`.
//!
//! Always holds: which items a source gives and in which order is a function of the source alone; keys
//! are unique in it.

mod archive;
mod classes;
mod files;
mod folder;
mod formats;
mod gzip;
mod imagenet_train;
mod imagenet_val;
mod labels;
mod listing;
mod mat;
mod member;
mod named;
mod names;
mod others;
mod parquet;
mod pkzip;
mod places365;
mod recognize;
mod splits;
mod tape;
#[cfg(test)]
mod tests;
mod webdataset;
mod zst;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::origin::Origin;
use crate::{Error, Result};
pub(crate) use classes::{ClassList, union};
use files::Files;
pub(super) use names::escaped;
pub(super) use pkzip::directory_digest;

/// The layouts that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutKind {
    /// A tar of one tar a class, as `ILSVRC2012_img_train.tar`.
    ImagenetTrain,
    /// A flat tar of `ILSVRC2012_val_*.JPEG`, with a list of labels or the devkit beside.
    ImagenetVal,
    /// The archives of Places365: train by class folders or a tar a letter, val, test.
    Places365,
    /// A folder, or a tar of one: a sub-folder a class, or flat.
    Folder,
    /// Tars whose members of one name, `000001.jpg` and `000001.cls`, are a sample.
    WebDataset,
    /// Parquet files with images, after the convention of Hugging Face `datasets`.
    Parquet,
}

impl LayoutKind {
    /// All layouts, in the order in which they are listed for users.
    pub const ALL: [Self; 6] = [
        Self::ImagenetTrain,
        Self::ImagenetVal,
        Self::Places365,
        Self::Folder,
        Self::WebDataset,
        Self::Parquet,
    ];

    /// The name as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ImagenetTrain => "imagenet-train",
            Self::ImagenetVal => "imagenet-val",
            Self::Places365 => "places365",
            Self::Folder => "folder",
            Self::WebDataset => "webdataset",
            Self::Parquet => "parquet",
        }
    }

    /// True where `--labels` says something of the layout's images.
    pub fn takes_labels(self) -> bool {
        matches!(self, Self::ImagenetVal | Self::Places365)
    }

    /// Tells the layout of a source, archive or folder, from the names in it.
    ///
    /// # Errors
    /// When the source cannot be read, is none of the layouts, or could be several.
    pub fn recognize(source: &Path) -> Result<Self> {
        recognize::recognize(&Origin::local(source), None)
    }
}

impl fmt::Display for LayoutKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for LayoutKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let allowed = format!("auto, {}", Self::ALL.map(Self::name).join(", "));
            Error::config("--layout", format!("`{text}`"), allowed)
        })
    }
}

/// What a user says about the sources besides their layout.
#[derive(Clone, Debug)]
pub(crate) struct SourceOptions {
    /// Labels of images that have none in their names: a list, or the devkit of ImageNet.
    pub(crate) labels: Option<PathBuf>,
    /// Names of the classes in the order of their labels; found ones must be among them.
    pub(crate) classes: Option<ClassList>,
    /// The split that is wanted of a source that has several.
    pub(crate) split: Option<String>,
    /// The column of parquet files that holds the labels.
    pub(crate) label_column: Option<String>,
    /// The folder of which files are taken, where there are several splits.
    pub(crate) split_folder: Option<String>,
    /// Longest image file that is read.
    pub(crate) max_bytes: u64,
}

/// One file of a source.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    /// Name that is unique in the source.
    pub(crate) key: String,
    /// File name alone.
    pub(crate) path: String,
    /// Index into the layout's classes.
    pub(crate) class: Option<usize>,
    /// The file's bytes, or why they were not read.
    pub(crate) content: Result<Vec<u8>, String>,
}

impl Item {
    /// A file that is passed over, by its name or since it cannot be read, so that it is listed.
    fn passed_over(member: member::Member) -> Result<Self> {
        let key = member.name.to_owned();
        let path = names::file_name(&key).to_owned();
        let reason = match member.body {
            member::Body::Skipped(reason) => reason,
            member::Body::Link(target) => {
                format!("passed over: a link to {target}; pack it with `tar --dereference`")
            }
            _ => names::passed_over(&key),
        };
        Ok(Self { key, path, class: None, content: Err(reason) })
    }
}

/// What is known of a source after it was read to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Length of the archive; of a folder, the sum of its files that were read.
    pub(crate) bytes: u64,
    /// SHA-256 of the archive; none for a folder, for parquet and for a reading that was stopped.
    pub(crate) sha256: Option<String>,
    /// What came to light as it was read, a line each.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
}

/// Takes items; false asks to stop.
pub(crate) type Sink<'a> = dyn FnMut(Item) -> bool + 'a;

/// Metadata of a source: what is known of it before it is read.
pub(crate) struct SourceMetadata {
    bytes: u64,
    found: String,
    split: &'static str,
    published: Option<u64>,
    official: bool,
}

/// A source that was opened and whose classes are known.
pub(crate) trait Layout: Send {
    /// Names of the classes, index = label; empty where there are none.
    fn classes(&self) -> &[String];

    /// The source's metadata.
    fn metadata(&self) -> &SourceMetadata;

    /// Bytes that reading goes through, for progress.
    fn bytes(&self) -> u64 {
        self.metadata().bytes
    }

    /// In a few words what was found, such as `a tar of 300 class archives`.
    fn found(&self) -> String {
        self.metadata().found.clone()
    }

    /// What else a user should know of the source, a line each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the source stands for: `train`, `val` or `test`.
    fn split(&self) -> &'static str {
        self.metadata().split
    }

    /// Images that the publisher says the archive has; none where nothing is published.
    fn published(&self) -> Option<u64> {
        self.metadata().published
    }

    /// True for archives whose published counts include their duplicates.
    fn is_official(&self) -> bool {
        self.metadata().official
    }

    /// Reads once, in order. The first `from` items are passed over: not handed to the sink and not
    /// read into memory; their bytes still count for the archive's digest.
    fn read(self: Box<Self>, from: u64, sink: &mut Sink) -> Result<Ended>;
}

/// Tells the layout of a source, or of its files below the folder of a split.
pub(super) fn recognize(source: &Origin, split_folder: Option<&str>) -> Result<LayoutKind> {
    source.told(recognize::recognize(source, split_folder))
}

/// Opens a source as the given layout.
pub(super) fn open(
    kind: LayoutKind,
    source: &Origin,
    options: &SourceOptions,
) -> Result<Box<dyn Layout>> {
    source.told(open_as(kind, source, options))
}

fn open_as(kind: LayoutKind, source: &Origin, options: &SourceOptions) -> Result<Box<dyn Layout>> {
    if kind == LayoutKind::Parquet {
        return Ok(Box::new(parquet::Parquet::open(source, options)?));
    }
    let files = Files::open(source, options.split_folder.as_deref())?;
    Ok(match kind {
        LayoutKind::ImagenetTrain => Box::new(imagenet_train::open(files, options)?),
        LayoutKind::ImagenetVal => Box::new(imagenet_val::open(files, options)?),
        LayoutKind::Places365 => Box::new(places365::open(files, options)?),
        LayoutKind::WebDataset => Box::new(webdataset::WebDataset::open(files, options)?),
        LayoutKind::Folder | LayoutKind::Parquet => Box::new(folder::open(files, options)?),
    })
}
