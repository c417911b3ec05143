//! Rows of outputs, to and from the columns of a shard.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, UInt64Type};
use arrow_array::{ArrayRef, Int32Array, RecordBatch, UInt64Array};
use pipeline::dataset::shards::{ColumnType, image_column, text_column};

use crate::Variant;

/// The columns of a shard.
pub(crate) const COLUMNS: [(&str, ColumnType); 8] = [
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
    /// The task with the degradation that was undone.
    pub task: Variant,
}

impl OutputRow {
    /// Bytes of its images.
    pub(crate) fn bytes(&self) -> usize {
        self.source.len() + self.mask.len() + self.output.len() + self.reference.len()
    }
}

/// An image of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputImage {
    /// What the network was given.
    Source,
    /// White where pixels were generated.
    Mask,
    /// What it made.
    Output,
    /// The photograph that it was to restore.
    Reference,
}

impl OutputImage {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Source, Self::Mask, Self::Output, Self::Reference];

    /// The column of a shard that holds it.
    pub fn column(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Mask => "mask",
            Self::Output => "output",
            Self::Reference => "reference",
        }
    }
}

/// What tells an output from all others of its dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputName {
    /// Key of the record.
    pub key: String,
    /// Number of the sample of this record, from 0.
    pub sample: u32,
    /// The task with the degradation that was undone.
    pub task: Variant,
}

/// Rows as the columns of a shard.
pub(crate) fn columns(rows: &[OutputRow]) -> Vec<ArrayRef> {
    let names: Vec<_> = rows
        .iter()
        .map(|row| format!("{}-{}-{}.png", row.key, row.task.file_name(), row.sample))
        .collect();
    let variants: Vec<_> = rows.iter().map(|row| row.task.to_string()).collect();
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
        text_column(variants.iter().map(String::as_str)),
    ]
}

/// A row of the columns of a shard; none where they are not those of outputs.
pub(crate) fn row(batch: &RecordBatch, at: usize) -> Option<OutputRow> {
    let image = |name: &str| bytes(batch, name, at);
    let OutputName { key, sample, task } = name(batch, at)?;
    Some(OutputRow {
        source: image("source")?,
        mask: image("mask")?,
        output: image("output")?,
        reference: image("reference")?,
        key,
        seed: batch.column_by_name("seed")?.as_primitive_opt::<UInt64Type>()?.value(at),
        sample,
        task,
    })
}

/// The bytes of an image of a row.
pub(crate) fn bytes(batch: &RecordBatch, name: &str, at: usize) -> Option<Vec<u8>> {
    let column = batch.column_by_name(name)?.as_struct_opt()?;
    Some(column.column_by_name("bytes")?.as_binary_opt::<i32>()?.value(at).to_vec())
}

/// The name of a row, of the columns `key`, `sample` and `task` alone.
pub(crate) fn name(batch: &RecordBatch, at: usize) -> Option<OutputName> {
    let text =
        |name: &str| Some(batch.column_by_name(name)?.as_string_opt::<i32>()?.value(at).to_owned());
    let sample = batch.column_by_name("sample")?.as_primitive_opt::<Int32Type>()?.value(at);
    Some(OutputName {
        key: text("key")?,
        sample: sample.cast_unsigned(),
        task: text("task")?.parse().ok()?,
    })
}
