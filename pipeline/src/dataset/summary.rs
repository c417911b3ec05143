//! `pipeline inspect`: what a dataset holds, from its small columns and its rejects.

use std::collections::BTreeMap;
use std::fs::File;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Dataset;
use crate::{Error, Result};

/// What a dataset holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Name of the dataset.
    pub name: String,
    /// Split.
    pub split: String,
    /// SHA-256 of the manifest.
    pub digest: String,
    /// Images.
    pub rows: u64,
    /// Shards.
    pub shards: u64,
    /// Bytes of all shards.
    pub bytes: u64,
    /// Images by format.
    pub formats: BTreeMap<String, u64>,
    /// Shorter sides in pixels.
    pub short_side: Spread,
    /// Longer sides in pixels.
    pub long_side: Spread,
    /// Bytes a shard takes for an image.
    pub file_bytes: Spread,
    /// Images by class.
    pub classes: BTreeMap<String, u64>,
    /// What became of the files of the sources.
    pub counts: super::Counts,
    /// Files that were left out, by reason.
    pub rejects: BTreeMap<String, Rejects>,
}

/// Smallest, middle and largest of many numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Spread {
    /// Smallest.
    pub min: u64,
    /// Middle.
    pub median: u64,
    /// Largest.
    pub max: u64,
}

/// Files left out for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rejects {
    /// How many.
    pub files: u64,
    /// The first of them, with its reason in full.
    pub first: String,
}

/// Counts of values; sides and sizes repeat, so that this stays small.
#[derive(Default)]
struct Histogram(BTreeMap<u64, u64>);

impl Histogram {
    fn add(&mut self, value: u64) {
        *self.0.entry(value).or_default() += 1;
    }

    fn spread(&self) -> Spread {
        let total: u64 = self.0.values().sum();
        let mut seen = 0;
        let median = self.0.iter().find(|(_, count)| {
            seen += **count;
            2 * seen >= total
        });
        Spread {
            min: self.0.keys().next().copied().unwrap_or(0),
            median: median.map_or(0, |(value, _)| *value),
            max: self.0.keys().next_back().copied().unwrap_or(0),
        }
    }
}

/// A file that was left out at ingest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its key.
    pub key: String,
    /// Archive or folder that it is in.
    pub source: String,
    /// Why, as `kind: detail`.
    pub reason: String,
}

impl Dataset {
    /// Reads the small columns of all shards and the rejects.
    ///
    /// # Errors
    /// Where a shard or `rejects.parquet` cannot be read.
    pub fn summary(&self) -> Result<Summary> {
        let manifest = self.manifest();
        let mut summary = Summary {
            name: manifest.name.clone(),
            split: manifest.split.clone(),
            digest: self.digest.clone(),
            rows: manifest.rows,
            shards: manifest.shards.len() as u64,
            bytes: manifest.shards.iter().map(|shard| shard.bytes).sum(),
            counts: manifest.counts,
            ..Summary::default()
        };
        let [mut short, mut long, mut file] = [(); 3].map(|()| Histogram::default());
        for number in 0..manifest.shards.len() {
            self.small_columns(number, &mut summary, &mut short, &mut long)?;
            for length in self.shard(number)?.image_lengths() {
                // Two digits are enough of a size, and bound the histogram.
                let unit = 10u64.pow(length.max(1).ilog10().saturating_sub(1));
                file.add(length / unit * unit);
            }
        }
        (summary.short_side, summary.long_side) = (short.spread(), long.spread());
        summary.file_bytes = file.spread();
        for reject in self.rejects()? {
            let kind = reject.reason.split(':').next().unwrap_or_default().to_owned();
            let group = summary.rejects.entry(kind).or_default();
            if group.files == 0 {
                group.first = format!("{} ({})", reject.key, reject.reason);
            }
            group.files += 1;
        }
        Ok(summary)
    }

    fn small_columns(
        &self,
        number: usize,
        summary: &mut Summary,
        short: &mut Histogram,
        long: &mut Histogram,
    ) -> Result<()> {
        let path = self.folder.join(&self.manifest().shards[number].file);
        let wrong = || Error::dataset(&path, "columns are not those of a shard");
        let columns = ["label", "width", "height", "format"];
        for batch in read(&path, &columns)? {
            let batch = batch?;
            let ints = |name: &str| {
                Some(batch.column_by_name(name)?.as_primitive_opt::<Int32Type>()?.values())
            };
            let (width, height) =
                (ints("width").ok_or_else(wrong)?, ints("height").ok_or_else(wrong)?);
            for (&width, &height) in width.iter().zip(height) {
                short.add(width.min(height) as u64);
                long.add(width.max(height) as u64);
            }
            let formats = batch.column_by_name("format").and_then(|c| c.as_string_opt::<i32>());
            for format in formats.ok_or_else(wrong)?.iter().flatten() {
                match summary.formats.get_mut(format) {
                    Some(count) => *count += 1,
                    None => _ = summary.formats.insert(format.to_owned(), 1),
                }
            }
            let labels =
                batch.column_by_name("label").and_then(|c| c.as_primitive_opt::<Int64Type>());
            for &label in labels.ok_or_else(wrong)?.values() {
                let class =
                    usize::try_from(label).ok().and_then(|at| self.manifest().classes.get(at));
                if let Some(class) = class {
                    *summary.classes.entry(class.clone()).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    /// The files that were left out at ingest, in order.
    ///
    /// # Errors
    /// Where `rejects.parquet` cannot be read.
    pub fn rejects(&self) -> Result<Vec<Rejected>> {
        let path = self.folder.join("rejects.parquet");
        let mut rejects = Vec::new();
        for batch in read(&path, &["key", "source", "reason"])? {
            let batch = batch?;
            let texts = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
            let (Some(keys), Some(sources), Some(reasons)) =
                (texts("key"), texts("source"), texts("reason"))
            else {
                return Err(Error::dataset(&path, "columns are not key, source, reason"));
            };
            for row in 0..batch.num_rows() {
                let [key, source, reason] =
                    [keys, sources, reasons].map(|column| column.value(row).to_owned());
                rejects.push(Rejected { key, source, reason });
            }
        }
        Ok(rejects)
    }
}

/// Batches of some columns of a Parquet file.
fn read(
    path: &std::path::Path,
    columns: &[&str],
) -> Result<impl Iterator<Item = Result<arrow_array::RecordBatch>> + use<>> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(Error::parquet(path))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let reader = builder
        .with_projection(mask)
        .with_batch_size(8192)
        .build()
        .map_err(Error::parquet(path))?;
    let path = path.to_owned();
    Ok(reader.map(move |batch| batch.map_err(|error| Error::parquet(&path)(error.into()))))
}
