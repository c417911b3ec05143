//! Splits by their names: `train`, `val` and `test` in the names of files and folders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::names;
use crate::{Error, Result};

/// `train`, `val` or `test` where a split is called so or alike, in any case.
pub(super) fn known(name: &str) -> Option<&'static str> {
    match name.to_ascii_lowercase().as_str() {
        "train" | "training" => Some("train"),
        "val" | "valid" | "validation" | "dev" => Some("val"),
        "test" | "testing" | "eval" => Some("test"),
        _ => None,
    }
}

/// The split that a folder is called by: also `train2017` and `val_256`.
fn of_folder(name: &str) -> Option<&'static str> {
    known(name.trim_end_matches(|c: char| c.is_ascii_digit() || "_-".contains(c)))
}

/// An error where folders that hold images are several splits side by side, of which one has to be
/// chosen.
pub(super) fn check<'a>(source: &Path, folders: impl Iterator<Item = &'a str>) -> Result<()> {
    // For each folder above, the splits that lie in it, each with what it is called.
    let mut beside: BTreeMap<&str, BTreeMap<&'static str, BTreeSet<&str>>> = BTreeMap::new();
    for folder in folders {
        let mut at = folder;
        while !at.is_empty() {
            let (above, name) = (names::parent(at), names::file_name(at));
            if let Some(split) = of_folder(name) {
                beside.entry(above).or_default().entry(split).or_default().insert(name);
            }
            at = above;
        }
    }
    let Some((above, splits)) = beside.into_iter().find(|(_, splits)| splits.len() > 1) else {
        return Ok(());
    };
    let called: Vec<&str> = splits.into_values().flatten().collect();
    let within = if above.is_empty() { String::new() } else { format!(" in {above}") };
    let message = format!(
        "holds the splits {}{within}: name one by --split-folder {} (`--split-folder .` takes the \
         folders for classes)",
        called.join(", "),
        called[0]
    );
    Err(Error::source(source, message))
}

/// The split that a word of the name of an archive is, as of `imagenet-train-000042` or `train`; of
/// `train_station` none.
fn of_archive(name: &str) -> Option<&'static str> {
    let file = names::file_name(name);
    let mut words = file.split(|c: char| !c.is_ascii_alphabetic());
    let is_numbered = file.bytes().any(|byte| byte.is_ascii_digit());
    if is_numbered { words.find_map(known) } else { known(file) }
}

/// An error where archives of one source are of several splits; each with one that is.
pub(super) fn check_archives(source: &Path, archives: &BTreeSet<String>) -> Result<()> {
    let named = archives.iter().filter_map(|name| Some((of_archive(name)?, name.as_str())));
    let splits: BTreeMap<&'static str, &str> = named.collect();
    if splits.len() < 2 {
        return Ok(());
    }
    let called: Vec<String> =
        splits.iter().map(|(split, name)| format!("{split} ({name})")).collect();
    let message = format!(
        "holds archives of the splits {}: name those of one as sources, or put them into a folder of \
         their own",
        called.join(", ")
    );
    Err(Error::source(source, message))
}

/// The path below the folder called `folder` (a name or several, `images/train`), and what is above.
pub(super) fn below<'a>(name: &'a str, folder: &str) -> Option<(&'a str, &'a str)> {
    let starts = std::iter::once(0).chain(name.match_indices('/').map(|(at, _)| at + 1));
    for start in starts {
        let rest = name[start..].strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
        if let Some(rest) = rest {
            return Some((&name[..start], rest));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_side_by_side_are_refused_and_classes_are_not() {
        let check = |folders: &[&str]| check(Path::new("x"), folders.iter().copied());
        let message = check(&["a/train/cat", "a/val/cat"]).unwrap_err().to_string();
        assert!(message.contains("holds the splits train, val in a"), "{message}");
        assert!(message.contains("--split-folder train"), "{message}");
        assert!(check(&["train2017", "val2017"]).is_err());
        assert!(check(&["Training/cat", "Validation/cat", "extra/cat"]).is_err());
        assert!(check(&["train/cat", "train/dog"]).is_ok());
        assert!(check(&["train", "bus", "car"]).is_ok(), "a class of trains");
        assert!(check(&["train_station", "test_tube"]).is_ok());
        assert!(check(&["valid", "val"]).is_ok(), "one split by two names");
    }

    #[test]
    fn archives_of_several_splits_are_refused() {
        let check = |names: &[&str]| {
            check_archives(Path::new("x"), &names.iter().map(|&name| name.to_owned()).collect())
        };
        let message = check(&["d/train-000", "d/train-001", "d/val-000"]).unwrap_err().to_string();
        assert!(message.contains("train (d/train-001), val (d/val-000)"), "{message}");
        assert!(check(&["imagenet_val_0", "imagenet_test_0"]).is_err());
        assert!(check(&["train-000", "extra-000"]).is_ok());
        assert!(check(&["000", "001"]).is_ok());
        assert!(check(&["restrain-000", "val-000"]).is_ok());
        assert!(check(&["train_station", "test_tube"]).is_ok());
        assert!(check(&["train", "val"]).is_err());
    }

    #[test]
    fn a_folder_is_found_by_its_name_or_path() {
        assert_eq!(below("a/train/cat/1.jpg", "train"), Some(("a/", "cat/1.jpg")));
        assert_eq!(below("images/train/1.jpg", "images/train"), Some(("", "1.jpg")));
        assert_eq!(below("restrain/1.jpg", "train"), None);
        assert_eq!(below("train", "train"), None);
    }
}
