//! Datasets of sampling outputs: one shard a chunk, each written whole by whichever worker made it,
//! in any order; the manifest last. Columns `source`, `mask`, `output`, `reference` are images in
//! the Hugging Face convention, so that what reads shards reads these.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, UInt64Type};
use arrow_array::{ArrayRef, Int32Array, RecordBatch, UInt64Array};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde::{Deserialize, Serialize};
use storage::{atomic, uri};

use crate::dataset::schema::ColumnType;
use crate::dataset::writer::{ShardWriter, image_column, text_column};
use crate::dataset::{MANIFEST, ShardEntry};
use crate::{Error, Result, Task};

const FORMAT: &str = "palette-outputs";
const VERSION: u32 = 1;
/// Rows and bytes of images after which rows are handed to Parquet.
const BATCH_ROWS: usize = 64;
const BATCH_BYTES: usize = 16 << 20;
const COLUMNS: [(&str, ColumnType); 8] = [
    ("source", ColumnType::Image),
    ("mask", ColumnType::Image),
    ("output", ColumnType::Image),
    ("reference", ColumnType::Image),
    ("key", ColumnType::Text),
    ("seed", ColumnType::Uint64),
    ("sample", ColumnType::Int32),
    ("task", ColumnType::Text),
];

/// One output with what it was made from. Images are PNG files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRow {
    /// What the network was given, RGB.
    pub source: Vec<u8>,
    /// White where pixels were generated, grey-scale 0 or 255.
    pub mask: Vec<u8>,
    /// What it made, RGB.
    pub output: Vec<u8>,
    /// The photograph that it was to restore, RGB.
    pub reference: Vec<u8>,
    /// Key of the record.
    pub key: String,
    /// Seed of the sampling job.
    pub seed: u64,
    /// Number of the sample of this record, from 0.
    pub sample: u32,
    /// The task.
    pub task: Task,
}

impl OutputRow {
    fn image_bytes(&self) -> usize {
        self.source.len() + self.mask.len() + self.output.len() + self.reference.len()
    }
}

/// What tells an output from all others of its dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputName {
    /// Key of the record.
    pub key: String,
    /// Number of the sample of this record, from 0.
    pub sample: u32,
    /// The task.
    pub task: Task,
}

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

/// Writes an output dataset of a fixed number of chunks. Holds no state but names: any process may
/// write any chunk, and write it again.
#[derive(Clone, Debug)]
pub struct OutputWriter {
    folder: PathBuf,
    name: String,
    chunks: u32,
}

impl OutputWriter {
    /// A writer to the folder `uri`, which is made where it is missing.
    ///
    /// # Errors
    /// When the folder cannot be made, for an address that is not local, and for a name that is none.
    pub fn open(uri: &str, name: &str, chunks: u32) -> Result<Self> {
        crate::ingest::check_name("name", name)?;
        let folder = uri::local(uri)?;
        let data = folder.join("data");
        fs::create_dir_all(&data).map_err(Error::io("create folder", &data))?;
        Ok(Self { folder, name: name.to_owned(), chunks })
    }

    fn file(&self, chunk: u32) -> String {
        format!("data/{}-{chunk:05}-of-{:05}.parquet", self.name, self.chunks)
    }

    /// True where the chunk was written.
    pub fn has_chunk(&self, chunk: u32) -> bool {
        self.folder.join(self.file(chunk)).is_file()
    }

