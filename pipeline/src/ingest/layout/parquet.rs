//! Parquet after the convention of Hugging Face `datasets`: a file or a folder of them, each row an
//! image as `struct<bytes, path>` or plain bytes, a label where there is a column of labels. Our own
//! datasets are such folders. Rows are read in small batches of the needed columns only.
//!
//! The key is the text of the column `key` where there is one, else the file's name without its ending
//! and the number of the row in it, `train-00000-of-00012/17`: both are unique and do not change.

mod columns;

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::classes::{Classes, unknown};
use super::files::Files;
use super::member;
use super::{Ended, Item, Layout, Sink, SourceMetadata, SourceOptions, names};
use crate::{Error, Result};
use columns::Columns;

/// Rows that are in memory at once.
const BATCH: usize = 8;
/// Rows of labels alone.
const LABELS: usize = 8192;

pub(super) struct Parquet {
    shards: Vec<Shard>,
    classes: Classes,
    /// For each label of the files its place among the classes.
    labels: Vec<usize>,
    metadata: SourceMetadata,
    max_bytes: u64,
}

/// One file.
struct Shard {
    path: PathBuf,
    /// Path below the source, without ending.
    name: String,
    columns: Columns,
    rows: u64,
    bytes: u64,
}

type Builder = ParquetRecordBatchReaderBuilder<File>;

/// True for names of files with rows; `rejects.parquet` of our own datasets has no images.
pub(super) fn is_name(name: &str) -> bool {
    names::has_ending(name, &["parquet"])
        && !names::is_hidden(name)
        && names::file_name(name) != "rejects.parquet"
}

impl Parquet {
    pub(super) fn open(source: &Path, options: &SourceOptions) -> Result<Self> {
        let (split, paths) = choose(source, shards_below(source)?, options.split.as_deref())?;
        let mut shards = Vec::new();
        for (name, path) in paths {
            shards.push(Shard::open(name, path)?);
        }
        let own = shards[0].columns.classes.clone();
        if let Some(other) = shards.iter().find(|shard| shard.columns.classes != own) {
            let message = format!("{} has other class names than the first file", other.name);
            return Err(Error::source(source, message));
        }
        let wrong = |message: String| Error::source(source, message);
        let list = options.classes.as_deref().map(Classes::read).transpose()?;
        let (classes, labels) = match own {
            Some(own) => {
                let place = |classes: &Classes, name: &String| {
                    classes.label(name).ok_or_else(|| unknown(source, name))
                };
                let classes = match list {
                    Some(list) => list,
                    None => Classes::in_order(own.clone()).map_err(wrong)?,
                };
                let labels = own.iter().map(|name| place(&classes, name)).collect::<Result<_>>()?;
                (classes, labels)
            }
            None => {
                let classes = match list {
                    Some(list) => list,
                    None => Classes::numbers(count_labels(&shards)?).map_err(wrong)?,
                };
                let labels = (0..classes.names().len()).collect();
                (classes, labels)
            }
        };
        let rows: u64 = shards.iter().map(|shard| shard.rows).sum();
        let files = shards.len();
        let found = match classes.names().len() {
            0 => format!("{rows} rows in {files} parquet files, without labels"),
            classes => format!("{rows} rows in {files} parquet files, {classes} classes"),
        };
        let bytes = shards.iter().map(|shard| shard.bytes).sum();
        let metadata = SourceMetadata { bytes, found, split, published: None, official: false };
        Ok(Self { shards, classes, labels, metadata, max_bytes: options.max_bytes })
    }
}

/// One more than the largest label of all files.
fn count_labels(shards: &[Shard]) -> Result<usize> {
    let mut count = 0;
    for shard in shards {
        count = count.max(shard.largest_label()?.map_or(0, |label| label.saturating_add(1)));
    }
    Ok(count)
}

