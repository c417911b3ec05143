//! Source layouts: how an archive or a folder is read as a stream of (key, class, bytes). One file
//! each; an archive is never unpacked. A new layout is a file, a variant of [`LayoutKind`] and a line
//! in [`open`].

mod folder;
mod imagenet_train;
mod imagenet_val;
mod tar_folder;
mod tar_stream;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The layouts that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutKind {
    /// A tar of one tar a class, as `ILSVRC2012_img_train.tar`.
    ImagenetTrain,
    /// A flat tar of `ILSVRC2012_val_*.JPEG`, with a list of labels beside.
    ImagenetVal,
    /// A folder, or a tar of one: a sub-folder a class, or flat.
    Folder,
}

impl LayoutKind {
    /// All layouts.
    pub const ALL: [Self; 3] = [Self::ImagenetTrain, Self::ImagenetVal, Self::Folder];

    /// The name as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ImagenetTrain => "imagenet-train",
            Self::ImagenetVal => "imagenet-val",
            Self::Folder => "folder",
        }
    }

    /// True for archives whose published counts include their duplicates.
    pub fn is_official(self) -> bool {
        matches!(self, Self::ImagenetTrain | Self::ImagenetVal)
    }

    /// The split that the layout stands for.
    pub fn split(self) -> &'static str {
        match self {
            Self::ImagenetTrain | Self::Folder => "train",
            Self::ImagenetVal => "val",
        }
    }

    /// Tells the layout of a source from its names.
    ///
    /// # Errors
    /// When the source cannot be read or is none of the layouts.
    pub fn recognize(source: &Path) -> Result<Self> {
        let meta = std::fs::metadata(source).map_err(Error::io("open", source))?;
        if meta.is_dir() {
            return Ok(Self::Folder);
        }
        let names = tar_stream::first_names(source)?;
        let all = |test: fn(&str) -> bool| !names.is_empty() && names.iter().all(|n| test(n));
        if all(|name| imagenet_train::class_of(name).is_some()) {
            Ok(Self::ImagenetTrain)
        } else if all(|name| imagenet_val::number_of(name).is_some()) {
            Ok(Self::ImagenetVal)
        } else if names.iter().any(|name| is_image_name(name)) {
            Ok(Self::Folder)
        } else {
            Err(Error::source(source, "holds no images that are recognized; name its --layout"))
        }
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
            let allowed = "auto, imagenet-train, imagenet-val or folder";
            Error::config("--layout", format!("`{text}`"), allowed)
        })
    }
}

/// One file of a source.
#[derive(Debug)]
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

/// What is known of a source after it was read to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Length of the archive; of a folder, the sum of its image files.
    pub(crate) bytes: u64,
    /// SHA-256 of the archive; none for a folder and for a reading that was stopped.
    pub(crate) sha256: Option<String>,
}

/// Takes items; false asks to stop.
pub(crate) type Sink<'a> = dyn FnMut(Item) -> bool + 'a;

/// A source that was opened and whose classes are known.
pub(crate) trait Layout: Send {
    /// Names of the classes in sorted order; empty where there are none.
    fn classes(&self) -> &[String];
    /// Bytes that reading goes through, for progress.
    fn bytes(&self) -> u64;
    /// In a few words what was found, such as `300 class archives`.
    fn found(&self) -> String;
    /// Images that the publisher says it has.
    fn published(&self) -> Option<u64> {
        None
    }
    /// Reads everything once, in order.
    fn read(self: Box<Self>, sink: &mut Sink) -> Result<Ended>;
}

/// Opens a source as the given layout.
pub(crate) fn open(
    kind: LayoutKind,
    source: &Path,
    labels: Option<&Path>,
    max_bytes: u64,
) -> Result<Box<dyn Layout>> {
    let meta = std::fs::metadata(source).map_err(Error::io("open", source))?;
    let archive = || -> Result<PathBuf> {
        if meta.is_dir() {
            let message =
                format!("is a folder, {kind} is an archive; name the .tar, or --layout folder");
            return Err(Error::source(source, message));
        }
        Ok(source.to_owned())
    };
    Ok(match kind {
        LayoutKind::ImagenetTrain => {
            Box::new(imagenet_train::ImagenetTrain::open(&archive()?, max_bytes)?)
        }
        LayoutKind::ImagenetVal => {
            Box::new(imagenet_val::ImagenetVal::open(&archive()?, labels, max_bytes)?)
        }
        LayoutKind::Folder if meta.is_dir() => Box::new(folder::Folder::open(source, max_bytes)?),
        LayoutKind::Folder => Box::new(tar_folder::TarFolder::open(source, max_bytes)?),
    })
}

/// True for names of files that may be images; what they are is told by their bytes later.
fn is_image_name(name: &str) -> bool {
    let Some((_, ending)) = name.rsplit_once('.') else { return false };
    let known = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];
    !is_hidden(name) && known.iter().any(|known| known.eq_ignore_ascii_case(ending))
}

/// Leftovers of file managers and the like (`._x.jpg`, `.thumbnails/x.jpg`).
fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') && part != "." && part != "..")
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Says why a file is passed over unread.
fn too_long(bytes: u64, max_bytes: u64) -> String {
    format!("too many bytes: {bytes}, at most {max_bytes}")
}
