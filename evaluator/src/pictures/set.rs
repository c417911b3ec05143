//! A set of pictures: one column of an output dataset, a dataset of photographs, or a folder.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use contracts::Origin;
use contracts::evaluation::{ImageColumn, PictureSet};
use contracts::files::{MANIFEST, ORIGIN};
use image::RgbImage;
use outputs::OutputDataset;
use pipeline::image::{self as picture, Window};
use pipeline::{Dataset, ImageSize};
use storage::{Place, Store};
use terminal::Usage;

use super::folder::Folder;

/// A set of pictures.
pub enum Set {
    /// A column of an output dataset.
    Outputs(Box<OutputDataset>, ImageColumn),
    /// Photographs, which are brought to a size before they are looked at.
    Photographs(Box<Dataset>),
    /// A folder.
    Folder(Folder),
}

impl Set {
    /// Opens `URI`, or `URI#reference` or `URI#source` of an output dataset.
    ///
    /// # Errors
    /// Wrong use, where the place holds none of the three or the column does not exist; not where an object
    /// store does not answer.
    pub fn open(text: &str) -> Result<Self> {
        let set = text.parse::<PictureSet>();
        Self::at(&set.with_context(|| Usage::new(format!("{text} cannot be used")))?)
    }

    /// Opens a set by its address.
    ///
    /// # Errors
    /// As [`Set::open`].
    pub fn at(address: &PictureSet) -> Result<Self> {
        let (place, column) = (address.place(), address.column());
        let open = || -> Result<Self> {
            let folder = place.local();
            if folder.is_some_and(|folder| !folder.is_dir()) {
                bail!("there is no such folder");
            }
            let store = Store::open(place)?;
            if store.size(MANIFEST)?.is_none() {
                if store.size(ORIGIN)?.is_some() {
                    bail!("the sampling job that writes it has not finished");
                }
                if let Some(folder) = folder {
                    return Ok(Self::Folder(Folder::open(folder)?));
                }
                bail!("there is no {MANIFEST} in it; a folder of pictures must be on this machine");
            }
            match OutputDataset::open(place) {
                Ok(outputs) => {
                    let column = column.unwrap_or(ImageColumn::Output);
                    Ok(Self::Outputs(Box::new(outputs), column))
                }
                Err(error) if error.is_outage() => Err(error.into()),
                Err(outputs) => Self::photographs(place).map_err(|error| {
                    if error.is_outage() {
                        return error.into();
                    }
                    anyhow::anyhow!("neither outputs ({outputs}) nor photographs ({error})")
                }),
            }
        };
        let set = open().with_context(|| Usage::new(format!("{address} cannot be used")))?;
        if let (Some(_), Self::Photographs(_) | Self::Folder(_)) = (column, &set) {
            bail!(Usage::new(format!(
                "{address}: only an output dataset has columns to choose from"
            )));
        }
        Ok(set)
    }

    fn photographs(place: &Place) -> pipeline::Result<Self> {
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

    /// The dataset of photographs that an output dataset says it was made from, where it may lead there: whoever
    /// scores outputs has named their place and no other. So it is on this machine as the outputs are, or in their
    /// bucket, or `PALETTE_BASES` names it.
    ///
    /// # Errors
    /// As [`Self::photographs_of`].
    pub fn near_photographs_of(outputs: &OutputDataset) -> Result<Option<Place>> {
        let Some(place) = Self::photographs_of(outputs)? else { return Ok(None) };
        if place.is_in_store_of(outputs.place()) || pipeline::dataset::is_named(&place) {
            return Ok(Some(place));
        }
        tracing::info!(
            note = true,
            "no labels are read of {place}, which the manifest of {} alone names: PALETTE_BASES={place} names it too",
            outputs.place()
        );
        Ok(None)
    }

    /// The dataset of photographs that an output dataset was made from, where a sampling job made it.
    ///
    /// # Errors
    /// When what the job says of them is damaged, or of a later version.
    pub fn photographs_of(outputs: &OutputDataset) -> Result<Option<Place>> {
        let place = outputs.place().to_string();
        let origin = Origin::of_outputs(&outputs.manifest().options, &place).map_err(Usage::of)?;
        Ok(origin.map(|origin| origin.asked.dataset))
    }
}

/// A picture that was not decoded yet.
#[derive(Clone, Debug)]
pub enum Encoded {
    /// Has its size.
    Picture(Bytes),
    /// Has its size; with its file, for messages.
    File(Bytes, PathBuf),
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
        let (image, photograph) = match self {
            Self::Picture(bytes) => (picture::decode(bytes)?, false),
            Self::File(bytes, path) => {
                (picture::decode(bytes).with_context(|| path.display().to_string())?, false)
            }
            Self::Photograph(bytes) => (picture::decode(bytes)?, true),
        };
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
        match self {
            Self::Outputs(outputs, _) => write!(f, "{}", outputs.place()),
            Self::Photographs(dataset) => write!(f, "{}", dataset.store().place()),
            Self::Folder(folder) => write!(f, "{}", folder.root().display()),
        }
    }
}
