//! Writing a dataset of outputs.

use std::path::PathBuf;

use pipeline::dataset::shards::ShardWriter;
use pipeline::dataset::{MANIFEST, ShardEntry};
use storage::{Place, Store, atomic};
use tempfile::TempDir;

use crate::dataset::{OutputManifest, groups};
use crate::row::{COLUMNS, columns};
use crate::{Error, OutputRow, Result};

/// Rows, and bytes of their images, after which they are handed to Parquet.
const BATCH_ROWS: usize = 64;
const BATCH_BYTES: usize = 16 << 20;

/// Writes an output dataset of a fixed number of chunks. Holds no state but names: any process may
/// write any chunk, and write it again.
#[derive(Clone)]
pub struct OutputWriter {
    store: Store,
    name: String,
    chunks: u32,
}

impl OutputWriter {
    /// A writer to a place.
    ///
    /// # Errors
    /// For an invalid name, and for an object store whose settings cannot be used.
    pub fn open(place: &Place, name: &str, chunks: u32) -> Result<Self> {
        pipeline::ingest::check_name("name", name)?;
        Ok(Self { store: Store::open(place)?, name: name.to_owned(), chunks })
    }

    fn file(&self, chunk: u32) -> String {
        format!("data/{}-{chunk:05}-of-{:05}.parquet", self.name, self.chunks)
    }

    /// True where the chunk was written.
    ///
    /// # Errors
    /// When the place cannot be read.
    pub fn has_chunk(&self, chunk: u32) -> Result<bool> {
        Ok(self.store.size(&self.file(chunk))?.is_some())
    }

    /// Begins a chunk; one that is there is replaced once this one is finished.
    ///
    /// # Errors
    /// When the disk is full or the place cannot be written to.
    pub fn chunk(&self, chunk: u32) -> Result<ChunkWriter> {
        let file = self.file(chunk);
        // A folder takes the shard where it is written; a store takes it when it is whole.
        let (staging, path) = match self.store.folder() {
            Some(folder) => (None, folder.join(&file)),
            None => {
                let staging = tempfile::Builder::new().prefix("palette-outputs-").tempdir();
                let staging = staging.map_err(Error::staging)?;
                let path = staging.path().join(&file);
                (Some(staging), path)
            }
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::folder(folder))?;
        }
        let shard = Some(ShardWriter::create(&path, &COLUMNS, &[])?);
        let store = self.store.clone();
        Ok(ChunkWriter { store, file, path, staging, shard, rows: Vec::new(), bytes: 0 })
    }

    /// Writes a whole chunk that is in memory.
    ///
    /// # Errors
    /// As [`Self::chunk`].
    pub fn write_chunk(&self, chunk: u32, rows: &[OutputRow]) -> Result<ShardEntry> {
        let mut writer = self.chunk(chunk)?;
        rows.iter().cloned().try_for_each(|row| writer.push(row))?;
        writer.finish()
    }

    /// Removes what writers left that were killed; in an object store there is nothing.
    fn sweep(&self) -> Result<()> {
        let begun = format!("{}-", self.name);
        for name in self.store.list("data")?.into_keys() {
            if name.starts_with(&begun) && name.ends_with(".part") {
                self.store.remove(&format!("data/{name}"))?;
            }
        }
        Ok(())
    }

    /// Writes the manifest over all chunks, and removes what killed writers left; `options` says what
    /// the outputs depend on. Every shard is read once, for its digest.
    ///
    /// # Errors
    /// Where a chunk is missing or cannot be read.
    pub fn finish(&self, options: serde_json::Value) -> Result<OutputManifest> {
        let place = self.store.place();
        let mut shards = Vec::new();
        for chunk in 0..self.chunks {
            let file = self.file(chunk);
            let Some(bytes) = self.store.size(&file)? else {
                let message = format!("chunk {chunk} of {} is not written yet", self.chunks);
                return Err(Error::outputs(place, message));
            };
            let sha256 = self.store.digest(&file, bytes)?;
            let groups = groups(&self.store, &file, bytes)?;
            shards.push(ShardEntry { file, rows: groups.iter().sum(), bytes, sha256, groups });
        }
        let manifest = OutputManifest::new(&self.name, shards, options);
        let mut text = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| Error::outputs(place, error.to_string()))?;
        text.push(b'\n');
        self.store.write(MANIFEST, text)?;
        self.sweep()?;
        Ok(manifest)
    }
}

/// A chunk that is being written: of its rows only the last ones are in memory. Where it is dropped
/// before its end, nothing of it is left.
pub struct ChunkWriter {
    store: Store,
    file: String,
    /// Where the shard is written on this machine.
    path: PathBuf,
    /// Holds it, where it goes on to a store.
    staging: Option<TempDir>,
    shard: Option<ShardWriter>,
    /// Rows that are not handed to Parquet yet, and the bytes of their images.
    rows: Vec<OutputRow>,
    bytes: usize,
}

impl ChunkWriter {
    /// Appends a row.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn push(&mut self, row: OutputRow) -> Result<()> {
        self.bytes += row.bytes();
        self.rows.push(row);
        let full = self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES;
        if full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let payload = std::mem::take(&mut self.bytes);
        if let (Some(shard), false) = (&mut self.shard, rows.is_empty()) {
            shard.write(columns(&rows), payload as u64)?;
        }
        Ok(())
    }

    /// Gives the chunk its name, whole or not at all.
    ///
    /// # Errors
    /// When the disk is full or the place cannot be written to.
    pub fn finish(mut self) -> Result<ShardEntry> {
        self.flush()?;
        let Some(shard) = self.shard.take() else {
            return Err(Error::outputs(self.store.place(), "the chunk was finished before"));
        };
        let entry = shard.finish(&self.file)?;
        if self.staging.is_some() {
            self.store.adopt(&self.path, &self.file)?;
        }
        Ok(entry)
    }
}

impl Drop for ChunkWriter {
    fn drop(&mut self) {
        // A full disk is not to stay full of what nobody will read.
        let _ = std::fs::remove_file(atomic::beside(&self.path));
    }
}
