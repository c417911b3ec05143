//! Any folder, or a tar of one: a sub-folder a class (nested ones too, named by their path), or flat.
//! Leading folders that all images share are no classes, unless a list of classes says so. The key is
//! the path below these.

use std::collections::BTreeSet;

use super::classes::{self, ClassList, Classes};
use super::files::Files;
use super::member::{self, Body};
use super::named::{Known, Named};
use super::names;
use super::others::Others;
use super::splits;
use super::{SourceMetadata, SourceOptions};
use crate::{Error, Result};

pub(super) fn open(files: Files, options: &SourceOptions) -> Result<Named> {
    let (mut count, mut bytes) = (0_u64, files.length().unwrap_or(0));
    let in_folder = files.length().is_none();
    let mut folders = BTreeSet::new();
    let mut others = Others::default();
    // Folders without anything, those with images of which none can be read, such as encrypted ones, or that
    // cannot be entered themselves, and those of other files.
    let (mut empty, mut unread, mut without) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    files.scan_all(member::NONE, &mut |member| {
        if matches!(member.body, Body::Folder) {
            if !names::is_hidden(member.name) {
                empty.insert(member.name.to_owned());
            }
            return Ok(true);
        }
        if !names::is_hidden(member.name) && !empty.is_empty() {
            // Nor are the folders above empty.
            let mut above = names::parent(member.name);
            while !above.is_empty() {
                empty.remove(above);
                above = names::parent(above);
            }
        }
        let is_image = names::is_image(member.name);
        if member.is_skipped() || !is_image {
            others.add(&member);
            if !names::is_hidden(member.name) {
                let folder = names::parent(member.name);
                let of = if is_image { &mut unread } else { &mut without };
                if !of.contains(folder) {
                    of.insert(folder.to_owned());
                }
                if member.may_be_folder() {
                    unread.insert(member.name.to_owned());
                }
            }
            return Ok(true);
        }
        count += 1;
        bytes += if in_folder { member.size() } else { 0 };
        let folder = names::parent(member.name);
        if !folders.contains(folder) {
            folders.insert(folder.to_owned());
        }
        Ok(true)
    })?;
    if count == 0 {
        return Err(Error::source(files.path(), format!("holds no images{others}")));
    }
    files.check_splits(folders.iter().map(String::as_str))?;
    // A class stays one where none of its images can be read, and an empty folder beside those of images is
    // one without images: the labels of the others do not depend on it.
    empty.extend(unread);
    let beside: BTreeSet<&str> = folders.iter().map(|folder| names::parent(folder)).collect();
    let is_class = |folder: &&String| {
        let above = names::parent(folder);
        let within = format!("{folder}/");
        let first = folders.range(within.clone()..).next();
        let has_images =
            folders.contains(*folder) || first.is_some_and(|first| first.starts_with(&within));
        !folder.is_empty()
            && !folders.contains("")
            && beside.contains(above)
            && !folders.contains(above)
            && !has_images
    };
    let empty: Vec<String> = empty.iter().filter(is_class).cloned().collect();
    let without: Vec<&String> =
        without.iter().filter(is_class).filter(|folder| !empty.contains(folder)).collect();
    let mut notes = Vec::new();
    if let Some(first) = without.first() {
        notes.push(format!(
            "{} folders beside the classes hold other files only and are no classes, the first {first}",
            without.len()
        ));
    }
    folders.extend(empty.iter().cloned());
    if let Some(first) = empty.first() {
        notes.push(format!(
            "{} folders are classes without images that can be read, the first {first}",
            empty.len()
        ));
    }
    let prefix = prefix(&folders, options.classes.as_ref())?;
    let classes: BTreeSet<_> = folders
        .iter()
        .map(|folder| below(&prefix, folder).to_owned())
        .filter(|class| !class.is_empty())
        .collect();
    let found = match classes.len() {
        0 => format!("a flat {} of {count} images{others}", files.noun()),
        classes => {
            format!("a {} of {classes} class folders with {count} images{others}", files.noun())
        }
    };
    let classes = match classes.is_empty() {
        true if options.classes.is_some() => return Err(classes::unlabelled(files.path())),
        true => Classes::default(),
        false => {
            let list = options.classes.as_ref();
            let (classes, missing) = Classes::settle(files.path(), &classes, list)?;
            notes.extend(missing);
            classes
        }
    };
    let split = options.split_folder.as_deref().map(names::file_name);
    let split = split.and_then(splits::known).unwrap_or("train");
    Ok(Named {
        files,
        enter: member::NONE,
        know: Box::new(move |name| {
            Ok(names::is_image(name).then(|| {
                let key = below(&prefix, name);
                let class = Some(names::parent(key)).filter(|class| !class.is_empty());
                Known { key: key.to_owned(), class: class.map(str::to_owned) }
            }))
        }),
        classes,
        metadata: SourceMetadata { bytes, found, split, published: None, official: false },
        notes,
        max_bytes: options.max_bytes,
    })
}

/// The leading folders that are no part of a class: those that all images share, or fewer where only
/// then every class is in the list.
fn prefix(folders: &BTreeSet<String>, list: Option<&ClassList>) -> Result<String> {
    let shared = shared(folders);
    let Some(list) = list else { return Ok(shared) };
    let listed = Classes::of(list)?;
    let mut shorter = std::iter::successors(Some(shared.as_str()), |prefix| {
        (!prefix.is_empty()).then(|| names::parent(prefix))
    });
    let all_listed =
        |prefix: &&str| folders.iter().all(|folder| listed.label(below(prefix, folder)).is_some());
    Ok(shorter.find(all_listed).unwrap_or(&shared).to_owned())
}

/// The leading folders that all folders share.
fn shared(folders: &BTreeSet<String>) -> String {
    let mut folders = folders.iter();
    let first = folders.next().map_or("", String::as_str);
    let mut common: Vec<&str> = first.split('/').collect();
    for folder in folders {
        let same = common.iter().zip(folder.split('/')).take_while(|(a, b)| *a == b).count();
        common.truncate(same);
    }
    common.join("/")
}

/// A name without its leading folders.
fn below<'a>(prefix: &str, name: &'a str) -> &'a str {
    name.strip_prefix(prefix).map_or(name, |rest| rest.strip_prefix('/').unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_folders_are_no_classes() {
        let shared = |folders: &[&str]| shared(&folders.iter().map(|&f| f.to_owned()).collect());
        assert_eq!(shared(&["val/a", "val/b/c"]), "val");
        assert_eq!(shared(&["val_256"]), "val_256");
        assert_eq!(shared(&["a", "b"]), "");
        assert_eq!(shared(&["", "a"]), "");
        assert_eq!(below("val", "val/a/x.jpg"), "a/x.jpg");
        assert_eq!(below("val", "val"), "");
        assert_eq!(below("", "a/x.jpg"), "a/x.jpg");
    }

    #[test]
    fn a_list_of_classes_tells_where_classes_begin() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("classes.txt");
        std::fs::write(&list, "dog\ncat\n").unwrap();
        let list = ClassList::read(&list).unwrap();
        let one = BTreeSet::from(["photos/cat".to_owned()]);
        assert_eq!(prefix(&one, None).unwrap(), "photos/cat");
        assert_eq!(prefix(&one, Some(&list)).unwrap(), "photos");
    }
}
