//! Parquet after the convention of Hugging Face `datasets`: a file or a folder of them, each row an
//! image as `struct<bytes, path>` or plain bytes, a label where there is a column of labels. Our own
//! datasets are such folders. Rows are read in small batches of the needed columns only.
//!
//! The key is the text of the column `key` where there is one, else the file's name without its ending
//! and the number of the row in it, `train-00000-of-00012/17`: both are unique and do not change.

mod columns;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use parquet::arrow::ProjectionMask;

use super::classes::{self, Classes, MAX_CLASSES};
use super::files::Files;
use super::member::{self, Body};
use super::{Ended, Item, Layout, Sink, SourceMetadata, SourceOptions, names};
use super::{formats, splits, tape};
use crate::ingest::origin::{Origin, Packed};
use crate::{Error, Result, guarded};
use columns::{Columns, Label};
use rows::Rows;

/// Rows that are in memory at once.
const BATCH: usize = 8;
/// Rows of labels alone.
const LABELS: usize = 512;

pub(super) struct Parquet {
    shards: Vec<Shard>,
    labels: Labels,
    metadata: SourceMetadata,
    notes: Vec<String>,
    max_bytes: u64,
}

/// One file.
struct Shard {
    file: Packed,
    /// Path below the source, without ending.
    name: String,
    columns: Columns,
    rows: u64,
    bytes: u64,
}

type Builder = guarded::Builder<Rows>;

/// True for names of files with rows; `rejects.parquet` of our own datasets has no images.
pub(super) fn is_name(name: &str) -> bool {
    names::has_ending(name, &["parquet"])
        && !names::is_hidden(name)
        && names::file_name(name) != "rejects.parquet"
}

impl Parquet {
    pub(super) fn open(origin: &Origin, options: &SourceOptions) -> Result<Self> {
        let source = origin.name();
        let files = Files::open(origin, options.split_folder.as_deref())?;
        let (split, paths) = choose(source, shards_below(&files)?, options.split.as_deref())?;
        // A file that is named by itself is what is meant.
        if files.length().is_none() {
            check_complete(source, &paths)?;
        }
        let mut shards = Vec::new();
        for (name, file) in paths {
            shards.push(Shard::open(name, file, options.label_column.as_deref())?);
        }
        let mut notes = files.notes();
        let survey = settle_labels(source, &mut shards, options, &mut notes)?;
        if options.classes.is_some() && shards.iter().all(|shard| shard.columns.label.is_none()) {
            return Err(classes::unlabelled(source));
        }
        let own = shards.first().and_then(|shard| shard.columns.classes.clone());
        if let Some(other) = shards.iter().find(|shard| shard.columns.classes != own) {
            let message = match (&own, &other.columns.classes) {
                (Some(_), None) => format!("{} has no class names, the first file has", other.name),
                (None, _) => format!("{} has class names, the first file has none", other.name),
                _ => format!("{} has other class names than the first file", other.name),
            };
            let message = format!("{message}; name those of one kind one by one");
            return Err(Error::source(source, message));
        }
        let wrong = |message: String| Error::source(source, message);
        let list = options.classes.as_ref();
        let classes = match (own, list) {
            _ if !survey.texts.is_empty() => {
                let (classes, missing) = Classes::settle(source, &survey.texts, list)?;
                notes.extend(missing);
                Labels { classes, places: Vec::new() }
            }
            (Some(own), Some(list)) => {
                let found = own.iter().cloned().collect();
                let (classes, missing) = Classes::settle(source, &found, Some(list))?;
                notes.extend(missing);
                let places = own.iter().filter_map(|name| classes.label(name)).collect();
                Labels { classes, places }
            }
            (own, list) => {
                let classes = match (own, list) {
                    (_, Some(list)) => Classes::of(list)?,
                    (Some(own), None) => Classes::in_order(own).map_err(wrong)?,
                    (None, None) => {
                        let count = survey.largest.map_or(0, |label| label.saturating_add(1));
                        Classes::numbers(count).map_err(wrong)?
                    }
                };
                let places = (0..classes.names().len()).collect();
                Labels { classes, places }
            }
        };
        let count = classes.places.len();
        if let Some(largest) = survey.largest.filter(|&label| label >= count && count > 0) {
            let message = format!(
                "has the label {largest}, there are {count} classes; give the right --classes"
            );
            return Err(wrong(message));
        }
        let rows: u64 = shards.iter().map(|shard| shard.rows).sum();
        let files = shards.len();
        let found = match classes.classes.names().len() {
            0 => format!("{rows} rows in {files} parquet files, without labels"),
            classes => format!("{rows} rows in {files} parquet files, {classes} classes"),
        };
        let bytes = shards.iter().map(|shard| shard.bytes).sum();
        let metadata = SourceMetadata { bytes, found, split, published: None, official: false };
        Ok(Self { shards, labels: classes, metadata, notes, max_bytes: options.max_bytes })
    }
}

