//! A set of pictures: one column of an output dataset, a dataset of photographs, or a folder.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use image::RgbImage;
use pipeline::dataset::MANIFEST;
use pipeline::image::{self as picture, Window};
use pipeline::output::OutputDataset;
use pipeline::{Dataset, ImageSize};
use storage::uri;
use terminal::Usage;

use super::folder::Folder;

/// Which pictures of an output dataset are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// What the network made.
    Output,
    /// The photographs.
    Reference,
    /// What the network was given.
    Source,
}

/// A set of pictures.
pub enum Set {
    /// A column of an output dataset.
    Outputs(OutputDataset, Column),
    /// Photographs, which are brought to a size before they are looked at.
    Photographs(Box<Dataset>),
    /// A folder.
    Folder(Folder),
}

impl Set {
    /// Opens `URI`, or `URI#reference` or `URI#source` of an output dataset.
    ///
    /// # Errors
    /// For a place that is none of the three, and for a column that is none.
    pub fn open(text: &str) -> Result<Self> {
        let (place, column) = match text.rsplit_once('#') {
            Some((place, "output")) => (place, Some(Column::Output)),
            Some((place, "reference")) => (place, Some(Column::Reference)),
            Some((place, "source")) => (place, Some(Column::Source)),
            _ => (text, None),
        };
        let open = || -> Result<Self> {
            if place.contains("://") && !place.starts_with("file://") {
                return Ok(Self::photographs(place)?);
            }
            let folder = uri::local(place)?;
            if !folder.is_dir() {
                bail!("there is no such folder");
            }
            if !folder.join(MANIFEST).is_file() {
                if folder.join("job.json").is_file() {
                    bail!("the sampling job that writes it has not finished");
                }
                return Ok(Self::Folder(Folder::open(&folder)?));
            }
            match OutputDataset::open(place) {
                Ok(outputs) => Ok(Self::Outputs(outputs, column.unwrap_or(Column::Output))),
                Err(outputs) => Self::photographs(place).map_err(|error| {
                    anyhow::anyhow!("neither outputs ({outputs}) nor photographs ({error})")
                }),
            }
        };
        let set = open().with_context(|| Usage::new(format!("{text} cannot be used")))?;
        if let (Some(_), Self::Photographs(_) | Self::Folder(_)) = (column, &set) {
            bail!(Usage::new(format!("{text}: only an output dataset has columns to choose from")));
        }
        Ok(set)
    }

    fn photographs(place: &str) -> pipeline::Result<Self> {
        Ok(Self::Photographs(Box::new(Dataset::open(place)?)))
    }

    /// What it is for good, as far as that can be told.
    ///
    /// # Errors
    /// Where a folder cannot be looked at.
    pub fn digest(&self) -> Result<String> {
        Ok(match self {
            Self::Outputs(outputs, column) => format!("{}#{column:?}", outputs.digest()),
            Self::Photographs(dataset) => dataset.digest().to_owned(),
            Self::Folder(folder) => folder.digest()?,
        })
    }

    /// The dataset of photographs that an output dataset was made from, where it says so.
    pub fn origin(outputs: &OutputDataset) -> Option<&str> {
        outputs.manifest().options.pointer("/asked/dataset")?.as_str()
    }
}

/// A picture that was not decoded yet.
#[derive(Clone, Debug)]
pub enum Encoded {
    /// Has its size.
    Picture(Bytes),
    /// Is brought to the size that is looked at.
    Photograph(Bytes),
}

impl Encoded {
    /// Decodes the picture; with `size` it is cut from its middle, as a sampling job does with
    /// photographs (scaled until it just covers the size, antialiased bicubic).
    ///
    /// # Errors
    /// For damaged files, and for photographs without a size.
    pub fn decode(&self, size: Option<ImageSize>) -> Result<RgbImage> {
        let (bytes, photograph) = match self {
            Self::Picture(bytes) => (bytes, false),
            Self::Photograph(bytes) => (bytes, true),
        };
        let image = picture::decode(bytes)?;
        match size {
            Some(size) if image.dimensions() != (size.width, size.height) => {
                Ok(picture::cover(&image, size, Window::CENTER)?)
            }
            None if photograph => {
                bail!(Usage::new("photographs are of all sizes: say --size, such as 256"))
            }
            _ => Ok(image),
        }
    }
}

/// The name of a set, for messages.
impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place: &Path = match self {
            Self::Outputs(outputs, _) => outputs.folder(),
            Self::Photographs(dataset) => return f.write_str(dataset.store().uri()),
            Self::Folder(folder) => folder.root(),
        };
        write!(f, "{}", place.display())
    }
}
