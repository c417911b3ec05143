//! Where the pictures of a study come from: an output dataset of a sampling job, a dataset of
//! photographs, or a plain folder of pictures. All are asked by the keys of their records.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use image::RgbImage;
use pipeline::image as picture;
use pipeline::output::{OutputDataset, OutputRow};
use pipeline::{Dataset, Task};
use terminal::Usage;

/// A place that pictures come from.
pub struct Source {
    uri: String,
    pictures: Pictures,
}

enum Pictures {
    /// First samples of one task.
    Outputs { dataset: OutputDataset, task: Task, keys: BTreeSet<String> },
    /// Rows by key.
    Photographs { dataset: Box<Dataset>, rows: BTreeMap<String, u64> },
    /// Files by stem.
    Folder(BTreeMap<String, PathBuf>),
}

/// Which pictures of an output dataset are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// What the system made.
    Output,
    /// The photograph that it was to restore.
    Reference,
}

/// What became of the pictures that were asked for, by the keys that they were asked by.
pub type Decoded = HashMap<String, anyhow::Result<RgbImage>>;

impl Source {
    /// Opens a place; `task` says which of an output dataset's tasks is meant, where it has several.
    ///
    /// # Errors
    /// For a place that holds no pictures; for an output dataset of several tasks without `task`, and
    /// one without the task.
    pub fn open(uri: &str, task: Option<Task>) -> anyhow::Result<Self> {
        let local = pipeline::uri::local(uri).ok();
        let manifest = local.as_deref().map(|folder| folder.join("manifest.json"));
        let pictures = match (&local, manifest.filter(|path| path.is_file())) {
            (_, Some(manifest)) if is_outputs(&manifest)? => outputs(uri, task)?,
            (Some(folder), None) => Pictures::Folder(files(folder)?),
            _ => photographs(uri)?,
        };
        Ok(Self { uri: uri.to_owned(), pictures })
    }

    /// The address as it was given.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// True for an output dataset, which has the photographs beside the outputs.
    pub fn has_references(&self) -> bool {
        matches!(self.pictures, Pictures::Outputs { .. })
    }

    /// The keys of all pictures; the stems of files in a plain folder.
    pub fn keys(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match &self.pictures {
            Pictures::Outputs { keys, .. } => Box::new(keys.iter().map(String::as_str)),
            Pictures::Photographs { rows, .. } => Box::new(rows.keys().map(String::as_str)),
            Pictures::Folder(files) => Box::new(files.keys().map(String::as_str)),
        }
    }

    /// Finds the own keys of the records that another source calls by its keys: the same ones. Where
    /// one of the two is a plain folder, a file's name without folder and ending will do, if no other
    /// record has the same.
    pub fn matching<'a>(&'a self, other: &'a Self) -> impl Fn(&str) -> Option<&'a str> {
        let own: BTreeSet<&str> = self.keys().collect();
        let folder = self.is_folder() || other.is_folder();
        let stems = if folder { unique_stems(self.keys()) } else { HashMap::new() };
        let others = if folder { unique_stems(other.keys()) } else { HashMap::new() };
        move |key| {
            if let Some(own) = own.get(key) {
                return Some(*own);
            }
            let stem = stem(key);
            others.get(stem)?.as_ref()?;
            *stems.get(stem)?
        }
    }

    fn is_folder(&self) -> bool {
        matches!(self.pictures, Pictures::Folder(_))
    }

    /// Reads and decodes the pictures of these own keys; `column` matters for output datasets alone.
    ///
    /// # Errors
    /// Where an output dataset cannot be read on. A picture that cannot be used is told in its place.
    pub fn read(&self, wanted: &BTreeSet<&str>, column: Column) -> anyhow::Result<Decoded> {
        let bytes: Vec<(String, anyhow::Result<Vec<u8>>)> = match &self.pictures {
            Pictures::Outputs { dataset, task, .. } => {
                let asked = |row: &OutputRow| {
                    row.sample == 0 && row.task == *task && wanted.contains(row.key.as_str())
                };
                let mut found = Vec::new();
                for row in dataset.rows() {
                    let row = row?;
                    if asked(&row) {
                        let bytes = match column {
                            Column::Output => row.output,
                            Column::Reference => row.reference,
                        };
                        found.push((row.key, Ok(bytes)));
                    }
                }
                found
            }
            Pictures::Photographs { dataset, rows } => wanted
                .iter()
                .filter_map(|key| Some((*key, *rows.get(*key)?)))
                .map(|(key, row)| {
                    let read = dataset.photograph(row).map(|(_, bytes)| bytes.to_vec());
                    (key.to_owned(), read.map_err(Into::into))
                })
                .collect(),
            Pictures::Folder(files) => wanted
                .iter()
                .filter_map(|key| Some((*key, files.get(*key)?)))
                .map(|(key, path)| (key.to_owned(), read_file(path)))
                .collect(),
        };
        // As `sampler` reads them: single files stand upright by EXIF, rows of datasets as they are.
        let decode = |bytes: Vec<u8>| {
            let turns = if self.is_folder() { picture::orientation(&bytes) } else { 1 };
            Ok(picture::apply_orientation(picture::decode(&bytes)?, turns))
        };
        Ok(bytes.into_iter().map(|(key, bytes)| (key, bytes.and_then(decode))).collect())
    }
}

