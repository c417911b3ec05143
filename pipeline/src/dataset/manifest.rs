//! `manifest.json`: what a dataset is. It is written last; a folder without it is no dataset.

use std::path::Path;

use serde::{Deserialize, Serialize};
use storage::{Store, atomic};

use crate::{Error, Result};

/// The manifest's file in a dataset's folder.
pub const MANIFEST: &str = "manifest.json";
/// What the field `format` of a manifest of photographs says.
pub const FORMAT: &str = "palette-images";
const VERSION: u32 = 2;
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
    /// Where this is a cut of another dataset: whose shards these are and which rows of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

/// Rows of another dataset, in the order of this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Address of the dataset whose shards these are; a relative one counts from this dataset's.
    pub base: String,
    /// SHA-256 of that dataset's manifest.
    pub digest: String,
    /// How the rows were chosen, for people.
    pub how: String,
    /// Rows, counted over all shards from 0.
    pub rows: Vec<u32>,
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
    /// Images in each of its row groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u64>,
}

impl ShardEntry {
    /// Refuses a file that does not lie below the folder of its manifest.
    ///
    /// # Errors
    /// Names the file.
    pub fn check_place(&self) -> Result<(), String> {
        let mut parts = Path::new(&self.file).components();
        let inside = parts.all(|part| matches!(part, std::path::Component::Normal(_)));
        match inside && !self.file.is_empty() {
            true => Ok(()),
            false => Err(format!("shard {:?} is not below the folder", self.file)),
        }
    }
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
    /// SHA-256 of the archive; of a folder and of parquet, of the lines "sha256  key" of its images.
    /// Absent where `--limit` ended the reading early.
    pub sha256: Option<String>,
    /// Files of it that were seen, images or not.
    #[serde(default)]
    pub files: u64,
    /// Images that its publisher says it has, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<u64>,
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
    /// Stored images that are listed all the same: damaged, or not read by other programs.
    #[serde(default)]
    pub noted: u64,
    /// Stored images without a label, where the sources have classes. Absent where all have one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlabelled: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
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
            cut: None,
        }
    }

    /// Reads the manifest of a place; also tells the SHA-256 of its bytes. None where there is none.
    ///
    /// # Errors
    /// Where the place cannot be read, or holds a manifest that is not understood.
    pub fn read(store: &Store) -> Result<Option<(Self, String)>> {
        let Some(bytes) = store.read(MANIFEST, MAX_BYTES)? else { return Ok(None) };
        let wrong = |message: String| Error::dataset(store.place(), message);
        // Told apart before the fields are read, which other kinds and versions have not.
        #[derive(Deserialize)]
        struct Header {
            format: String,
            version: u32,
        }
        let unreadable = |error| wrong(format!("manifest.json: {error}"));
        let Header { format, version } = serde_json::from_slice(&bytes).map_err(unreadable)?;
        if format != FORMAT || version != VERSION {
            return Err(wrong(format!(
                "its format is {format} {version}, this program reads {FORMAT} {VERSION}; \
                 ingest it again"
            )));
        }
        let manifest: Self = serde_json::from_slice(&bytes).map_err(unreadable)?;
        manifest.check().map_err(|message| wrong(format!("manifest.json: {message}")))?;
        Ok(Some((manifest, atomic::sha256(&bytes))))
    }

    fn check(&self) -> Result<(), String> {
        fn sum(mut rows: impl Iterator<Item = u64>) -> Option<u64> {
            rows.try_fold(0u64, |sum, rows| sum.checked_add(rows))
        }
        let held = sum(self.shards.iter().map(|shard| shard.rows));
        let held = held.ok_or("shards and rows do not add up")?;
        let fits = match &self.cut {
            None => held == self.rows,
            Some(cut) => {
                cut.rows.len() as u64 == self.rows
                    && cut.rows.iter().all(|&row| u64::from(row) < held)
            }
        };
        if !fits {
            return Err("shards and rows do not add up".into());
        }
        for shard in &self.shards {
            // Each row has a page of its own.
            if shard.rows > shard.bytes {
                return Err(format!("shard `{}` has more rows than bytes", shard.file));
            }
            if sum(shard.groups.iter().copied()) != Some(shard.rows) {
                return Err(format!("row groups of shard `{}` do not add up", shard.file));
            }
            shard.check_place()?;
        }
        Ok(())
    }

    /// Writes the manifest, whole or not at all.
    ///
    /// # Errors
    /// When the place cannot be written to.
    pub fn write(&self, store: &Store) -> Result<()> {
        Ok(store.write(MANIFEST, self.text(store)?)?)
    }

    /// The manifest as it is written.
    pub(crate) fn text(&self, store: &Store) -> Result<Vec<u8>> {
        let pretty = match &self.cut {
            None => serde_json::to_vec_pretty(self),
            // A line for every one of a million rows would help nobody.
            Some(_) => serde_json::to_vec(self),
        };
        let mut text = pretty.map_err(|error| Error::dataset(store.place(), error.to_string()))?;
        text.push(b'\n');
        Ok(text)
    }
}
