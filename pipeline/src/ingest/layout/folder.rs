//! Any folder, or a tar of one: a sub-folder a class (nested ones too, named by their path), or flat.
//! Leading folders that all images share are no classes, unless a list of classes says so. The key is
//! the path below these.

use std::collections::BTreeSet;
use std::path::Path;

use super::classes::Classes;
use super::files::Files;
use super::member;
use super::named::{Known, Named};
use super::names::{self, Others};
use super::{SourceMetadata, SourceOptions};
use crate::{Error, Result};

pub(super) fn open(files: Files, options: &SourceOptions) -> Result<Named> {
    let (mut count, mut bytes) = (0_u64, files.length().unwrap_or(0));
    let in_folder = files.length().is_none();
    let mut folders = BTreeSet::new();
    let mut others = Others::default();
    files.scan(member::NONE, &mut |member| {
        if !names::is_image(member.name) {
            others.add(member.name);
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
    let prefix = prefix(&folders, options.classes.as_deref())?;
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
        true => Classes::default(),
        false => Classes::settle(files.path(), classes, options.classes.as_deref())?,
    };
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
        metadata: SourceMetadata { bytes, found, split: "train", published: None, official: false },
        max_bytes: options.max_bytes,
    })
}

/// The leading folders that are no part of a class: those that all images share, or fewer where only
/// then every class is in the list.
fn prefix(folders: &BTreeSet<String>, list: Option<&Path>) -> Result<String> {
    let shared = shared(folders);
    let Some(list) = list else { return Ok(shared) };
    let listed = Classes::read(list)?;
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
        let one = BTreeSet::from(["photos/cat".to_owned()]);
        assert_eq!(prefix(&one, None).unwrap(), "photos/cat");
        assert_eq!(prefix(&one, Some(&list)).unwrap(), "photos");
    }
}
