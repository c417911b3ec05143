//! `ILSVRC2012_img_val.tar`: `ILSVRC2012_val_00000001.JPEG` and so on, flat, or sorted into folders
//! named by synset as is common once they are unpacked. Labels come from a list or from the devkit
//! (`labels.rs`), line n for file number n (the number in the name, so that a part of the archive is
//! labelled right too), else from the folders. The class is the synset, the label its place in the
//! sorted list, the key the file's name.

use std::collections::BTreeSet;

use super::classes::Classes;
use super::files::Files;
use super::imagenet_train::class_folder;
use super::labels::Labels;
use super::member;
use super::named::{Known, Named};
use super::names;
use super::others::Others;
use super::{SourceMetadata, SourceOptions};
use crate::{Error, Result};

/// Images that the archive has.
const PUBLISHED: u64 = 50_000;

/// The number in a file's name.
pub(super) fn number(name: &str) -> Option<usize> {
    names::number_after("ILSVRC2012_val_", name).filter(|_| !names::is_hidden(name))
}

pub(super) fn open(files: Files, options: &SourceOptions) -> Result<Named> {
    let (mut count, mut last, mut bytes) = (0, 0, files.length().unwrap_or(0));
    let in_folder = files.length().is_none();
    let mut folders = BTreeSet::new();
    let mut others = Others::default();
    files.scan(member::NONE, &mut |member| {
        let Some(number) = number(member.name) else {
            others.add(&member);
            return Ok(true);
        };
        count += 1;
        last = last.max(number);
        bytes += if in_folder { member.size() } else { 0 };
        if let Some(class) = class_folder(member.name).filter(|&class| !folders.contains(class)) {
            folders.insert(class.to_owned());
        }
        Ok(true)
    })?;
    if count == 0 {
        let message = "holds no ILSVRC2012_val_*.JPEG; try --layout auto";
        return Err(Error::source(files.path(), message));
    }
    let labels = options.labels.as_deref().map(|list| Labels::read(list, last)).transpose()?;
    let synsets = match &labels {
        Some(labels) => labels.synsets.iter().cloned().collect(),
        None => folders,
    };
    let (classes, notes) = match synsets.is_empty() {
        true => (Classes::default(), Vec::new()),
        false => Classes::settle(files.path(), &synsets, options.classes.as_ref())?,
    };
    let of_classes = match classes.names().len() {
        0 => "without labels (give --labels FILE for them)".into(),
        classes => format!("with labels of {classes} classes"),
    };
    let found = format!("a {} of {count} images, {of_classes}{others}", files.noun());
    Ok(Named {
        files,
        enter: member::NONE,
        know: Box::new(move |name| {
            let Some(number) = number(name) else { return Ok(None) };
            let class = match &labels {
                Some(labels) => labels.of(number),
                None => class_folder(name),
            };
            let key = names::file_name(name).to_owned();
            Ok(Some(Known { key, class: class.map(str::to_owned) }))
        }),
        classes,
        metadata: SourceMetadata {
            bytes,
            found,
            split: "val",
            published: Some(PUBLISHED),
            official: true,
        },
        notes,
        max_bytes: options.max_bytes,
    })
}