    /// Begins a chunk, which is there whole once it is finished, or not at all; one that is there is
    /// replaced.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn chunk(&self, number: u32) -> Result<ChunkWriter> {
        let name = self.file(number);
        let path = self.folder.join(&name);
        let unfinished = Unfinished(atomic::beside(&path));
        let shard = ShardWriter::create(&path, &COLUMNS, &[])?;
        Ok(ChunkWriter { shard, name, unfinished, rows: 0, pending: Vec::new(), pending_bytes: 0 })
    }

    /// Writes a chunk of rows that are all there.
    ///
    /// # Errors
    /// When the disk is full or the folder cannot be written to.
    pub fn write_chunk(&self, number: u32, rows: &[OutputRow]) -> Result<ShardEntry> {
        let mut chunk = self.chunk(number)?;
        rows.iter().cloned().try_for_each(|row| chunk.add(row))?;
        chunk.finish()
    }

    /// Removes what writers left that were killed.
    fn sweep(&self) -> Result<()> {
        let data = self.folder.join("data");
        let begun = format!("{}-", self.name);
        for entry in fs::read_dir(&data).map_err(Error::io("read folder", &data))? {
            let path = entry.map_err(Error::io("read folder", &data))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(&begun) && name.ends_with(".part") {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Writes the manifest over all chunks, and removes what killed writers left; `options` says what
    /// the outputs depend on.
    ///
    /// # Errors
    /// Where a chunk is missing or cannot be read.
    pub fn finish(&self, options: serde_json::Value) -> Result<OutputManifest> {
        let mut shards = Vec::new();
        for chunk in 0..self.chunks {
            let file = self.file(chunk);
            let path = self.folder.join(&file);
            if !path.is_file() {
                let message = format!("chunk {chunk} of {} is not written yet", self.chunks);
                return Err(Error::dataset(&self.folder, message));
            }
            let (sha256, bytes) = atomic::sha256_file(&path)?;
            let metadata = Arc::clone(reader(&path)?.metadata());
            let groups: Vec<u64> =
                metadata.row_groups().iter().map(|group| group.num_rows() as u64).collect();
            shards.push(ShardEntry { file, rows: groups.iter().sum(), bytes, sha256, groups });
        }
        let manifest = OutputManifest {
            format: FORMAT.into(),
            version: VERSION,
            name: self.name.clone(),
            rows: shards.iter().map(|shard| shard.rows).sum(),
            shards,
            options,
        };
        let mut text = serde_json::to_string_pretty(&manifest)
            .map_err(|error| Error::dataset(&self.folder, error.to_string()))?;
        text.push('\n');
        atomic::write(&self.folder.join(MANIFEST), text.as_bytes())?;
        self.sweep()?;
        Ok(manifest)
    }
}

/// A chunk being written. Rows go to its file as they come: memory holds a row group, however many
/// there are. Without [`Self::finish`] nothing is left of it.
pub struct ChunkWriter {
    shard: ShardWriter,
    /// How the manifest calls the file.
    name: String,
    unfinished: Unfinished,
    rows: u64,
    pending: Vec<OutputRow>,
    pending_bytes: usize,
}

impl ChunkWriter {
    /// Appends a row.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn add(&mut self, row: OutputRow) -> Result<()> {
        self.rows += 1;
        self.pending_bytes += row.image_bytes();
        self.pending.push(row);
        if self.pending.len() >= BATCH_ROWS || self.pending_bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Number of rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Ends the chunk and gives it its name.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn finish(mut self) -> Result<ShardEntry> {
        self.flush()?;
        let Self { shard, name, unfinished: _unfinished, .. } = self;
        shard.finish(&name)
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.shard.write(columns(&self.pending), self.pending_bytes as u64)?;
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }
}

/// A file that is removed unless it was renamed: a full disk is not to stay full of what nobody will
/// read.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn columns(rows: &[OutputRow]) -> Vec<ArrayRef> {
    let names: Vec<_> = rows.iter().map(|row| format!("{}-{}.png", row.key, row.sample)).collect();
    let images = |bytes: fn(&OutputRow) -> &[u8]| {
        image_column(rows.iter().zip(&names).map(move |(row, name)| (bytes(row), name.as_str())))
    };
    vec![
        images(|row| &row.source),
        images(|row| &row.mask),
        images(|row| &row.output),
        images(|row| &row.reference),
        text_column(rows.iter().map(|row| row.key.as_str())),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.seed))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.sample as i32))),
        text_column(rows.iter().map(|row| row.task.name())),
    ]
}

/// A finished output dataset.
pub struct OutputDataset {
    folder: PathBuf,
    manifest: OutputManifest,
    digest: String,
}

impl OutputDataset {
    /// Opens a finished output dataset.
    ///
    /// # Errors
    /// Without its manifest, or with one of another kind; for an address that is not local.
    pub fn open(uri: &str) -> Result<Self> {
        let folder = uri::local(uri)?;
        let path = folder.join(MANIFEST);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let manifest: OutputManifest = serde_json::from_slice(&bytes)
            .map_err(|error| Error::dataset(&folder, format!("manifest.json: {error}")))?;
        if manifest.format != FORMAT || manifest.version != VERSION {
            let message = format!("its format is {}, not {FORMAT}", manifest.format);
            return Err(Error::dataset(&folder, message));
        }
        Ok(Self { folder, manifest, digest: atomic::sha256(&bytes) })
    }

