//! Pictures that are told apart by their names: those of a folder, matched with the keys of a dataset.
//! A name is a path within the folder or a key, without the ending of an image file.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Endings of image files.
pub const ENDINGS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "jpe", "jfif", "pjpeg", "pjp"];
/// Folders within folders, at most.
const DEPTH: usize = 16;

/// Values by name: by the whole one, or by the part after the last slash; `None` where several have it.
#[derive(Clone, Debug)]
pub struct Names<T> {
    whole: HashMap<String, Option<T>>,
    last: HashMap<String, Option<T>>,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a, T> {
    /// One value.
    One(&'a T),
    /// None.
    None,
    /// Several, which only differ in their endings or in what comes before the last part.
    Several,
}

impl<T: Clone> Names<T> {
    /// Of these names with their values.
    pub fn new(all: impl IntoIterator<Item = (String, T)>) -> Self {
        let mut names = Self { whole: HashMap::new(), last: HashMap::new() };
        for (name, value) in all {
            let name = stem(&name);
            for (map, name) in [(&mut names.whole, name), (&mut names.last, last(name))] {
                let entry = map.entry(name.to_owned());
                entry.and_modify(|of| *of = None).or_insert_with(|| Some(value.clone()));
            }
        }
        names
    }

    /// True without names.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty()
    }

    /// What the name leads to.
    pub fn find(&self, name: &str) -> Found<'_, T> {
        let name = stem(name);
        match self.whole.get(name).or_else(|| self.last.get(last(name))) {
            Some(Some(value)) => Found::One(value),
            Some(None) => Found::Several,
            None => Found::None,
        }
    }
}

/// A name without the ending of an image file.
pub fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, ending)) if ENDINGS.contains(&ending.to_lowercase().as_str()) => stem,
        _ => name,
    }
}

pub(crate) fn last(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, last)| last)
}

/// The image files below a folder with their names, in the order of the names.
///
/// # Errors
/// Where a folder cannot be read.
pub fn pictures(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut all = Vec::new();
    collect(folder, "", DEPTH, &mut all)?;
    all.sort();
    Ok(all)
}

/// `prefix` is the folder's path within the root, with a slash.
fn collect(
    folder: &Path,
    prefix: &str,
    depth: usize,
    all: &mut Vec<(String, PathBuf)>,
) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read folder", folder))? {
        let path = entry.map_err(Error::io("read folder", folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_dir() {
            if depth > 0 {
                collect(&path, &format!("{prefix}{name}/"), depth - 1, all)?;
            }
            continue;
        }
        let plain = stem(name);
        if plain.len() < name.len() {
            all.push((format!("{prefix}{plain}"), path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_come_before_last_parts_and_several_are_told() {
        let names = Names::new(
            [("a/1.png", 1), ("b/1.png", 2), ("b/2.JPEG", 3), ("d.png", 4), ("d.jpg", 5)]
                .map(|(n, v)| (n.to_owned(), v)),
        );
        assert_eq!(names.find("b/1.webp"), Found::One(&2));
        assert_eq!(names.find("c/2"), Found::One(&3));
        assert_eq!(names.find("2.jpg"), Found::One(&3));
        assert_eq!(names.find("c/1.png"), Found::Several);
        assert_eq!(names.find("d"), Found::Several);
        assert_eq!(names.find("3"), Found::None);
    }

    #[test]
    fn pictures_of_folders_are_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("z/y")).unwrap();
        for name in ["b.png", "a.JPG", "z/y/c.webp", "note.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<String> =
            pictures(folder.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b", "z/y/c"]);
    }
}