/// What the columns of labels hold.
#[derive(Default)]
struct Survey {
    largest: Option<usize>,
    texts: BTreeSet<String>,
    /// The first number that is not whole.
    broken: Option<String>,
}

/// Looks at all labels. A column of numbers that are not whole is none of labels: it is passed over
/// with a note, or an error where labels are asked for.
fn settle_labels(
    source: &Path,
    shards: &mut [Shard],
    options: &SourceOptions,
    notes: &mut Vec<String>,
) -> Result<Survey> {
    let mut survey = Survey::default();
    for shard in shards.iter() {
        shard.survey(&mut survey)?;
    }
    if !survey.texts.is_empty() && survey.largest.is_some() {
        let message = "has labels that are text in one file and numbers in another";
        return Err(Error::source(source, message));
    }
    let asked = options.label_column.is_some();
    if let Some(broken) = &survey.broken {
        let message = format!("has labels that are not whole numbers, {broken}");
        if asked || options.classes.is_some() {
            return Err(Error::source(source, message));
        }
        notes.push(format!("{message}: they are passed over"));
        shards.iter_mut().for_each(|shard| shard.columns.drop_label());
        survey = Survey::default();
    }
    let mut passed: Vec<String> = Vec::new();
    for column in shards.iter().flat_map(|shard| &shard.columns.passed_over) {
        if !passed.contains(column) && passed.len() < 10 {
            passed.push(column.clone());
        }
    }
    let unlabelled = shards.iter().all(|shard| shard.columns.label.is_none());
    if !passed.is_empty() {
        let passed = format!("`{}`", passed.join("`, `"));
        if unlabelled && options.classes.is_some() {
            let message = format!(
                "has no column that is known for labels, but {passed}; name one by --label-column"
            );
            return Err(Error::source(source, message));
        }
        let what = if unlabelled { "no labels are read" } else { "of columns that may be labels" };
        notes.push(format!("{what}: passed over is {passed}, see --label-column"));
    }
    Ok(survey)
}

/// The classes, and for each number in the files its place among them.
struct Labels {
    classes: Classes,
    places: Vec<usize>,
}

/// The files of a source as (name without ending, file), in order of their names.
fn shards_below(files: &Files) -> Result<Vec<(String, Packed)>> {
    let source = files.path();
    let stem = |name: &str| name[..name.len() - ".parquet".len()].to_owned();
    if files.length().is_some() {
        let name = files.origin().file_name();
        let name = if is_name(name) { stem(name) } else { name.to_owned() };
        return Ok(vec![(name, files.origin().packed())]);
    }
    let mut shards = Vec::new();
    files.scan(member::NONE, &mut |member| {
        match member.body {
            Body::Disk(path) if is_name(member.name) => {
                shards.push((stem(member.name), Packed::local(path)));
            }
            Body::Far(file) if is_name(member.name) => {
                shards.push((stem(member.name), Packed::far(file.clone())));
            }
            _ => {}
        }
        Ok(true)
    })?;
    match shards.is_empty() {
        true => Err(Error::source(source, "holds no .parquet files")),
        false => Ok(shards),
    }
}

/// The split of a file: `train` of `data/train-00000-of-00012`, `train/0000`, `train_1` and `x-train`.
fn split_of(name: &str) -> Option<&str> {
    let file = names::file_name(name);
    if let Some((split, ..)) = numbered(file) {
        return Some(split);
    }
    let words = file.split(|c: char| !c.is_ascii_alphabetic());
    let folders = names::parent(name).rsplit('/');
    words.chain(folders).find(|word| splits::known(word).is_some())
}

/// Split, number and count of `train-00000-of-00012`.
fn numbered(file: &str) -> Option<(&str, u64, u64)> {
    let (rest, count) = file.rsplit_once("-of-")?;
    let (split, number) = rest.rsplit_once('-')?;
    let number_of = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let count = count.split('-').next().unwrap_or_default();
    Some((split, number_of(number)?, number_of(count)?))
}