    /// The manifest.
    pub fn manifest(&self) -> &OutputManifest {
        &self.manifest
    }

    /// SHA-256 of `manifest.json`, hexadecimal: the outputs' identity.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Number of rows.
    pub fn len(&self) -> u64 {
        self.manifest.rows
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rows in order; a few are in memory at a time.
    pub fn rows(&self) -> impl Iterator<Item = Result<OutputRow>> + '_ {
        self.read(None, 16, rebuild)
    }

    /// What tells the rows from each other, in their order; no image is read.
    ///
    /// # Errors
    /// Where a shard cannot be read.
    pub fn names(&self) -> Result<Vec<OutputName>> {
        self.read(Some(&["key", "sample", "task"]), 8192, name).collect()
    }

    /// Rows made of these columns, or of all, with so many in memory at a time.
    fn read<T>(
        &self,
        columns: Option<&'static [&'static str]>,
        at_once: usize,
        make: fn(&RecordBatch, usize) -> Option<T>,
    ) -> impl Iterator<Item = Result<T>> + '_
    where
        T: 'static,
    {
        self.manifest.shards.iter().flat_map(move |shard| {
            let path = self.folder.join(&shard.file);
            let (batches, failed): (Option<ParquetRecordBatchReader>, _) =
                match batches(&path, columns, at_once) {
                    Ok(batches) => (Some(batches), None),
                    Err(error) => (None, Some(Err(error))),
                };
            let rows = batches.into_iter().flatten().flat_map(move |batch| match batch {
                Ok(batch) => rows(&batch, &path, make),
                Err(error) => vec![Err(Error::parquet(&path)(error.into()))],
            });
            failed.into_iter().chain(rows)
        })
    }
}

fn batches(
    path: &Path,
    columns: Option<&[&str]>,
    at_once: usize,
) -> Result<ParquetRecordBatchReader> {
    let reader = reader(path)?.with_batch_size(at_once);
    let reader = match columns {
        Some(columns) => {
            let mask = ProjectionMask::columns(reader.parquet_schema(), columns.iter().copied());
            reader.with_projection(mask)
        }
        None => reader,
    };
    reader.build().map_err(Error::parquet(path))
}

fn reader(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<fs::File>> {
    let file = fs::File::open(path).map_err(Error::io("open", path))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(Error::parquet(path))
}

fn rows<T>(
    batch: &RecordBatch,
    path: &Path,
    make: fn(&RecordBatch, usize) -> Option<T>,
) -> Vec<Result<T>> {
    (0..batch.num_rows())
        .map(|row| {
            make(batch, row).ok_or_else(|| {
                Error::dataset(path, "columns are not those of an output dataset; write it again")
            })
        })
        .collect()
}

fn rebuild(batch: &RecordBatch, row: usize) -> Option<OutputRow> {
    let image = |name: &str| {
        let column = batch.column_by_name(name)?.as_struct_opt()?;
        Some(column.column_by_name("bytes")?.as_binary_opt::<i32>()?.value(row).to_vec())
    };
    let OutputName { key, sample, task } = name(batch, row)?;
    Some(OutputRow {
        source: image("source")?,
        mask: image("mask")?,
        output: image("output")?,
        reference: image("reference")?,
        key,
        seed: batch.column_by_name("seed")?.as_primitive_opt::<UInt64Type>()?.value(row),
        sample,
        task,
    })
}

fn name(batch: &RecordBatch, row: usize) -> Option<OutputName> {
    let text = |name: &str| {
        Some(batch.column_by_name(name)?.as_string_opt::<i32>()?.value(row).to_owned())
    };
    let sample = batch.column_by_name("sample")?.as_primitive_opt::<Int32Type>()?.value(row);
    Some(OutputName {
        key: text("key")?,
        sample: sample.cast_unsigned(),
        task: text("task")?.parse().ok()?,
    })
}
