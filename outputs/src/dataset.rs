//! Reading a dataset of outputs.

use std::fs::File;
use std::path::Path;

use arrow_array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::file::reader::ChunkReader;
use pipeline::dataset::shards::Chunks;
use pipeline::dataset::{MANIFEST, ShardEntry};
use pipeline::guarded::{self, Batches};
use serde::{Deserialize, Serialize};
use storage::{Place, Store, atomic};
use tempfile::NamedTempFile;

use crate::row::{bytes, name, row};
use crate::variant::Variants;
use crate::{Error, OutputImage, OutputName, OutputRow, Result};

const FORMAT: &str = "palette-outputs";
/// Since version 2 the column `task` holds the evaluation, not the task alone.
const VERSION: u32 = 2;
/// Longest manifest that is read.
const LONGEST: u64 = 256 << 20;

/// Contents of `manifest.json` of an output dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputManifest {
    /// Kind of dataset, `palette-outputs`.
    pub format: String,
    /// Version of the kind.
    pub version: u32,
    /// Name of the dataset.
    pub name: String,
    /// Rows in all shards.
    pub rows: u64,
    /// Shards in order of their chunks.
    pub shards: Vec<ShardEntry>,
    /// What the outputs depend on, as the writer says.
    pub options: serde_json::Value,
}

impl OutputManifest {
    pub(crate) fn new(name: &str, shards: Vec<ShardEntry>, options: serde_json::Value) -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            name: name.to_owned(),
            rows: shards.iter().map(|shard| shard.rows).sum(),
            shards,
            options,
        }
    }
}

/// A finished output dataset.
pub struct OutputDataset {
    store: Store,
    manifest: OutputManifest,
    digest: String,
}

impl OutputDataset {
    /// Opens a finished output dataset.
    ///
    /// # Errors
    /// Without its manifest, or with one of another kind; where the place cannot be read.
    pub fn open(place: &Place) -> Result<Self> {
        let store = Store::open(place)?;
        let wrong = |message: String| Error::outputs(place, message);
        let bytes = store.read(MANIFEST, LONGEST)?;
        let bytes = bytes.ok_or_else(|| wrong("there is no manifest.json in it".to_owned()))?;
        let manifest: OutputManifest = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("manifest.json: {error}")))?;
        if manifest.format != FORMAT {
            return Err(wrong(format!("its format is {}, not {FORMAT}", manifest.format)));
        }
        if !(1..=VERSION).contains(&manifest.version) {
            let version = manifest.version;
            return Err(wrong(format!(
                "its version is {version}, and this program reads versions up to {VERSION}: update it"
            )));
        }
        let places = manifest.shards.iter().map(ShardEntry::check_place);
        places
            .collect::<Result<(), _>>()
            .map_err(|error| wrong(format!("manifest.json: {error}")))?;
        Ok(Self { store, manifest, digest: atomic::sha256(&bytes) })
    }

    /// The manifest.
    pub fn manifest(&self) -> &OutputManifest {
        &self.manifest
    }

    /// SHA-256 of `manifest.json`, hexadecimal: the outputs' identity.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Where it lies.
    pub fn place(&self) -> &Place {
        self.store.place()
    }

    /// Number of rows.
    pub fn len(&self) -> u64 {
        self.manifest.rows
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rows in order; a few are in memory at a time. Of a dataset in an object store one shard at a
    /// time is copied to the folder for temporary files.
    pub fn rows(&self) -> impl Iterator<Item = Result<OutputRow>> + '_ {
        let mut variants = Variants::of(&self.manifest.options);
        let rows = self.manifest.shards.iter().flat_map(move |shard| {
            let place = place(&self.store, &shard.file);
            let batches = self.fetched(shard).and_then(|(file, copy)| {
                // The copy lives as long as somebody reads it.
                Ok(batches(file, &place, None, 16)?.inspect(move |_| _ = &copy))
            });
            each(batches, place, row)
        });
        rows.map(move |row| {
            let mut row = row?;
            let OutputRow { key, sample, task, .. } = &row;
            let name = OutputName { key: key.clone(), sample: *sample, task: *task };
            row.task = variants.resolve(name).task;
            Ok(row)
        })
    }

    /// What tells the rows from each other, in their order; no image is read.
    ///
    /// # Errors
    /// Where a shard cannot be read.
    pub fn names(&self) -> Result<Vec<OutputName>> {
        const COLUMNS: &[&str] = &["key", "sample", "task"];
        let shards = self.manifest.shards.iter().flat_map(|shard| {
            let place = place(&self.store, &shard.file);
            let file = self.store.file(&shard.file, shard.bytes).map_err(Error::from);
            let batches =
                file.and_then(|file| batches(Chunks::new(file), &place, Some(COLUMNS), 512));
            each(batches, place, name)
        });
        let mut variants = Variants::of(&self.manifest.options);
        shards.map(|name| Ok(variants.resolve(name?))).collect()
    }

    /// At most `count` rows from row `first` on; none past the end. Of the shards only the row groups that these rows
    /// are in are looked at. In a dataset of version 1 a row says its task alone.
    ///
    /// # Errors
    /// Where a shard cannot be read.
    pub fn read(&self, first: u64, count: u64) -> Result<Vec<OutputRow>> {
        self.within(first, count, None, row)
    }

    /// What tells at most `count` rows from each other, from row `first` on; no image is read.
    ///
    /// # Errors
    /// Where a shard cannot be read.
    pub fn names_from(&self, first: u64, count: u64) -> Result<Vec<OutputName>> {
        self.within(first, count, Some(&["key", "sample", "task"]), name)
    }

    /// An image of a row, a PNG file; none past the end.
    ///
    /// # Errors
    /// Where the shard cannot be read.
    pub fn image(&self, row: u64, image: OutputImage) -> Result<Option<Vec<u8>>> {
        let make = match image {
            OutputImage::Source => |batch: &RecordBatch, at: usize| bytes(batch, "source", at),
            OutputImage::Mask => |batch: &RecordBatch, at: usize| bytes(batch, "mask", at),
            OutputImage::Output => |batch: &RecordBatch, at: usize| bytes(batch, "output", at),
            OutputImage::Reference => {
                |batch: &RecordBatch, at: usize| bytes(batch, "reference", at)
            }
        };
        Ok(self.within(row, 1, Some(&[image.column()]), make)?.pop())
    }

    /// What `make` makes of the rows from `first` on, of these columns.
    fn within<T: 'static>(
        &self,
        first: u64,
        count: u64,
        columns: Option<&[&str]>,
        make: fn(&RecordBatch, usize) -> Option<T>,
    ) -> Result<Vec<T>> {
        let end = first.saturating_add(count);
        let (mut made, mut at) = (Vec::new(), 0_u64);
        for shard in &self.manifest.shards {
            let rows = at..at.saturating_add(shard.rows);
            at = rows.end;
            let (from, to) = (first.max(rows.start), end.min(rows.end));
            if from >= to {
                continue;
            }
            let place = place(&self.store, &shard.file);
            let file = Chunks::new(self.store.file(&shard.file, shard.bytes)?);
            let part = part(file, &place, columns, from - rows.start, to - from);
            for one in each(part, place, make) {
                made.push(one?);
            }
        }
        Ok(made)
    }

    /// A shard as a file of this machine, with the copy that it is where it lies elsewhere.
    fn fetched(&self, shard: &ShardEntry) -> Result<(File, Option<NamedTempFile>)> {
        let open = |path: &Path| {
            let failed = |source| storage::Error::Io { doing: "open", path: path.into(), source };
            storage::regular::open(path).map(|(file, _)| file).map_err(failed)
        };
        if let Some(folder) = self.store.folder() {
            return Ok((open(&folder.join(&shard.file))?, None));
        }
        let copy = tempfile::Builder::new().prefix("palette-shard-").tempfile();
        let copy = copy.map_err(Error::staging)?;
        self.store.fetch(&shard.file, shard.bytes, copy.path())?;
        Ok((open(copy.path())?, Some(copy)))
    }
}

