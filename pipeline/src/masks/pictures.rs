//! A user's own mask files: one for all images, or a folder of them matched by name.

use std::fs;
use std::path::{Path, PathBuf};

use image::GrayImage;
use sha2::{Digest, Sha256};
use storage::atomic;

use super::drawing::{self, Drawn};
use crate::names::{self, ENDINGS, Endings, Found, Names};
use crate::{Error, Result};

pub(super) enum Pictures {
    One(GrayImage, Drawn),
    Folder { root: PathBuf, names: Names<PathBuf> },
}

impl Pictures {
    pub(super) fn open(path: &Path) -> Result<Self> {
        if !fs::metadata(path).map_err(Error::io("open", path))?.is_dir() {
            let (mask, drawn) = drawing::read(path)?;
            return Ok(Self::One(mask, drawn));
        }
        let names = Names::new(names::pictures(path)?);
        if names.is_empty() {
            let message = format!("holds no mask files ({})", ENDINGS.join(", "));
            return Err(Error::source(path, message));
        }
        Ok(Self::Folder { root: path.to_owned(), names })
    }

    /// What lies at `path` now; see [`super::MaskSet::digest`].
    pub(super) fn digest(&self, path: &Path) -> Result<String> {
        let Self::Folder { root, .. } = self else { return Ok(atomic::sha256_file(path)?.0) };
        let mut hash = Sha256::new();
        for (_, file) in names::pictures(root)? {
            storage::regular::open(&file).map_err(Error::io("open", &file))?;
            let (digest, _) = atomic::sha256_file(&file)?;
            let name = file.strip_prefix(root).unwrap_or(&file).display();
            hash.update(format!("{digest}  {name}\n"));
        }
        Ok(atomic::hex(&hash.finalize()))
    }

    pub(super) fn mask(&self, key: &str) -> Result<(GrayImage, Drawn)> {
        let (root, names) = match self {
            Self::One(mask, drawn) => return Ok((mask.clone(), *drawn)),
            Self::Folder { root, names } => (root, names),
        };
        match names.find(key, Endings::Any) {
            Found::One(path) => drawing::read(path),
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
