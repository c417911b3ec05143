//! Places365, standard and challenge, small and large images: the train archives with class folders
//! below a letter (`data_256/s/swimming_pool/indoor/00000001.jpg`) or as a tar a letter, the val and
//! test archives, the folders of each. Labels are the official indices; those of val images come from
//! `places365_val.txt`, test images have none. The key of a train image is
//! `swimming_pool/indoor/00000001.jpg`, else the file's name.

use std::collections::HashMap;
use std::path::Path;

use super::classes::{self, Classes, unknown};
use super::files::Files;
use super::member::Member;
use super::named::{Know, Known, Named};
use super::names;
use super::others::Others;
use super::{SourceMetadata, SourceOptions};
use crate::text;
use crate::{Error, Result};

/// The official list.
const CATEGORIES: &str = include_str!("places365_categories.txt");
/// Names that tell what an archive holds, so that its members need not be gone through twice.
const LOOK_AT: u64 = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Subset {
    Train,
    Val,
    Test,
}

impl Subset {
    fn of(name: &str) -> Self {
        if names::number_after("Places365_val_", name).is_some() {
            Self::Val
        } else if names::number_after("Places365_test_", name).is_some() {
            Self::Test
        } else {
            Self::Train
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// True for `a.tar`, `data_large/a.tar`, `train_large_places365challenge_a.tar` and the like.
pub(super) fn is_letter_archive(name: &str) -> bool {
    let stem = names::tar_stem(name).unwrap_or_default();
    let mut last = stem.chars().rev();
    let letter = last.next().is_some_and(|c| c.is_ascii_lowercase());
    letter && last.next().is_none_or(|c| "_-/".contains(c)) && !names::is_hidden(name)
}

/// True for names of letter archives, of val and test images, and of images in an official class
/// folder below its letter.
pub(super) fn is_name(name: &str, official: &Classes) -> bool {
    if is_letter_archive(name) {
        return true;
    }
    if names::is_hidden(name) || !names::is_image(name) {
        return false;
    }
    Subset::of(name) != Subset::Train
        || class_folder(official, name).is_some_and(|class| {
            let above = names::parent(name).strip_suffix(class).unwrap_or_default();
            let letter = names::file_name(above.trim_end_matches('/'));
            letter.len() == 1 && class.starts_with(letter)
        })
}

/// The official classes.
pub(super) fn official() -> Result<Classes> {
    classes::parse(CATEGORIES)
        .and_then(Classes::in_order)
        .map_err(|message| Error::source("the list of categories of Places365", message))
}

/// The class whose folder a file is in: the last two parts of its path, or the last one.
fn class_folder<'a>(classes: &Classes, name: &'a str) -> Option<&'a str> {
    let folder = names::parent(name);
    let two = folder.rmatch_indices('/').nth(1).map_or(folder, |(at, _)| &folder[at + 1..]);
    [two, names::file_name(folder)].into_iter().find(|class| classes.label(class).is_some())
}

pub(super) fn open(files: Files, options: &SourceOptions) -> Result<Named> {
    let classes = match &options.classes {
        Some(list) => Classes::of(list)?,
        None => official()?,
    };
    let mut survey = Survey::default();
    let in_folder = files.length().is_none();
    files.scan(is_letter_archive, &mut |member| {
        survey.add(&member, in_folder);
        Ok(in_folder || survey.images < LOOK_AT)
    })?;
    let subset = survey.subset(files.path())?;
    let labels = match (&options.labels, subset) {
        (Some(list), Subset::Val) => Some(val_labels(list)?),
        _ => None,
    };
    let of_labels = match (subset, &labels) {
        (Subset::Train, _) => "in class folders",
        (Subset::Val, Some(_)) => "with labels",
        (Subset::Val, None) => "without labels (give --labels places365_val.txt for them)",
        (Subset::Test, _) => "without labels",
    };
    let (noun, name) = (files.noun(), subset.name());
    let found = match in_folder {
        true => format!("a {noun} of {} {name} images {of_labels}{}", survey.images, survey.others),
        false => format!("a {noun} of {name} images {of_labels}"),
    };
    let source = files.path().to_owned();
    let metadata = SourceMetadata {
        bytes: files.length().unwrap_or(survey.bytes),
        found,
        split: name,
        published: published(subset, &source, &survey),
        official: true,
    };
    // The closure and the reader each look names up in a list of their own.
    let known = Classes::in_order(classes.names().to_vec())
        .map_err(|message| Error::source(&source, message))?;
    let know: Know = match subset {
        Subset::Train => Box::new(move |name| train_image(&known, &source, name)),
        _ => Box::new(move |name| {
            if Subset::of(name) != subset || names::is_hidden(name) {
                return stray(&source, name, subset);
            }
            let key = names::file_name(name).to_owned();
            let class = match &labels {
                Some(labels) => Some(labels.get(&key).cloned().ok_or_else(|| {
                    Error::source(&source, format!("has {key}, of which --labels says nothing"))
                })?),
                None => class_folder(&known, name).map(str::to_owned),
            };
            Ok(Some(Known { key, class }))
        }),
    };
    let max_bytes = options.max_bytes;
    Ok(Named {
        files,
        enter: is_letter_archive,
        know,
        classes,
        metadata,
        notes: Vec::new(),
        max_bytes,
    })
}

/// What the first names tell, or all names of a folder.
#[derive(Default)]
struct Survey {
    /// Files of each subset; the first of each names it in errors.
    firsts: Vec<(Subset, String)>,
    images: u64,
    bytes: u64,
    others: Others,
}

impl Survey {
    fn add(&mut self, member: &Member, in_folder: bool) {
        if !names::is_image(member.name) {
            self.others.add(member);
            return;
        }
        let subset = Subset::of(member.name);
        if !self.firsts.iter().any(|(known, _)| *known == subset) {
            self.firsts.push((subset, member.name.to_owned()));
        }
        self.images += 1;
        self.bytes += if in_folder { member.size() } else { 0 };
    }

