//! Where the pictures of a study come from: an output dataset of a sampling job, a dataset of
//! photographs, or a plain folder of pictures. All are asked by the keys of their records.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context;
use image::RgbImage;
use outputs::{OutputDataset, OutputRow, Variant};
use pipeline::Dataset;
use pipeline::image as picture;
use pipeline::names::{Endings, Found, Names};
use terminal::Usage;

use crate::pictures::{Folder, Set};

/// A place that pictures of a study come from.
pub struct PictureSource {
    uri: String,
    pictures: Pictures,
}

enum Pictures {
    /// First samples of one task with its degradation.
    Outputs { dataset: Box<OutputDataset>, variant: Variant, keys: BTreeSet<String> },
    /// Rows by key.
    Photographs { dataset: Box<Dataset>, rows: BTreeMap<String, u64> },
    /// Files, with their numbers by name.
    Folder { folder: Folder, numbers: BTreeMap<String, usize> },
}

/// Which of the two images that a study shows is read of an output dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StudyImage {
    /// What the system made.
    Output,
    /// The photograph that it was to restore.
    Reference,
}

/// What became of the pictures that were asked for, by the keys that they were asked by.
pub type Decoded = HashMap<String, anyhow::Result<RgbImage>>;

impl PictureSource {
    /// Opens a place; `task` says which of an output dataset's tasks (`jpeg:5`; `jpeg` where it has one of
    /// that task) is meant, where it has several.
    ///
    /// # Errors
    /// For a place that holds no pictures; for an output dataset of several tasks without `task`, and
    /// one without the task.
    pub fn open(uri: &str, task: Option<Variant>) -> anyhow::Result<Self> {
        let pictures = match Set::open(uri)? {
            Set::Outputs(dataset, _) => outputs(uri, dataset, task)?,
            Set::Photographs(dataset) => photographs(dataset)?,
            Set::Folder(folder) => {
                let numbers = folder.names().zip(0..).map(|(name, at)| (name.to_owned(), at));
                Pictures::Folder { numbers: numbers.collect(), folder }
            }
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

    /// The keys of all pictures; the names of files in a plain folder.
    pub fn keys(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match &self.pictures {
            Pictures::Outputs { keys, .. } => Box::new(keys.iter().map(String::as_str)),
            Pictures::Photographs { rows, .. } => Box::new(rows.keys().map(String::as_str)),
            Pictures::Folder { numbers, .. } => Box::new(numbers.keys().map(String::as_str)),
        }
    }

    /// Finds the own keys of the records that another source calls by its keys: the same ones. Where
    /// one of the two is a plain folder, a file's name without ending and folders before it will do, if no other
    /// record of either has the same.
    pub fn matching<'a>(&'a self, other: &'a Self) -> impl Fn(&str) -> Option<&'a str> {
        let own: BTreeSet<&str> = self.keys().collect();
        let folder = self.is_folder() || other.is_folder();
        let named = |source: &'a Self| {
            let keys = if folder { source.keys() } else { Box::new(std::iter::empty()) };
            Names::new(keys.map(|key| (key.to_owned(), key)))
        };
        let (names, others) = (named(self), named(other));
        move |key| {
            if let Some(own) = own.get(key) {
                return Some(*own);
            }
            match (names.find(key, Endings::Any), others.find(key, Endings::Any)) {
                (Found::One(own), Found::One(_)) => Some(*own),
                _ => None,
            }
        }
    }

    fn is_folder(&self) -> bool {
        matches!(self.pictures, Pictures::Folder { .. })
    }

    /// Reads and decodes the pictures of these own keys; `image` matters for output datasets alone.
    ///
    /// # Errors
    /// Where an output dataset cannot be read on. A picture that cannot be used is told in its place.
    pub fn read(&self, wanted: &BTreeSet<&str>, image: StudyImage) -> anyhow::Result<Decoded> {
        let bytes: Vec<(String, anyhow::Result<Vec<u8>>)> = match &self.pictures {
            Pictures::Outputs { dataset, variant, .. } => {
                let asked = |row: &OutputRow| {
                    row.sample == 0 && row.task == *variant && wanted.contains(row.key.as_str())
                };
                let mut found = Vec::new();
                for row in dataset.rows() {
                    let row = row?;
                    if asked(&row) {
                        let bytes = match image {
                            StudyImage::Output => row.output,
                            StudyImage::Reference => row.reference,
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
            Pictures::Folder { folder, numbers } => wanted
                .iter()
                .filter_map(|key| Some((*key, *numbers.get(*key)?)))
                .map(|(key, at)| (key.to_owned(), folder.read(at).map(|bytes| bytes.to_vec())))
                .collect(),
        };
        // As `sampler` reads them: single files stand upright by EXIF, rows of datasets as they are.
        let decode = |key: &str, bytes: Vec<u8>| {
            let Pictures::Folder { folder, numbers } = &self.pictures else {
                return Ok(picture::decode(&bytes)?);
            };
            let image = picture::decode(&bytes).with_context(|| {
                let path = numbers.get(key).and_then(|&at| folder.path(at).ok());
                path.map_or_else(|| key.to_owned(), |path| path.display().to_string())
            })?;
            Ok(picture::apply_orientation(image, picture::orientation(&bytes)))
        };
        let decoded = bytes.into_iter().map(|(key, bytes)| {
            let image = bytes.and_then(|bytes| decode(&key, bytes));
            (key, image)
        });
        Ok(decoded.collect())
    }
}

fn outputs(
    uri: &str,
    dataset: Box<OutputDataset>,
    wanted: Option<Variant>,
) -> anyhow::Result<Pictures> {
    let names = dataset.names()?;
    let tasks: BTreeSet<Variant> = names.iter().map(|name| name.task).collect();
    let variant = match wanted {
        Some(wanted) if tasks.contains(&wanted) => wanted,
        Some(wanted) => {
            let of_task = |one: &&Variant| one.task() == wanted.task();
            let named = matches!(wanted, Variant::Task(_));
            let fitting: Vec<_> = tasks.iter().filter(of_task).filter(|_| named).collect();
            match fitting[..] {
                [one] => *one,
                [] => {
                    let tasks = list(&tasks);
                    let message = format!("{uri} has no outputs of {wanted}, only of {tasks}");
                    return Err(Usage::new(message).into());
                }
                _ => return Err(several(uri, &tasks).into()),
            }
        }
        None if tasks.len() > 1 => return Err(several(uri, &tasks).into()),
        None => tasks.into_iter().next().with_context(|| format!("{uri} holds no outputs"))?,
    };
    let first = names.into_iter().filter(|name| name.task == variant && name.sample == 0);
    Ok(Pictures::Outputs { keys: first.map(|name| name.key).collect(), dataset, variant })
}

fn several(uri: &str, tasks: &BTreeSet<Variant>) -> Usage {
    Usage::new(format!("{uri} has outputs of {}: say which with --task", list(tasks)))
}

fn list(tasks: &BTreeSet<Variant>) -> String {
    let mut names: Vec<String> = tasks.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    names.join(", ")
}

fn photographs(dataset: Box<Dataset>) -> anyhow::Result<Pictures> {
    let rows = dataset.labels()?.into_iter().zip(0..).map(|((key, _), row)| (key, row)).collect();
    Ok(Pictures::Photographs { dataset, rows })
}
