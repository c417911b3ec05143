//! Datasets of photographs: Parquet shards under a manifest. A dataset never changes once its
//! manifest is there; its digest, the SHA-256 of `manifest.json`, names it for good.

pub(crate) mod manifest;
pub(crate) mod schema;
mod shard;
mod summary;
mod verify;
pub(crate) mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub use manifest::{Counts, MANIFEST, Manifest, ShardEntry, SourceEntry};
use shard::Shard;
pub use summary::{Rejected, Rejects, Spread, Summary};
pub use verify::{Finding, Verified};

use crate::{Error, Result, uri};

/// One image of a dataset, with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name that is unique in the dataset.
    pub key: String,
    /// Index of its class, where it has one.
    pub label: Option<i64>,
    /// The image file: the source's own bytes, or those of the smaller copy.
    pub bytes: bytes::Bytes,
    /// File name in the source.
    pub path: String,
    /// SHA-256 of `bytes`, hexadecimal.
    pub sha256: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `jpeg`, `png` or `webp`, by the bytes.
    pub format: String,
    /// Archive or folder that it came from.
    pub source: String,
}

/// An opened dataset. Cheap to share between threads; rows are read independently of each other.
pub struct Dataset {
    folder: PathBuf,
    manifest: Manifest,
    digest: String,
    /// Number of rows before each shard.
    firsts: Vec<u64>,
    shards: Vec<OnceLock<Arc<Shard>>>,
}

impl Dataset {
    /// Opens a dataset and checks that every shard is there with its size.
    ///
    /// # Errors
    /// Without a manifest, with a shard missing or of another size; for an address that is not local.
    pub fn open(uri: &str) -> Result<Self> {
        let folder = uri::local(uri)?;
        let (manifest, digest) = Manifest::read(&folder)?;
        for shard in &manifest.shards {
            let length = std::fs::metadata(folder.join(&shard.file)).map(|meta| meta.len());
            let wrong = match length {
                Ok(length) if length == shard.bytes => continue,
                Ok(length) => {
                    format!("has {length} bytes, the manifest says {}", shard.bytes)
                }
                Err(error) => format!("cannot be read: {error}"),
            };
            let message =
                format!("shard {} {wrong}; copy it again or repeat the ingest", shard.file);
            return Err(Error::dataset(&folder, message));
        }
        let mut sum = 0;
        let firsts = manifest
            .shards
            .iter()
            .map(|shard| {
                sum += shard.rows;
                sum - shard.rows
            })
            .collect();
        let shards = manifest.shards.iter().map(|_| OnceLock::new()).collect();
        Ok(Self { folder, manifest, digest, firsts, shards })
    }

    /// Number of images.
    pub fn len(&self) -> u64 {
        self.manifest.rows
    }

    /// True for a dataset without images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of each row group, in order.
    pub fn groups(&self) -> Vec<u64> {
        self.manifest.shards.iter().map(|shard| shard.rows).collect()
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of `manifest.json`, hexadecimal: the dataset's identity.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Image `index` (from 0) with all that is known of it.
    ///
    /// # Errors
    /// Past the end; where the shard is gone or damaged, naming shard, row and digest.
    pub fn record(&self, index: u64) -> Result<Record> {
        let (shard, row) = self.locate(index)?;
        shard.record(row)
    }

    /// The file of image `index` (from 0): one ranged read of one page.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn image(&self, index: u64) -> Result<bytes::Bytes> {
        let (shard, row) = self.locate(index)?;
        shard.image(row)
    }

    /// The key of image `index` (from 0).
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn key(&self, index: u64) -> Result<String> {
        let (shard, row) = self.locate(index)?;
        shard.key(row)
    }

    /// All images in order.
    pub fn records(&self) -> impl Iterator<Item = Result<Record>> + '_ {
        (0..self.len()).map(|index| self.record(index))
    }

    /// The error for an image that was read but cannot be decoded: shard, row and digest.
    pub fn damaged(&self, index: u64, error: &Error) -> Error {
        match self.locate(index) {
            Ok((shard, row)) => {
                let digest = shard.record(row).ok().map(|record| record.sha256);
                shard.damaged(row, digest, &error.to_string())
            }
            Err(error) => error,
        }
    }

    fn locate(&self, index: u64) -> Result<(Arc<Shard>, u64)> {
        if index >= self.len() {
            let message = format!("has no row {index}, only {}", self.len());
            return Err(Error::dataset(&self.folder, message));
        }
        let number = self.firsts.partition_point(|&first| first <= index) - 1;
        Ok((self.shard(number)?, index - self.firsts[number]))
    }

    fn shard(&self, number: usize) -> Result<Arc<Shard>> {
        if let Some(shard) = self.shards[number].get() {
            return Ok(Arc::clone(shard));
        }
        let entry = &self.manifest.shards[number];
        let shard = Arc::new(Shard::open(&self.folder.join(&entry.file), entry.rows)?);
        Ok(Arc::clone(self.shards[number].get_or_init(|| shard)))
    }
}