    fn subset(&self, source: &Path) -> Result<Subset> {
        match self.firsts.as_slice() {
            [] => Err(Error::source(source, "holds no images of Places365; try --layout auto")),
            [(subset, _)] => Ok(*subset),
            [(a, first), (b, second), ..] => {
                let message = format!(
                    "holds {} and {} images, {first} and {second}; name the folder of one split",
                    a.name(),
                    b.name()
                );
                Err(Error::source(source, message))
            }
        }
    }
}

fn train_image(classes: &Classes, source: &Path, name: &str) -> Result<Option<Known>> {
    let file = names::file_name(name);
    match class_folder(classes, name).filter(|_| !names::is_hidden(name)) {
        _ if Subset::of(name) != Subset::Train => stray(source, name, Subset::Train),
        Some(class) => {
            Ok(Some(Known { key: format!("{class}/{file}"), class: Some(class.to_owned()) }))
        }
        None if !names::is_image(name) => Ok(None),
        None => Err(unknown(source, names::parent(name))),
    }
}

/// An image where those of another subset are; what is no image is passed over.
fn stray(source: &Path, name: &str, subset: Subset) -> Result<Option<Known>> {
    if !names::is_image(name) {
        return Ok(None);
    }
    let message = format!("holds {name} among {} images; name one split at a time", subset.name());
    Err(Error::source(source, message))
}

/// How many images the publisher says there are; nothing for archives by letter that do not say of
/// which of the two train sets they are.
fn published(subset: Subset, source: &Path, survey: &Survey) -> Option<u64> {
    let first = survey.firsts.first().map_or("", |(_, name)| name);
    let says = |word| source.to_string_lossy().contains(word) || first.contains(word);
    match subset {
        Subset::Val => Some(36_500),
        Subset::Test => Some(328_500),
        Subset::Train if says("challenge") => Some(8_026_628),
        Subset::Train if says("standard") || says("data_") => Some(1_803_460),
        Subset::Train => None,
    }
}

/// Reads `places365_val.txt`: lines `NAME INDEX`. Gives the class of each file's name.
fn val_labels(list: &Path) -> Result<HashMap<String, String>> {
    let official = official()?;
    let text = text::read(list, classes::MAX_BYTES)?;
    let mut labels = HashMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong =
            |message: String| Error::source(list, format!("line {}: {message}", number + 1));
        let entry = line.trim().rsplit_once(' ').and_then(|(name, index)| {
            let class = official.names().get(index.parse::<usize>().ok()?)?;
            Some((names::file_name(name.trim()).to_owned(), class.clone()))
        });
        let (name, class) = entry.ok_or_else(|| {
            let expected = "`Places365_val_00000001.jpg 165` or the like is expected, with an index \
                            from 0 to 364";
            wrong(expected.into())
        })?;
        if let Some(before) = labels.get(&name).filter(|before| **before != class) {
            let message = format!("{name} is of {class} here, and of {before} in a line before");
            return Err(wrong(message));
        }
        labels.insert(name, class);
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letter_archives_are_told_by_their_last_letter() {
        for name in ["a.tar", "data_large/z.tar", "train_large_places365challenge_m.tar", "x-b.tar"]
        {
            assert!(is_letter_archive(name), "{name}");
        }
        for name in ["ab.tar", "1.tar", "a.jpg", "n01440764.tar", ".a.tar", ".x/a.tar", "A.tar"] {
            assert!(!is_letter_archive(name), "{name}");
        }
    }

    #[test]
    fn classes_are_the_official_ones_below_any_folder() {
        let official = official().unwrap();
        assert_eq!(official.names().len(), 365);
        assert_eq!(official.label("airfield"), Some(0));
        assert_eq!(official.label("swimming_pool/indoor"), Some(325));
        for name in ["data_256/s/swimming_pool/indoor/1.jpg", "s/data/s/swimming_pool/indoor/1.jpg"]
        {
            assert_eq!(class_folder(&official, name), Some("swimming_pool/indoor"));
            assert!(is_name(name, &official));
        }
        assert_eq!(class_folder(&official, "airfield/1.jpg"), Some("airfield"));
        assert!(!is_name("airfield/1.jpg", &official), "a folder of classes like any other");
        assert!(!is_name("b/airfield/1.jpg", &official));
        assert_eq!(class_folder(&official, "a/backyard_of_mine/1.jpg"), None);
    }
}
