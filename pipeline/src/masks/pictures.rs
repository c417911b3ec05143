//! A user's own mask files: one for all images, or a folder of them matched by name.

use std::fs;
use std::path::{Path, PathBuf};

use image::GrayImage;

use super::luma;
use crate::names::{self, ENDINGS, Endings, Found, Names};
use crate::{Error, Result};

pub(super) enum Pictures {
    One(GrayImage),
    Folder { root: PathBuf, names: Names<PathBuf> },
}

impl Pictures {
    pub(super) fn open(path: &Path) -> Result<Self> {
        if !fs::metadata(path).map_err(Error::io("open", path))?.is_dir() {
            return Ok(Self::One(luma(path)?));
        }
        let names = Names::new(names::pictures(path)?);
        if names.is_empty() {
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
        match names.find(key, Endings::Any) {
            Found::One(path) => luma(path),
            Found::Several([one, other]) => {
                let message = format!(
                    "`{one}` and `{other}` are both masks for `{key}`; name them by the keys"
                );
                Err(Error::source(root, message))
            }
            Found::None => {
                let name = names::stem(key);
                let message = format!("holds no mask for `{key}`; name it `{name}.png`");
                Err(Error::source(root, message))
            }
        }
    }
}
