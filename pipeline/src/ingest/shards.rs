//! Rows into shards: one is closed once its payload reaches the size asked for, or at [`SHARD_ROWS`].

use std::sync::Arc;

use arrow_array::{Int32Array, Int64Array};

use super::destination::Destination;
use super::journal::Reject;
use super::plan::IngestPlan;
use super::work::StoredImage;
use crate::Result;
use crate::dataset::ShardEntry;
use crate::dataset::schema::{ColumnType, IMAGES};
use crate::dataset::writer::{ShardWriter, image_column, text_column};

/// Rows and payload after which a batch is handed to Parquet.
const BATCH_ROWS: usize = 512;
const BATCH_BYTES: u64 = 8 << 20;
/// Most rows of a shard: its index lies in memory until it is closed, and whenever it is read.
const SHARD_ROWS: usize = 1 << 16;
/// Bytes that a row takes besides its image, about.
const ROW_BYTES: u64 = 160;

/// The shards of an ingest, in its working folder until they are published.
pub(super) struct Shards<'a> {
    destination: &'a Destination,
    split: &'a str,
    classes: &'a [String],
    shard_bytes: u64,
    open: Option<ShardWriter>,
    written: u64,
    rows: usize,
    pending: Vec<(StoredImage, String, String)>,
    pending_bytes: u64,
    finished: Vec<ShardEntry>,
}

impl<'a> Shards<'a> {
    /// Shards that follow the `finished` ones.
    pub(super) fn new(
        destination: &'a Destination,
        plan: &'a IngestPlan,
        finished: Vec<ShardEntry>,
    ) -> Self {
        Self {
            destination,
            split: &plan.split,
            classes: &plan.classes,
            shard_bytes: plan.shard_bytes,
            open: None,
            written: 0,
            rows: 0,
            pending: Vec::new(),
            pending_bytes: 0,
            finished,
        }
    }

    /// Appends an image; gives the number of the shard that it was the last one of, with its entry.
    pub(super) fn push(
        &mut self,
        image: StoredImage,
        key: String,
        source: &str,
    ) -> Result<Option<(usize, ShardEntry)>> {
        self.pending_bytes += image.bytes.len() as u64 + ROW_BYTES;
        self.pending.push((image, key, source.to_owned()));
        self.rows += 1;
        let full = self.written + self.pending_bytes >= self.shard_bytes || self.rows == SHARD_ROWS;
        if full || self.pending.len() >= BATCH_ROWS || self.pending_bytes >= BATCH_BYTES {
            self.flush()?;
        }
        if !full {
            return Ok(None);
        }
        self.close()?;
        let number = self.finished.len() - 1;
        Ok(self.finished.last().map(|entry| (number, entry.clone())))
    }

    /// Publishes nothing yet: closes the last shard and names all. Also tells the number of the shard
    /// that was closed only now.
    pub(super) fn finish(mut self) -> Result<(Vec<ShardEntry>, Option<usize>)> {
        let before = self.finished.len();
        self.flush()?;
        self.close()?;
        let count = self.finished.len();
        for (number, shard) in self.finished.iter_mut().enumerate() {
            shard.file = format!("data/{}-{number:05}-of-{count:05}.parquet", self.split);
        }
        Ok((self.finished, (count > before).then_some(before)))
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut writer = match self.open.take() {
            Some(writer) => writer,
            None => {
                let path = self.destination.staged(self.finished.len())?;
                ShardWriter::create(&path, &IMAGES, self.classes)?
            }
        };
        let rows = &self.pending;
        let int = |value: fn(&StoredImage) -> u32| {
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| value(&row.0) as i32)))
        };
        let columns: Vec<arrow_array::ArrayRef> = vec![
            image_column(
                rows.iter().map(|(image, ..)| (image.bytes.as_slice(), image.path.as_str())),
            ),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(image, ..)| image.label))),
            text_column(rows.iter().map(|(_, key, _)| key.as_str())),
            text_column(rows.iter().map(|(image, ..)| image.sha256.as_str())),
            int(|image| image.width),
            int(|image| image.height),
            text_column(rows.iter().map(|(image, ..)| image.format)),
            text_column(rows.iter().map(|(.., source)| source.as_str())),
            int(|image| image.orientation.into()),
            text_column(rows.iter().map(|(image, ..)| image.source_sha256.as_str())),
        ];
        writer.write(columns, self.pending_bytes)?;
        self.written += self.pending_bytes;
        self.pending_bytes = 0;
        self.pending.clear();
        self.open = Some(writer);
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.open.take() {
            self.finished.push(writer.finish("")?);
        }
        (self.written, self.rows) = (0, 0);
        Ok(())
    }
}

/// Writes `rejects.parquet` into the working folder.
pub(super) fn write_rejects(destination: &Destination, rejects: &[Reject]) -> Result<()> {
    let columns =
        [("key", ColumnType::Text), ("source", ColumnType::Text), ("reason", ColumnType::Text)];
    let mut writer = ShardWriter::create(&destination.staged_rejects()?, &columns, &[])?;
    for rejects in rejects.chunks(4096) {
        let columns = vec![
            text_column(rejects.iter().map(|reject| reject.key.as_str())),
            text_column(rejects.iter().map(|reject| reject.source.as_str())),
            text_column(rejects.iter().map(|reject| reject.reason.as_str())),
        ];
        writer.write(columns, 0)?;
    }
    writer.finish("")?;
    Ok(())
}