/// The files of one split, and what it stands for.
fn choose<F>(
    source: &Path,
    shards: Vec<(String, F)>,
    wanted: Option<&str>,
) -> Result<(&'static str, Vec<(String, F)>)> {
    let alike = |a: &str, b: &str| {
        a == b || splits::known(a).is_some() && splits::known(a) == splits::known(b)
    };
    // Splits, each by the first name that it is called.
    let mut splits: Vec<Option<&str>> = Vec::new();
    for split in shards.iter().map(|(name, _)| split_of(name)) {
        let is_new = |known: &Option<&str>| match (known, split) {
            (Some(known), Some(split)) => !alike(known, split),
            (known, split) => *known != split,
        };
        if splits.iter().all(is_new) {
            splits.push(split);
        }
    }
    splits.sort_unstable();
    let split = match splits.as_slice() {
        [split] => *split,
        splits => {
            let same = |split: &&Option<&str>| matches!((split, wanted), (Some(a), Some(b)) if alike(a, b));
            let known: Vec<_> = splits.iter().map(|split| split.unwrap_or("(none)")).collect();
            *splits.iter().find(same).ok_or_else(|| {
                let message = format!("holds the splits {}; name one by --split", known.join(", "));
                Error::source(source, message)
            })?
        }
    };
    let name = split.and_then(splits::known).unwrap_or("train");
    let split = split.map(str::to_owned);
    let of_split = |(name, _): &(String, F)| match (split_of(name), split.as_deref()) {
        (Some(a), Some(b)) => alike(a, b),
        (a, b) => a == b,
    };
    let chosen: Vec<_> = shards.into_iter().filter(of_split).collect();
    Ok((name, chosen))
}

/// An error where files that are numbered `-of-` a count are not that many, or are of several datasets.
fn check_complete<F>(source: &Path, shards: &[(String, F)]) -> Result<()> {
    let mut sets: BTreeMap<(&str, &str, u64), BTreeSet<u64>> = BTreeMap::new();
    for (name, _) in shards {
        if let Some((split, number, count)) = numbered(names::file_name(name)) {
            sets.entry((names::parent(name), split, count)).or_default().insert(number);
        }
    }
    let mut of: Vec<_> = sets.keys().map(|(folder, _, count)| (*folder, *count)).collect();
    of.dedup();
    if let [(one, _), (other, _), ..] = of.as_slice() {
        let message = if one == other {
            format!(
                "{one} has files of several counts (`-of-`): name those that are meant one by one"
            )
        } else {
            format!(
                "holds several datasets side by side, in {one} and in {other}: name one by --split-folder, \
                 or as the source"
            )
        };
        return Err(Error::source(source, message));
    }
    for ((folder, split, count), numbers) in sets {
        let there = numbers.len() as u64;
        // Counted from 0, or from 1 as some do.
        let first = u64::from(!numbers.contains(&0) && numbers.contains(&count));
        if let Some(missing) =
            (first..first.saturating_add(count)).find(|number| !numbers.contains(number))
        {
            let file = format!("{split}-{missing:05}-of-{count:05}.parquet");
            let message = format!(
                "has {there} of the {count} files of {split}, {} is missing; download it, or name \
                 the files that are meant one by one",
                names::join(folder, &file)
            );
            return Err(Error::source(source, message));
        }
    }
    Ok(())
}

impl Shard {
    fn open(name: String, file: Packed, label: Option<&str>) -> Result<Self> {
        let builder = builder(&file, BATCH)?;
        let wrong = |message: String| Error::source(file.name(), message);
        let columns = Columns::of(&builder, label).map_err(wrong)?;
        columns.check_compression(&builder).map_err(wrong)?;
        let rows = builder.metadata().file_metadata().num_rows().max(0) as u64;
        let bytes = file.length()?;
        Ok(Self { file, name, columns, rows, bytes })
    }

    /// Reads these columns of the rows from `from` on.
    fn reader(&self, columns: Vec<usize>, from: u64, rows: usize) -> Result<guarded::Batches> {
        let builder = builder(&self.file, rows)?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
        let builder = builder.with_projection(mask).with_offset(from as usize);
        guarded::batches(builder).map_err(damaged(self.file.name()))
    }

