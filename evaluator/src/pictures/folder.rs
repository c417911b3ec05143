//! A folder of pictures, named by their paths within it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use pipeline::image::{self as picture, Limits};
use pipeline::names;
use terminal::Usage;

/// The pictures of a folder, in the order of their names.
pub struct Folder {
    root: PathBuf,
    files: Vec<(String, PathBuf)>,
}

impl Folder {
    /// Lists a folder.
    ///
    /// # Errors
    /// Where it cannot be read or holds no pictures.
    pub fn open(root: &Path) -> Result<Self> {
        let files = names::pictures(root)?;
        if files.is_empty() {
            bail!(Usage::new(format!(
                "{} holds no pictures ({})",
                root.display(),
                names::ENDINGS.join(", ")
            )));
        }
        Ok(Self { root: root.to_owned(), files })
    }

    /// Names without endings, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(name, _)| name.as_str())
    }

    /// The number-th name; none past the end.
    pub fn name(&self, number: usize) -> &str {
        self.files.get(number).map_or("", |(name, _)| name)
    }

    /// The number-th picture's file.
    ///
    /// # Errors
    /// Past the end, for a file that cannot be read, and for one too large to be a picture.
    pub fn read(&self, number: usize) -> Result<Bytes> {
        let path = self.path(number)?;
        let bytes = picture::read(path, &Limits::DECODE);
        Ok(bytes.with_context(|| path.display().to_string())?.into())
    }

    /// Where the number-th picture is.
    ///
    /// # Errors
    /// Past the end.
    pub fn path(&self, number: usize) -> Result<&Path> {
        let (_, path) = self.files.get(number).context("no such picture")?;
        Ok(path)
    }

    /// A digest of the files' names, sizes and times: what tells that the folder is what it was.
    ///
    /// # Errors
    /// Where a file cannot be looked at.
    pub fn digest(&self) -> Result<String> {
        let mut text = String::new();
        for (name, path) in &self.files {
            let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
            let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            text.push_str(&format!("{name}\0{}\0{}\n", metadata.len(), changed.as_nanos()));
        }
        Ok(storage::atomic::sha256(text.as_bytes()))
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }
}