/// The files of a source as (name without ending, path), in order of their names.
fn shards_below(source: &Path) -> Result<Vec<(String, PathBuf)>> {
    let files = Files::open(source)?;
    let stem = |name: &str| name[..name.len() - ".parquet".len()].to_owned();
    if files.length().is_some() {
        let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = if is_name(&name) { stem(&name) } else { name };
        return Ok(vec![(name, source.to_owned())]);
    }
    let mut shards = Vec::new();
    files.scan(member::NONE, &mut |member| {
        if is_name(member.name) {
            shards.push((stem(member.name), source.join(member.name)));
        }
        Ok(true)
    })?;
    match shards.is_empty() {
        true => Err(Error::source(source, "holds no .parquet files")),
        false => Ok(shards),
    }
}

/// The split of a file: `train` of `data/train-00000-of-00012`, of `train/0000` and of `train`.
fn split_of(name: &str) -> Option<&str> {
    let file = names::file_name(name);
    fn numbered(file: &str) -> Option<&str> {
        let (rest, count) = file.rsplit_once("-of-")?;
        let (split, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let count = count.split('-').next().unwrap_or_default();
        (digits(number) && digits(count)).then_some(split)
    }
    if let Some(split) = numbered(file) {
        return Some(split);
    }
    let folder = names::file_name(names::parent(name));
    [file, folder].into_iter().find(|name| known_split(name).is_some())
}

/// `train`, `val` or `test` where a split is called so or alike.
fn known_split(name: &str) -> Option<&'static str> {
    match name {
        "train" | "training" => Some("train"),
        "val" | "valid" | "validation" | "dev" => Some("val"),
        "test" | "testing" | "eval" => Some("test"),
        _ => None,
    }
}

/// The files of one split, and what it stands for.
fn choose(
    source: &Path,
    shards: Vec<(String, PathBuf)>,
    wanted: Option<&str>,
) -> Result<(&'static str, Vec<(String, PathBuf)>)> {
    let mut splits: Vec<_> = shards.iter().map(|(name, _)| split_of(name)).collect();
    splits.sort_unstable();
    splits.dedup();
    let split = match splits.as_slice() {
        [split] => *split,
        splits => {
            let same = |split: &&Option<&str>| {
                let alike = |a, b| known_split(a).is_some() && known_split(a) == known_split(b);
                matches!((split, wanted), (Some(a), Some(b)) if *a == b || alike(a, b))
            };
            let known: Vec<_> = splits.iter().map(|split| split.unwrap_or("(none)")).collect();
            *splits.iter().find(same).ok_or_else(|| {
                let message = format!("holds the splits {}; name one by --split", known.join(", "));
                Error::source(source, message)
            })?
        }
    };
    let name = split.and_then(known_split).unwrap_or("train");
    let split = split.map(str::to_owned);
    let of_split = |(name, _): &(String, PathBuf)| split_of(name) == split.as_deref();
    Ok((name, shards.into_iter().filter(of_split).collect()))
}

impl Shard {
    fn open(name: String, path: PathBuf) -> Result<Self> {
        let builder = builder(&path)?;
        let columns = Columns::of(&builder).map_err(|message| Error::source(&path, message))?;
        let rows = builder.metadata().file_metadata().num_rows().max(0) as u64;
        let bytes = std::fs::metadata(&path).map_err(Error::io("read", &path))?.len();
        Ok(Self { path, name, columns, rows, bytes })
    }

    /// Reads these columns of the rows from `from` on.
    fn reader(
        &self,
        columns: Vec<usize>,
        from: u64,
        rows: usize,
    ) -> Result<ParquetRecordBatchReader> {
        let builder = builder(&self.path)?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
        builder
            .with_projection(mask)
            .with_offset(from as usize)
            .with_batch_size(rows)
            .build()
            .map_err(damaged(&self.path))
    }

    fn largest_label(&self) -> Result<Option<usize>> {
        let Some(label) = self.columns.label else { return Ok(None) };
        let mut largest = None;
        for batch in self.reader(vec![label], 0, LABELS)? {
            let batch = batch.map_err(damaged(&self.path))?;
            for row in 0..batch.num_rows() {
                largest = largest.max(columns::label(batch.column(0), row));
            }
        }
        Ok(largest)
    }