    fn survey(&self, survey: &mut Survey) -> Result<()> {
        let Some(label) = self.columns.label else { return Ok(()) };
        for batch in self.reader(vec![label], 0, LABELS)? {
            let batch = batch.map_err(damaged(self.file.name()))?;
            for row in 0..batch.num_rows() {
                match columns::label(batch.column(0).as_ref(), row) {
                    Label::None => {}
                    Label::Number(label) => survey.largest = survey.largest.max(Some(label)),
                    Label::Text(text) if !survey.texts.contains(text) => {
                        survey.texts.insert(text.to_owned());
                        if survey.texts.len() > MAX_CLASSES {
                            let message = format!("has more than {MAX_CLASSES} labels");
                            return Err(Error::source(self.file.name(), message));
                        }
                    }
                    Label::Text(_) => {}
                    Label::Broken(number) => {
                        let first = || format!("the first {number} in {}", self.name);
                        survey.broken.get_or_insert_with(first);
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands the rows from `from` on to the sink; false where it asked to stop.
    fn read(&self, from: u64, labels: &Labels, max_bytes: u64, sink: &mut Sink) -> Result<bool> {
        let mut row_number = from;
        for batch in self.reader(self.columns.all(), from, BATCH)? {
            let batch = batch.map_err(damaged(self.file.name()))?;
            let rows = self.columns.rows(&batch).map_err(|m| Error::source(self.file.name(), m))?;
            for row in 0..batch.num_rows() {
                let class = match rows.label(row) {
                    Label::None => None,
                    Label::Number(label) => labels.places.get(label).copied(),
                    Label::Text(text) => labels.classes.label(text),
                    Label::Broken(_) => None,
                };
                if class.is_none() && !matches!(rows.label(row), Label::None) {
                    // Labels were looked at before: the file is another one now.
                    let message = format!("row {row_number} has a label that it had not before");
                    return Err(Error::source(self.file.name(), message));
                }
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
            return Err(Error::source(self.file.name(), message));
        }
        Ok(true)
    }
}

impl Layout for Parquet {
    fn classes(&self) -> &[String] {
        self.labels.classes.names()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
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
        Ok(Ended { bytes: self.metadata.bytes, sha256: None, notes: Vec::new() })
    }
}

fn builder(file: &Packed, rows: usize) -> Result<Builder> {
    let path = file.name();
    file.check_ranges("a parquet file")?;
    let mut head = vec![0; formats::HEAD];
    let count = tape::fill(&mut file.open()?, &mut head).map_err(Error::io("read", path))?;
    head.truncate(count);
    if !head.starts_with(b"PAR1") {
        let found = formats::of(&head, path);
        let message = format!("is no parquet file but {}; {}", found.name, found.remedy);
        return Err(Error::source(path, message));
    }
    guarded::open(Rows::open(file)?, rows).map_err(damaged(path))
}

fn damaged<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Error {
    let path = path.to_owned();
    move |error| Error::source(&path, format!("is a damaged parquet file ({error}); copy it again"))
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
        assert_eq!(split_of("train_1"), Some("train"));
        assert_eq!(split_of("cifar10-Test"), Some("Test"));
        assert_eq!(split_of("train/0000/part0"), Some("train"));
        assert_eq!(split_of("trainer"), None);
        assert_eq!(split_of("train-00000-of-00012-0a1b2c"), Some("train"));
        assert_eq!(split_of("x-1-of-ééé"), None);
    }

    #[test]
    fn one_split_is_chosen_and_several_are_named() {
        let shards = |names: &[&str]| -> Vec<(String, ())> {
            names.iter().map(|&name| (name.to_owned(), ())).collect()
        };
        let source = Path::new("source");
        let two = ["validation-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"];
        let (split, chosen) = choose(source, shards(&two), Some("val")).unwrap();
        assert_eq!((split, chosen.len()), ("val", 1));
        let (split, chosen) = choose(source, shards(&two), Some("train")).unwrap();
        assert_eq!((split, chosen.len()), ("train", 2));
        let message = choose(source, shards(&two), None).unwrap_err().to_string();
        assert!(message.contains("holds the splits train, validation"), "{message}");
        let complete = |names: &[&str]| {
            let (_, chosen) = choose(source, shards(names), None)?;
            check_complete(source, &chosen)
        };
        let message = |names: &[&str]| complete(names).unwrap_err().to_string();
        let mixed = message(&["train_1", "test_1"]);
        assert!(mixed.contains("holds the splits test, train; name one by --split"), "{mixed}");
        assert!(message(&["train-1", "images"]).contains("(none), train"));
        let missing = message(&["x/train-00000-of-00003", "x/train-00001-of-00003"]);
        let expected = "has 2 of the 3 files of train, x/train-00002-of-00003.parquet is missing";
        assert!(missing.contains(expected), "{missing}");
        assert!(complete(&["t-1-of-2", "t-2-of-2"]).is_ok());
        let side_by_side = message(&["a/train-00000-of-00001", "b/train-00000-of-00001"]);
        assert!(
            side_by_side.contains("in a and in b: name one by --split-folder"),
            "{side_by_side}"
        );
        let counts = message(&["a/train-0-of-1", "a/train-0-of-2", "a/train-1-of-2"]);
        assert!(counts.contains("a has files of several counts"), "{counts}");
        assert_eq!(choose(source, shards(&["val", "valid"]), None).unwrap().1.len(), 2);
        let (split, chosen) = choose(source, shards(&["a", "b"]), Some("anything")).unwrap();
        assert_eq!((split, chosen.len()), ("train", 2));
    }
}
