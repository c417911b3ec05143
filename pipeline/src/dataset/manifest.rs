//! `manifest.json`: what a dataset is. It is written last; a folder without it is no dataset.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, atomic};

/// The manifest's file in a dataset's folder.
pub const MANIFEST: &str = "manifest.json";
/// What the field `format` of a manifest of photographs says.
pub const FORMAT: &str = "palette-images";
const VERSION: u32 = 1;
/// Largest manifest that is read.
const MAX_BYTES: u64 = 256 << 20;

/// Contents of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Kind of dataset, `palette-images`.
    pub format: String,
    /// Version of the kind.
    pub version: u32,
    /// Name of the dataset.
    pub name: String,
    /// Split, such as `train`.
    pub split: String,
    /// Images in all shards.
    pub rows: u64,
    /// Names of the classes, index = label; empty where there are no labels.
    pub classes: Vec<String>,
    /// Shards in order.
    pub shards: Vec<ShardEntry>,
    /// Archives and folders that it was made from.
    pub sources: Vec<SourceEntry>,
    /// How it was ingested.
    pub options: serde_json::Value,
    /// What became of the files of the sources.
    pub counts: Counts,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// File below the dataset's folder.
    pub file: String,
    /// Images in it.
    pub rows: u64,
    /// Length of the file.
    pub bytes: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

/// One archive or folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceEntry {
    /// File or folder name, without the path to it.
    pub name: String,
    /// What it was taken for, such as `imagenet-train`.
    pub layout: String,
    /// Length of the archive; of a folder, the sum of its image files.
    pub bytes: u64,
    /// SHA-256 of the archive; of a folder, of the lines "sha256  path" of its image files. Absent
    /// where `--limit` ended the reading early.
    pub sha256: Option<String>,
}

/// What became of the files of the sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Stored images, kept duplicates among them.
    pub accepted: u64,
    /// Files that are no usable image.
    pub rejected: u64,
    /// Images with the very bytes of an earlier one, kept or skipped.
    pub duplicates: u64,
    /// The duplicates among them that were skipped.
    pub duplicates_skipped: u64,
    /// Images on the other side of the cut, where one was asked for.
    #[serde(default)]
    pub left_out: u64,
}

impl Manifest {
    /// A manifest of this version without shards yet.
    pub fn new(name: &str, split: &str) -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            name: name.into(),
            split: split.into(),
            rows: 0,
            classes: Vec::new(),
            shards: Vec::new(),
            sources: Vec::new(),
            options: serde_json::Value::Null,
            counts: Counts::default(),
        }
    }

    /// Reads the manifest of a folder; also tells the SHA-256 of its bytes.
    ///
    /// # Errors
    /// Where there is none, or one that is not understood.
    pub fn read(folder: &Path) -> Result<(Self, String)> {
        let path = folder.join(MANIFEST);
        match std::fs::metadata(&path) {
            Ok(meta) if meta.len() > MAX_BYTES => {
                return Err(Error::dataset(folder, "its manifest.json is too large to be one"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = if folder.is_dir() {
                    "no manifest.json in it; an ingest that did not finish must be started again"
                } else {
                    "there is no such folder; `pipeline ingest SOURCE --out FOLDER` makes one"
                };
                return Err(Error::dataset(folder, message));
            }
            Err(error) => return Err(Error::io("read", path)(error)),
        }
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Error::dataset(folder, format!("manifest.json: {error}")))?;
        manifest.check(folder)?;
        Ok((manifest, atomic::sha256(&bytes)))
    }

    fn check(&self, folder: &Path) -> Result<()> {
        if self.format != FORMAT || self.version != VERSION {
            let message = format!(
                "its format is {} {}, this program reads {FORMAT} {VERSION}",
                self.format, self.version
            );
            return Err(Error::dataset(folder, message));
        }
        let sum = self.shards.iter().try_fold(0u64, |sum, shard| sum.checked_add(shard.rows));
        if sum != Some(self.rows) {
            return Err(Error::dataset(folder, "manifest.json: shards and rows do not add up"));
        }
        let inside = |file: &str| {
            use std::path::Component::Normal;
            !file.is_empty() && Path::new(file).components().all(|part| matches!(part, Normal(_)))
        };
        if let Some(shard) = self.shards.iter().find(|shard| !inside(&shard.file)) {
            let message = format!("manifest.json: shard `{}` is not below the folder", shard.file);
            return Err(Error::dataset(folder, message));
        }
        Ok(())
    }

    /// Writes the manifest, whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::dataset(folder, error.to_string()))?;
        text.push('\n');
        atomic::write(&folder.join(MANIFEST), text.as_bytes())
    }
}