/// How messages name a shard.
fn place(store: &Store, file: &str) -> String {
    match store.folder() {
        Some(folder) => folder.join(file).display().to_string(),
        None => format!("{}/{file}", store.place()),
    }
}

/// Batches of `count` rows of a shard from `first` on, in these columns or in all.
fn part(
    file: Chunks,
    shard: &str,
    columns: Option<&[&str]>,
    first: u64,
    count: u64,
) -> Result<Batches> {
    let mut reader = guarded::open(file, 8).map_err(Error::parquet(shard))?;
    let (mut groups, mut at, mut before) = (Vec::new(), 0_u64, 0_u64);
    for (number, group) in reader.metadata().row_groups().iter().enumerate() {
        let rows = at..at.saturating_add(group.num_rows().cast_unsigned());
        at = rows.end;
        if rows.end <= first {
            before = rows.end;
        } else if rows.start < first.saturating_add(count) {
            groups.push(number);
        }
    }
    if let Some(columns) = columns {
        let mask = ProjectionMask::columns(reader.parquet_schema(), columns.iter().copied());
        reader = reader.with_projection(mask);
    }
    let size = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
    let reader = reader.with_row_groups(groups);
    let reader = reader.with_offset(size(first - before)).with_limit(size(count));
    guarded::batches(reader).map_err(Error::parquet(shard))
}

/// Batches of these columns of a shard, or of all.
fn batches<R: ChunkReader + 'static>(
    file: R,
    shard: &str,
    columns: Option<&[&str]>,
    at_once: usize,
) -> Result<Batches> {
    let reader = guarded::open(file, at_once).map_err(Error::parquet(shard))?;
    let reader = match columns {
        Some(columns) => {
            let mask = ProjectionMask::columns(reader.parquet_schema(), columns.iter().copied());
            reader.with_projection(mask)
        }
        None => reader,
    };
    guarded::batches(reader).map_err(Error::parquet(shard))
}

/// What `make` makes of each row.
fn each<T: 'static, E: Into<parquet::errors::ParquetError>>(
    batches: Result<impl Iterator<Item = std::result::Result<RecordBatch, E>>>,
    shard: String,
    make: fn(&RecordBatch, usize) -> Option<T>,
) -> impl Iterator<Item = Result<T>> {
    let (batches, failed) = match batches {
        Ok(batches) => (Some(batches), None),
        Err(error) => (None, Some(Err(error))),
    };
    let rows = batches.into_iter().flatten().flat_map(move |batch| match batch {
        Ok(batch) => (0..batch.num_rows())
            .map(|at| {
                make(&batch, at).ok_or_else(|| {
                    let message = "its columns are not those of outputs; write it again";
                    Error::outputs(&shard, message)
                })
            })
            .collect(),
        Err(error) => vec![Err(Error::parquet(&shard)(error.into()))],
    });
    failed.into_iter().chain(rows)
}

/// Rows of each row group of a shard.
pub(crate) fn groups(store: &Store, file: &str, bytes: u64) -> Result<Vec<u64>> {
    let chunks = Chunks::new(store.file(file, bytes)?);
    let reader = guarded::open(chunks, 1).map_err(Error::parquet(place(store, file)))?;
    let groups = reader.metadata().row_groups();
    Ok(groups.iter().map(|group| group.num_rows().cast_unsigned()).collect())
}
