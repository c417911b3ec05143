//! Datasets of photographs: Parquet shards under a manifest. A dataset never changes once its
//! manifest is there; its digest, the SHA-256 of `manifest.json`, names it for good.

mod checked;
mod cut;
mod far;
mod levels;
mod list;
pub(crate) mod manifest;
mod overlap;
mod pages;
mod scan;
pub(crate) mod schema;
mod shard;
mod summary;
mod verify;
pub(crate) mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use checked::Checked;
pub use cut::{Choice, Chosen, is_named, parse_rows};
pub(crate) use far::Request;
pub use list::{List, Listed};
pub use manifest::{Counts, Cut, MANIFEST, Manifest, ShardEntry, SourceEntry};
pub use overlap::Overlap;
use shard::Shard;
use storage::{Place, Ranges, Store};
pub use summary::{Histogram, Histograms, Rejected, Rejects, Spread, Summary};
pub(crate) use summary::{KEPT, REJECTS};
pub use verify::{Finding, Verified};

/// Shards of whatever columns, for datasets of other kinds than photographs.
pub mod shards {
    pub use super::pages::Chunks;
    pub use super::schema::ColumnType;
    pub use super::writer::{ShardWriter, image_column, text_column};
}

use crate::{Error, Result};

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
    /// How the pixels are turned, as the source's EXIF said: 1 (upright) to 8.
    pub orientation: u8,
    /// SHA-256 of the source's file, hexadecimal, where `bytes` are a copy made of it.
    pub source_sha256: Option<String>,
}

/// A shard once it is opened; who opens it holds the lock, so that its index is read once.
#[derive(Default)]
struct OpenedShard {
    shard: OnceLock<Arc<Shard>>,
    opening: Mutex<()>,
}

/// An opened dataset. Cheap to share between threads; rows are read independently of each other.
pub struct Dataset {
    store: Store,
    /// Where the shards lie: the dataset's own place, or that of the one that it is a cut of.
    shards_in: Store,
    manifest: Manifest,
    digest: String,
    /// Number of rows before each shard.
    firsts: Vec<u64>,
    shards: Vec<OpenedShard>,
    /// Keys and digests that were read ahead.
    texts: far::Texts,
    checked: Checked,
}

impl Dataset {
    /// Opens a dataset and checks that every shard is there with its size.
    ///
    /// # Errors
    /// Without a manifest, with a shard missing or of another size; where a store does not answer.
    pub fn open(place: &Place) -> Result<Self> {
        let store = Store::open(place)?;
        let Some((manifest, digest)) = Manifest::read(&store)? else {
            let message = match store.folder() {
                Some(folder) if !folder.is_dir() => {
                    "there is no such folder; `pipeline ingest SOURCE --out FOLDER` makes one"
                }
                _ => "no manifest.json in it; an ingest that did not finish must be started again",
            };
            return Err(Error::dataset(place, message));
        };
        let shards_in = match &manifest.cut {
            None => store.clone(),
            Some(cut) => base(&store, cut)?,
        };
        let mut sum = 0;
        let firsts = manifest
            .shards
            .iter()
            .map(|shard| {
                sum += shard.rows;
                sum - shard.rows
            })
            .collect();
        let shards = manifest.shards.iter().map(|_| OpenedShard::default()).collect();
        let (texts, checked) = Default::default();
        let mut dataset =
            Self { store, shards_in, manifest, digest, firsts, shards, texts, checked };
        // The files are there, so that their number of rows is no mere claim.
        dataset.check_sizes()?;
        dataset.checked = Checked::new(sum);
        Ok(dataset)
    }

    fn check_sizes(&self) -> Result<()> {
        let mut folder = None;
        let mut files = std::collections::BTreeMap::new();
        for shard in &self.manifest.shards {
            let (parent, name) = shard.file.rsplit_once('/').unwrap_or(("", &shard.file));
            if folder != Some(parent) {
                files = self.shards_in.list(parent)?;
                folder = Some(parent);
            }
            let wrong = match files.get(name) {
                Some(&length) if length == shard.bytes => continue,
                Some(length) => format!("has {length} bytes, the manifest says {}", shard.bytes),
                None => "cannot be read: it is not there".to_owned(),
            };
            let place = self.shards_in.place();
            let message =
                format!("shard {} {wrong}; copy it again or repeat the ingest", shard.file);
            return Err(Error::dataset(place, message));
        }
        Ok(())
    }

    /// Number of images.
    pub fn len(&self) -> u64 {
        self.manifest.rows
    }

    /// True for a dataset without images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of `manifest.json`, hexadecimal: the dataset's identity.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// When its manifest was last written, where the place says.
    ///
    /// # Errors
    /// When the place cannot be read.
    pub fn written(&self) -> Result<Option<SystemTime>> {
        Ok(self.store.written(manifest::MANIFEST)?)
    }

    /// Where it lies.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The datasets in the same folder, in order.
    ///
    /// # Errors
    /// Where the folder or store cannot be listed.
    pub fn neighbours(&self) -> Result<Vec<Place>> {
        Ok(self.store.siblings(MANIFEST)?)
    }