fn is_outputs(manifest: &Path) -> anyhow::Result<bool> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: Option<String>,
    }
    let bytes = fs::read(manifest).with_context(|| manifest.display().to_string())?;
    let format: Format =
        serde_json::from_slice(&bytes).with_context(|| manifest.display().to_string())?;
    Ok(format.format.as_deref() == Some("palette-outputs"))
}

fn outputs(uri: &str, wanted: Option<Task>) -> anyhow::Result<Pictures> {
    let dataset = OutputDataset::open(uri)?;
    let names = dataset.names()?;
    let tasks: BTreeSet<Task> = names.iter().map(|name| name.task).collect();
    let task = match wanted {
        Some(task) if tasks.contains(&task) => task,
        Some(task) => {
            return Err(Usage::new(format!(
                "{uri} has no outputs of {task}, only of {}",
                list(&tasks)
            ))
            .into());
        }
        None if tasks.len() > 1 => {
            return Err(Usage::new(format!(
                "{uri} has outputs of {}: say which with --task",
                list(&tasks)
            ))
            .into());
        }
        None => tasks.into_iter().next().with_context(|| format!("{uri} holds no outputs"))?,
    };
    let first = names.into_iter().filter(|name| name.task == task && name.sample == 0);
    Ok(Pictures::Outputs { keys: first.map(|name| name.key).collect(), dataset, task })
}

fn list(tasks: &BTreeSet<Task>) -> String {
    tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn photographs(uri: &str) -> anyhow::Result<Pictures> {
    let dataset = Dataset::open(uri)?;
    let mut rows = BTreeMap::new();
    for row in 0..dataset.len() {
        rows.entry(dataset.key(row)?).or_insert(row);
    }
    Ok(Pictures::Photographs { dataset: Box::new(dataset), rows })
}

const ENDINGS: [&str; 4] = ["jpeg", "jpg", "png", "webp"];

/// A key's or a file's name without folder and without the ending of a picture.
fn stem(key: &str) -> &str {
    let name = key.rsplit('/').next().unwrap_or(key);
    match name.rsplit_once('.') {
        Some((stem, ending)) if ENDINGS.contains(&ending.to_ascii_lowercase().as_str()) => stem,
        _ => name,
    }
}

/// Keys by their stem; none where several have it.
fn unique_stems<'a>(keys: impl Iterator<Item = &'a str>) -> HashMap<&'a str, Option<&'a str>> {
    let mut stems = HashMap::new();
    for key in keys {
        stems.entry(stem(key)).and_modify(|only| *only = None).or_insert(Some(key));
    }
    stems
}

/// The pictures of a folder by stem; those of its folders are not looked at.
fn files(folder: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let shown = folder.display();
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read folder {shown}"))? {
        let path = entry.with_context(|| format!("read folder {shown}"))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if stem(name) == name || !path.is_file() {
            continue;
        }
        if let Some(other) = files.insert(stem(name).to_owned(), path.clone()) {
            bail!("{} and {} have one name: keep one of them", other.display(), path.display());
        }
    }
    if files.is_empty() {
        bail!("{shown} holds neither a dataset nor pictures (.{})", ENDINGS.join(", ."));
    }
    Ok(files)
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let most = picture::Limits::DECODE.bytes;
    let length = fs::metadata(path).with_context(|| path.display().to_string())?.len();
    if length > most {
        bail!("{} has {length} bytes, at most {most} are read", path.display());
    }
    fs::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stem_is_the_name_without_folder_and_ending() {
        for (key, wanted) in [
            ("n01440764/ILSVRC2012_val_00000293.JPEG", "ILSVRC2012_val_00000293"),
            ("scene-1", "scene-1"),
            ("a.b/c.d", "c.d"),
            ("x.webp", "x"),
        ] {
            assert_eq!(stem(key), wanted);
        }
        let stems = unique_stems(["a/1.png", "b/1.png", "b/2.png"].into_iter());
        assert_eq!(stems["1"], None);
        assert_eq!(stems["2"], Some("b/2.png"));
    }
}
