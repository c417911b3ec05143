//! A user's own mask files: one for all images, or a folder of them matched by name.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use image::GrayImage;

use super::luma;
use crate::{Error, Result};

/// Endings of mask files.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Folders within folders, at most.
const DEPTH: usize = 16;

pub(super) enum Pictures {
    One(GrayImage),
    Folder { root: PathBuf, names: Names },
}

/// The files of a folder by their names without the endings.
#[derive(Default)]
pub(super) struct Names {
    /// By path within the folder.
    paths: HashMap<String, PathBuf>,
    /// By file name; `None` where several files have it.
    files: HashMap<String, Option<PathBuf>>,
}

impl Pictures {
    pub(super) fn open(path: &Path) -> Result<Self> {
        if !fs::metadata(path).map_err(Error::io("open", path))?.is_dir() {
            return Ok(Self::One(luma(path)?));
        }
        let mut names = Names::default();
        collect(path, "", DEPTH, &mut names)?;
        if names.paths.is_empty() {
            let message = format!("holds no mask files ({})", ENDINGS.join(", "));
            return Err(Error::source(path, message));
        }
        Ok(Self::Folder { root: path.to_owned(), names })
    }

    pub(super) fn mask(&self, key: &str) -> Result<GrayImage> {
        let (root, names) = match self {
            Self::One(mask) => return Ok(mask.clone()),
            Self::Folder { root, names } => (root, names),
        };
        let name = stem(key);
        let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
        if let Some(path) = names.paths.get(name) {
            return luma(path);
        }
        match names.files.get(file) {
            Some(Some(path)) => luma(path),
            Some(None) => {
                let message = format!("several masks are named `{file}`; name them by the keys");
                Err(Error::source(root, message))
            }
            None => {
                let message = format!("holds no mask for `{key}`; name it `{name}.png`");
                Err(Error::source(root, message))
            }
        }
    }
}

/// The mask files below a folder; `prefix` is its path within the root, with a slash.
fn collect(folder: &Path, prefix: &str, depth: usize, names: &mut Names) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read folder", folder))? {
        let path = entry.map_err(Error::io("read folder", folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_dir() {
            if depth > 0 {
                collect(&path, &format!("{prefix}{name}/"), depth - 1, names)?;
            }
            continue;
        }
        let plain = stem(name);
        if plain.len() < name.len() {
            let (key, file) = (format!("{prefix}{plain}"), plain.to_owned());
            names.files.entry(file).and_modify(|of| *of = None).or_insert(Some(path.clone()));
            names.paths.insert(key, path);
        }
    }
    Ok(())
}

/// A name without the ending of an image file.
fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, ending)) if ENDINGS.contains(&ending.to_lowercase().as_str()) => stem,
        _ => name,
    }
}
