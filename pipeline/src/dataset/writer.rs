//! Writing shards: rows in, one Parquet file out, digested as it is written. The same rows give the
//! same bytes. The file appears under its name only when it is whole.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;

use super::manifest::ShardEntry;
use super::schema::{self, Kind};
use crate::{Error, Result, atomic};

/// Payload after which a row group is closed; it is held in memory until then.
const GROUP_BYTES: u64 = 64 << 20;

/// One shard being written.
pub struct ShardWriter {
    arrow: ArrowWriter<atomic::Hashing<BufWriter<File>>>,
    schema: SchemaRef,
    beside: PathBuf,
    path: PathBuf,
    rows: u64,
    group_bytes: u64,
    /// Rows of each closed row group.
    groups: Vec<u64>,
}

impl ShardWriter {
    /// Starts the shard `path` with these columns; `classes` are the names behind a label. Until its end
    /// it is written to [`atomic::beside`] of the path.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path, columns: &[(&str, Kind)], classes: &[String]) -> Result<Self> {
        let beside = atomic::beside(path);
        let file = File::create(&beside).map_err(Error::io("create", &beside))?;
        let schema = schema::schema(columns, classes);
        let out = atomic::Hashing::new(BufWriter::with_capacity(1 << 20, file));
        let properties = schema::properties(columns, classes);
        let arrow = ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties))
            .map_err(Error::parquet(path))?;
        Ok(Self {
            arrow,
            schema,
            beside,
            path: path.to_owned(),
            rows: 0,
            group_bytes: 0,
            groups: Vec::new(),
        })
    }

    /// Appends rows; `payload` is their number of image bytes.
    ///
    /// # Errors
    /// When the columns are others, or the disk is full.
    pub fn write(&mut self, columns: Vec<ArrayRef>, payload: u64) -> Result<()> {
        let failed = |error: parquet::errors::ParquetError| Error::parquet(&self.path)(error);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| failed(error.into()))?;
        self.arrow.write(&batch).map_err(failed)?;
        self.rows += batch.num_rows() as u64;
        self.group_bytes += payload;
        if self.group_bytes >= GROUP_BYTES {
            self.arrow.flush().map_err(failed)?;
            self.group_bytes = 0;
            self.groups.push(self.rows - self.groups.iter().sum::<u64>());
        }
        Ok(())
    }

    /// Ends the file, syncs it and gives it its name; `name` is how the manifest calls it.
    ///
    /// # Errors
    /// When the disk is full or the folder cannot be written to.
    pub fn finish(self, name: &str) -> Result<ShardEntry> {
        let Self { arrow, beside, path, rows, mut groups, .. } = self;
        let rest = rows - groups.iter().sum::<u64>();
        if rest > 0 {
            groups.push(rest);
        }
        let (buffer, sha256, bytes) = arrow.into_inner().map_err(Error::parquet(&path))?.finish();
        let file =
            buffer.into_inner().map_err(|error| Error::io("write", &path)(error.into_error()))?;
        file.sync_all().map_err(Error::io("sync", &path))?;
        atomic::rename(&beside, &path)?;
        Ok(ShardEntry { file: name.to_owned(), rows, bytes, sha256, groups })
    }
}

/// A column of images from (bytes, path).
pub fn image_column<'a>(images: impl Iterator<Item = (&'a [u8], &'a str)> + Clone) -> ArrayRef {
    let bytes = arrow_array::BinaryArray::from_iter_values(images.clone().map(|(bytes, _)| bytes));
    let paths = arrow_array::StringArray::from_iter_values(images.map(|(_, path)| path));
    let columns: Vec<ArrayRef> = vec![Arc::new(bytes), Arc::new(paths)];
    Arc::new(arrow_array::StructArray::new(schema::image_fields(), columns, None))
}

/// A column of text.
pub fn text_column<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(arrow_array::StringArray::from_iter_values(values))
}