    /// The folder, where it lies on this machine.
    pub fn folder(&self) -> Option<&Path> {
        self.store.folder()
    }

    /// Images in each row group, in the dataset's order. A cut is in an order of its own and has
    /// groups of a size of its own.
    pub fn groups(&self) -> Vec<u64> {
        const GROUP: u64 = 512;
        match &self.manifest.cut {
            None => {
                self.manifest.shards.iter().flat_map(|shard| shard.groups.iter().copied()).collect()
            }
            Some(_) => {
                let rows = self.len();
                (0..rows.div_ceil(GROUP)).map(|at| GROUP.min(rows - at * GROUP)).collect()
            }
        }
    }

    /// Bytes of memory that the index takes, of the shards that were read so far.
    pub fn index_bytes(&self) -> usize {
        let shards = self.shards.iter().filter_map(|shard| shard.shard.get());
        let cut = self.manifest.cut.as_ref().map_or(0, |cut| 4 * cut.rows.capacity());
        cut + self.checked.bytes() + shards.map(|shard| shard.index_bytes()).sum::<usize>()
    }

    /// Image `index` (from 0) with all that is known of it, compared with its digest.
    ///
    /// # Errors
    /// Past the end; where the shard is gone or the row damaged, naming shard, row and digest.
    pub fn record(&self, index: u64) -> Result<Record> {
        let (shard, row, source) = self.locate(index)?;
        shard.record(row, &source)
    }

    /// Key and file of image `index` (from 0): one ranged read each. What is read for the first time
    /// is compared with its digest.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn photograph(&self, index: u64) -> Result<(String, bytes::Bytes)> {
        let (shard, row, source) = self.locate(index)?;
        let at = self.base_row(index);
        let photograph = shard.photograph(row, &source, !self.checked.is(at))?;
        self.checked.set(at);
        Ok(photograph)
    }

    /// The key of image `index` (from 0).
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn key(&self, index: u64) -> Result<String> {
        let (shard, row, source) = self.locate(index)?;
        shard.key(row, &source)
    }

    /// All images in order.
    pub fn records(&self) -> impl Iterator<Item = Result<Record>> + '_ {
        (0..self.len()).map(|index| self.record(index))
    }

    /// The error for an image that was read but cannot be decoded: shard, row and digest.
    pub fn damaged(&self, index: u64, error: &Error) -> Error {
        match self.locate(index) {
            Ok((shard, row, source)) => shard.damaged(row, &source, &error.to_string()),
            Err(error) => error,
        }
    }

    /// Shard and row of an image, and where its bytes are read from.
    fn locate(&self, index: u64) -> Result<(Arc<Shard>, u64, Ranges)> {
        if index >= self.len() {
            let message = format!("has no row {index}, only {}", self.len());
            return Err(Error::dataset(self.store.place(), message));
        }
        let (number, row) = self.row(self.base_row(index));
        let shard = self.shard(number)?;
        let source = shard.ranges().clone();
        Ok((shard, row, source))
    }

    /// Row of an image, counted over all shards.
    fn base_row(&self, index: u64) -> u64 {
        match &self.manifest.cut {
            None => index,
            Some(cut) => u64::from(cut.rows[index as usize]),
        }
    }

    /// Which shards have images of the dataset; a cut may leave some out.
    fn used(&self) -> Vec<bool> {
        let Some(cut) = &self.manifest.cut else { return vec![true; self.manifest.shards.len()] };
        let mut used = vec![false; self.manifest.shards.len()];
        for &row in &cut.rows {
            used[self.row(u64::from(row)).0] = true;
        }
        used
    }

    /// Shard and row within it of a row counted over all shards.
    fn row(&self, row: u64) -> (usize, u64) {
        let number = self.firsts.partition_point(|&first| first <= row) - 1;
        (number, row - self.firsts[number])
    }

    fn shard(&self, number: usize) -> Result<Arc<Shard>> {
        let OpenedShard { shard, opening } = &self.shards[number];
        if let Some(shard) = shard.get() {
            return Ok(Arc::clone(shard));
        }
        let _opening = opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = shard.get() {
            return Ok(Arc::clone(shard));
        }
        let opened = Arc::new(Shard::open(&self.shards_in, &self.manifest.shards[number])?);
        Ok(Arc::clone(shard.get_or_init(|| opened)))
    }
}

/// The place of the dataset that a cut was made of, as it was then.
fn base(store: &Store, cut: &Cut) -> Result<Store> {
    let place = store.place().resolve(&cut.base)?;
    cut::demand_named(store.place(), &cut.base, &place)?;
    let base = Store::open(&place)?;
    match Manifest::read(&base)? {
        Some((_, digest)) if digest == cut.digest => Ok(base),
        _ => {
            let message =
                format!("was cut of {}, which is gone or has changed; cut it again", base.place());
            Err(Error::dataset(store.place(), message))
        }
    }
}