    /// Hands the rows from `from` on to the sink; false where it asked to stop.
    fn read(&self, from: u64, labels: &[usize], max_bytes: u64, sink: &mut Sink) -> Result<bool> {
        let mut row_number = from;
        for batch in self.reader(self.columns.all(), from, BATCH)? {
            let batch = batch.map_err(damaged(&self.path))?;
            let rows = self.columns.rows(&batch).map_err(|m| Error::source(&self.path, m))?;
            for row in 0..batch.num_rows() {
                let place = |label: usize| {
                    labels.get(label).copied().ok_or_else(|| {
                        let message = format!(
                            "row {row_number} has the label {label}, there are {} classes; give \
                             the right --classes",
                            labels.len()
                        );
                        Error::source(&self.path, message)
                    })
                };
                let class = rows.label(row).map(place).transpose()?;
                let key = match rows.key(row) {
                    Some(key) => key.to_owned(),
                    None => format!("{}/{row_number}", self.name),
                };
                let path = rows.path(row).filter(|path| !path.is_empty()).unwrap_or(&key);
                let path = names::file_name(path).to_owned();
                let content = match rows.bytes(row) {
                    Some(bytes) if bytes.len() as u64 > max_bytes => {
                        Err(format!("too many bytes: {}, at most {max_bytes}", bytes.len()))
                    }
                    Some(bytes) => Ok(bytes.to_vec()),
                    None => Err("null: the row has no image bytes".into()),
                };
                row_number += 1;
                if !sink(Item { key, path, class, content }) {
                    return Ok(false);
                }
            }
        }
        if row_number != self.rows.max(from) {
            let message = format!("has {row_number} rows, its footer says {}", self.rows);
            return Err(Error::source(&self.path, message));
        }
        Ok(true)
    }
}

impl Layout for Parquet {
    fn classes(&self) -> &[String] {
        self.classes.names()
    }

    fn metadata(&self) -> &SourceMetadata {
        &self.metadata
    }

    fn read(self: Box<Self>, from: u64, sink: &mut Sink) -> Result<Ended> {
        let mut before = 0;
        for shard in &self.shards {
            let from = from.saturating_sub(before).min(shard.rows);
            before += shard.rows;
            if from < shard.rows && !shard.read(from, &self.labels, self.max_bytes, sink)? {
                break;
            }
        }
        Ok(Ended { bytes: self.metadata.bytes, sha256: None })
    }
}

fn builder(path: &Path) -> Result<Builder> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    Builder::try_new(file).map_err(damaged(path))
}

fn damaged<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Error {
    let path = path.to_owned();
    move |error| {
        Error::source(
            &path,
            format!("is no parquet file or a damaged one ({error}); copy it again"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_told_by_the_names_of_files() {
        assert_eq!(split_of("data/train-00000-of-00012"), Some("train"));
        assert_eq!(split_of("data/part-of-train-00000-of-00012"), Some("part-of-train"));
        assert_eq!(split_of("default/validation/0000"), Some("validation"));
        assert_eq!(split_of("test"), Some("test"));
        assert_eq!(split_of("images"), None);
        assert_eq!(split_of("train-00000-of-00012-0a1b2c"), Some("train"));
        assert_eq!(split_of("x-1-of-ééé"), None);
    }

    #[test]
    fn one_split_is_chosen_and_several_are_named() {
        let shards = |names: &[&str]| -> Vec<(String, PathBuf)> {
            names.iter().map(|&name| (name.to_owned(), PathBuf::from(name))).collect()
        };
        let source = Path::new("source");
        let two = ["validation-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"];
        let (split, chosen) = choose(source, shards(&two), Some("val")).unwrap();
        assert_eq!((split, chosen.len()), ("val", 1));
        let (split, chosen) = choose(source, shards(&two), Some("train")).unwrap();
        assert_eq!((split, chosen.len()), ("train", 2));
        let message = choose(source, shards(&two), None).unwrap_err().to_string();
        assert!(message.contains("holds the splits train, validation"), "{message}");
        let (split, chosen) = choose(source, shards(&["a", "b"]), Some("anything")).unwrap();
        assert_eq!((split, chosen.len()), ("train", 2));
    }
}
