//! `ILSVRC2012_img_train.tar`: a tar of one tar a class, `n01440764.tar`; also a folder of these, and
//! either with the class archives unpacked. The class is the synset, the label its place in the sorted
//! list, the key `n01440764/n01440764_10026.JPEG`.

use std::collections::BTreeSet;

use super::classes::Classes;
use super::files::Files;
use super::member;
use super::member::Body;
use super::named::{Known, Named};
use super::names;
use super::others::Others;
use super::{SourceMetadata, SourceOptions};
use crate::{Error, Result};

/// Images that the archive has.
const PUBLISHED: u64 = 1_281_167;

/// The synset of a class archive's name.
pub(super) fn class_archive(name: &str) -> Option<&str> {
    names::tar_stem(names::file_name(name)).filter(|stem| names::is_synset(stem))
}

/// The synset of the name of a class archive that is no tar.
fn other_archive(name: &str) -> Option<&str> {
    const ENDINGS: [&str; 9] = ["zip", "7z", "rar", "xz", "bz2", "lz4", "zst", "gz", "lzma"];
    let (stem, ending) = names::file_name(name).split_once('.')?;
    let is_archive = names::has_ending(ending, &ENDINGS) || names::has_ending(name, &ENDINGS);
    let is_other = is_archive && class_archive(name).is_none() && !names::is_hidden(name);
    Some(stem).filter(|stem| is_other && names::is_synset(stem))
}

/// The synset whose folder a file is in.
pub(super) fn class_folder(name: &str) -> Option<&str> {
    names::parent(name).rsplit('/').find(|part| names::is_synset(part))
}

/// True for names of class archives, and of images in class folders as they are called in these.
pub(super) fn is_name(name: &str) -> bool {
    class_archive(name).is_some()
        || class_folder(name).is_some_and(|class| {
            let number = names::file_name(name).strip_prefix(class);
            number.is_some_and(|rest| rest.starts_with('_')) && names::is_image(name)
        })
}

pub(super) fn open(files: Files, options: &SourceOptions) -> Result<Named> {
    let (mut archives, mut folders, mut unread) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut others = Others::default();
    let mut bytes = files.length().unwrap_or(0);
    let on_disk = files.length().is_none();
    let mut places = BTreeSet::new();
    files.scan_all(member::NONE, &mut |member| {
        let is_folder = matches!(member.body, Body::Folder);
        if is_folder || member.may_be_folder() {
            // A folder of a class that is empty or cannot be entered is a class, so that labels do not shift.
            let name = names::file_name(member.name);
            if names::is_synset(name) && !names::is_hidden(member.name) {
                folders.insert(name.to_owned());
            }
        }
        if is_folder {
            return Ok(true);
        }
        if let Some(class) = other_archive(member.name) {
            unread.insert(class.to_owned());
        }
        let class = class_archive(member.name).map(|class| (class, &mut archives));
        let in_folder = || class_folder(member.name).filter(|_| names::is_image(member.name));
        let class = class.or_else(|| Some((in_folder()?, &mut folders)));
        let place = names::parent(member.name);
        if class.is_some() && !places.contains(place) {
            places.insert(place.to_owned());
        }
        match class.filter(|_| !names::is_hidden(member.name)) {
            Some((class, classes)) => {
                if !classes.contains(class) {
                    classes.insert(class.to_owned());
                }
                bytes += if on_disk { member.size() } else { 0 };
            }
            None => others.add(&member),
        }
        Ok(true)
    })?;
    files.check_splits(places.iter().map(String::as_str))?;
    if let Some(both) = archives.intersection(&folders).next() {
        let message = format!("holds both {both}.tar and {both}/; take one of them away");
        return Err(Error::source(files.path(), message));
    }
    let found = match (archives.len(), folders.len()) {
        (0, 0) => {
            let message = "holds no class archives such as n01440764.tar, nor their folders; try \
                           --layout auto";
            return Err(Error::source(files.path(), message));
        }
        (archives, 0) => format!("a {} of {archives} class archives{others}", files.noun()),
        (0, folders) => format!("a {} of {folders} class folders{others}", files.noun()),
        (archives, folders) => format!(
            "a {} of {archives} class archives and {folders} class folders{others}",
            files.noun()
        ),
    };
    archives.append(&mut folders);
    let unread: Vec<String> = unread.difference(&archives).cloned().collect();
    archives.extend(unread.iter().cloned());
    let (classes, mut notes) = Classes::settle(files.path(), &archives, options.classes.as_ref())?;
    if let Some(first) = unread.first() {
        notes.push(format!(
            "{} classes are archives that are not read, the first {first}: unpack them, or pack them as \
             tar; they are classes without images",
            unread.len()
        ));
    }
    Ok(Named {
        files,
        enter: |name| class_archive(name).is_some(),
        know: Box::new(|name| {
            let class = class_folder(name).filter(|_| names::is_image(name));
            Ok(class.map(|class| Known {
                key: format!("{class}/{}", names::file_name(name)),
                class: Some(class.to_owned()),
            }))
        }),
        classes,
        metadata: SourceMetadata {
            bytes,
            found,
            split: "train",
            published: Some(PUBLISHED),
            official: true,
        },
        notes,
        max_bytes: options.max_bytes,
    })
}
