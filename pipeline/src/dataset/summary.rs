//! `pipeline inspect`: what a dataset holds, from its small columns and its rejects.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;

use super::{Dataset, scan};
use crate::{Error, Result};

/// The file of a dataset that lists what was left out.
pub(crate) const REJECTS: &str = "rejects.parquet";

/// What the reason of a line in that file begins with where the image is stored all the same.
pub(crate) const KEPT: &str = "kept";

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
    /// Images by shorter side, longer side and bytes (those to two digits).
    pub histograms: Histograms,
    /// Images by class.
    pub classes: BTreeMap<String, u64>,
    /// Images whose EXIF orientation is not upright.
    pub turned: u64,
    /// Images that are smaller copies, made at ingest.
    pub copies: u64,
    /// How a cut was chosen; none for a dataset with shards of its own.
    pub cut: Option<String>,
    /// What became of the files of the sources.
    pub counts: super::Counts,
    /// Files that were left out, by reason.
    pub rejects: BTreeMap<String, Rejects>,
    /// Files that are stored and listed all the same, by reason.
    pub noted: BTreeMap<String, Rejects>,
}

/// How sizes are spread.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Histograms {
    /// Images by shorter side in pixels.
    pub short_side: Histogram,
    /// Images by longer side in pixels.
    pub long_side: Histogram,
    /// Images by bytes, to two digits.
    pub file_bytes: Histogram,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Histogram(pub BTreeMap<u64, u64>);

impl Histogram {
    fn add(&mut self, value: u64) {
        *self.0.entry(value).or_default() += 1;
    }

    /// Smallest, middle and largest.
    pub fn spread(&self) -> Spread {
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

impl Rejected {
    /// True for an image that is stored all the same.
    fn is_kept(&self) -> bool {
        self.reason.starts_with(KEPT)
    }
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
        summary.cut = manifest.cut.as_ref().map(|cut| cut.how.clone());
        let mut sizes = Histograms::default();
        let columns = ["label", "width", "height", "format", "orientation", "source_sha256"];
        self.scan(&columns, &mut |row| {
            let (width, height) = (row.int("width")?, row.int("height")?);
            sizes.short_side.add(width.min(height) as u64);
            sizes.long_side.add(width.max(height) as u64);
            count(&mut summary.formats, row.text("format")?);
            let class = usize::try_from(row.label()?).ok().and_then(|at| manifest.classes.get(at));
            if let Some(class) = class {
                count(&mut summary.classes, class);
            }
            summary.turned += u64::from(row.int("orientation")? != 1);
            summary.copies += u64::from(!row.text("source_sha256")?.is_empty());
            Some(())
        })?;
        for length in self.image_lengths()? {
            // Two digits are enough of a size, and bound the histogram.
            let unit = 10u64.pow(length.max(1).ilog10().saturating_sub(1));
            sizes.file_bytes.add(length / unit * unit);
        }
        summary.short_side = sizes.short_side.spread();
        summary.long_side = sizes.long_side.spread();
        summary.file_bytes = sizes.file_bytes.spread();
        summary.histograms = sizes;
        for listed in self.listed()? {
            let kind = listed.reason.split(':').next().unwrap_or_default().to_owned();
            let groups = match listed.is_kept() {
                true => &mut summary.noted,
                false => &mut summary.rejects,
            };
            let group = groups.entry(kind).or_default();
            if group.files == 0 {
                group.first = format!("{} ({})", listed.key, listed.reason);
            }
            group.files += 1;
        }
        Ok(summary)
    }

    /// Bytes that each image takes, in any order.
    fn image_lengths(&self) -> Result<Vec<u64>> {
        let mut lengths = Vec::new();
        for number in 0..self.manifest.shards.len() {
            lengths.extend(self.shard(number)?.image_lengths());
        }
        Ok(match &self.manifest.cut {
            None => lengths,
            Some(cut) => cut.rows.iter().map(|&row| lengths[row as usize]).collect(),
        })
    }

    /// The files that were left out at ingest, in order.
    ///
    /// # Errors
    /// Where `rejects.parquet` cannot be read.
    pub fn rejects(&self) -> Result<Vec<Rejected>> {
        Ok(self.listed()?.into_iter().filter(|listed| !listed.is_kept()).collect())
    }

    /// The images that are stored and listed all the same, in order: damaged ones (`--on-damage keep`), and
    /// those that open here and not in other programs.
    ///
    /// # Errors
    /// Where `rejects.parquet` cannot be read.
    pub fn noted(&self) -> Result<Vec<Rejected>> {
        Ok(self.listed()?.into_iter().filter(Rejected::is_kept).collect())
    }

    /// All lines of `rejects.parquet`.
    fn listed(&self) -> Result<Vec<Rejected>> {
        let mut rejects = Vec::new();
        if self.manifest.cut.is_some() {
            return Ok(rejects);
        }
        let place = format!("{}/{REJECTS}", self.store.place());
        let length = self.store.size(REJECTS)?;
        let length = length.ok_or_else(|| Error::dataset(&place, "is not there; copy it again"))?;
        let file = self.store.file(REJECTS, length)?;
        for batch in scan::batches(file, &place, &["key", "source", "reason"])? {
            let batch = batch?;
            let texts = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
            let (Some(keys), Some(sources), Some(reasons)) =
                (texts("key"), texts("source"), texts("reason"))
            else {
                return Err(Error::dataset(&place, "columns are not key, source, reason"));
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

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => _ = counts.insert(name.to_owned(), 1),
    }
}
