//! Reading the small columns of a dataset from end to end, without its images.

use std::collections::HashMap;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use parquet::arrow::ProjectionMask;

use super::Dataset;
use super::pages::Chunks;
use crate::{Error, Result, guarded};
use storage::Ranges;

/// Rows that are read at a time.
const BATCH: usize = 512;

/// One row of a batch of columns; a column of another name or type than a dataset's is an error.
pub(super) struct Scanned<'a> {
    /// Its index in the dataset.
    pub(super) index: u64,
    batch: &'a RecordBatch,
    row: usize,
}

impl<'a> Scanned<'a> {
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        Some(self.batch.column_by_name(name)?.as_string_opt::<i32>()?.value(self.row))
    }

    pub(super) fn int(&self, name: &str) -> Option<i32> {
        Some(self.batch.column_by_name(name)?.as_primitive_opt::<Int32Type>()?.value(self.row))
    }

    /// Index of the class; negative where there is none.
    pub(super) fn label(&self) -> Option<i64> {
        Some(self.batch.column_by_name("label")?.as_primitive_opt::<Int64Type>()?.value(self.row))
    }

    /// First half of the SHA-256 of the source's file.
    pub(super) fn digest(&self) -> Option<[u8; 16]> {
        let own = self.text("source_sha256")?;
        let text = if own.is_empty() { self.text("sha256")? } else { own };
        let mut digest = [0; 16];
        for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(digest)
    }
}

impl Dataset {
    /// Key and class of every image, in the dataset's order; read from the small columns alone.
    ///
    /// # Errors
    /// Where a shard cannot be read.
    pub fn labels(&self) -> Result<Vec<(String, Option<i64>)>> {
        let mut all = vec![(String::new(), None); self.len() as usize];
        self.scan(&["key", "label"], &mut |row| {
            let label = row.label().filter(|&label| label >= 0);
            *all.get_mut(row.index as usize)? = (row.text("key")?.to_owned(), label);
            Some(())
        })?;
        Ok(all)
    }

    /// Of every image the first half of the SHA-256 of the file that it came as, in the dataset's order; read from the
    /// small columns alone.
    ///
    /// # Errors
    /// Where a shard cannot be read.
    pub fn digests(&self) -> Result<Vec<[u8; 16]>> {
        let mut all = vec![[0; 16]; self.len() as usize];
        self.scan(&["sha256", "source_sha256"], &mut |row| {
            *all.get_mut(row.index as usize)? = row.digest()?;
            Some(())
        })?;
        Ok(all)
    }

    /// Visits every image's row in these columns, in the order of the shards; a visit that answers
    /// nothing met a column that is not as it must be.
    pub(super) fn scan(
        &self,
        columns: &[&str],
        visit: &mut dyn FnMut(&Scanned) -> Option<()>,
    ) -> Result<()> {
        let chosen: Option<HashMap<u64, u64>> = self.manifest.cut.as_ref().map(|cut| {
            cut.rows.iter().zip(0..).map(|(&row, index)| (u64::from(row), index)).collect()
        });
        let shards = self.manifest.shards.iter().zip(&self.firsts).zip(self.used());
        for ((entry, &first), _) in shards.filter(|(_, used)| *used) {
            let ranges = self.shards_in.file(&entry.file, entry.bytes)?;
            let place = format!("{}/{}", self.shards_in.place(), entry.file);
            let mut at = first;
            for batch in batches(ranges, &place, columns)? {
                let batch = batch?;
                for row in 0..batch.num_rows() {
                    let index = match &chosen {
                        None => Some(at),
                        Some(chosen) => chosen.get(&at).copied(),
                    };
                    at += 1;
                    let Some(index) = index else { continue };
                    visit(&Scanned { index, batch: &batch, row }).ok_or_else(|| {
                        Error::dataset(&place, "columns are not those of a shard")
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// Batches of some columns of a Parquet file.
pub(super) fn batches(
    file: Ranges,
    place: &str,
    columns: &[&str],
) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let builder = guarded::open(Chunks(file), BATCH).map_err(Error::parquet(place))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let batches = guarded::batches(builder.with_projection(mask)).map_err(Error::parquet(place))?;
    let place = place.to_owned();
    Ok(batches.map(move |batch| batch.map_err(Error::parquet(&place))))
}
