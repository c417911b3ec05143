//! Masks that are given and not drawn: the public archives, those stored beside a dataset, and a
//! user's own pictures. Always holds: a mask that comes out is of the size asked for, 1 where pixels
//! are to be generated, else 0, and neither empty nor full.
//!
//! A mask of another size than the image is treated as the photograph was: scaled until it covers
//! the image, cut at the middle; by the nearest pixel, so that it stays binary.

mod archive;
mod drawing;
mod pictures;
mod stored;

use std::fmt;
use std::path::{Path, PathBuf};

use image::GrayImage;
use serde::{Deserialize, Serialize};
use storage::{Place, atomic};

use self::archive::Archive;
pub use self::drawing::{Drawn, erased};
use self::pictures::Pictures;
use self::stored::Stored;
pub use self::stored::{StoredMasks, store};
use crate::degrade::area;
use crate::{Error, Result};

/// How mask files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaskOptions {
    /// Luma (BT.601, 0 to 255) from which a pixel of a picture is the hole; of strokes on transparency the
    /// alpha, of an erased photograph 255 less the alpha. What stores bits has 255 for a set one.
    pub threshold: u8,
    /// The rest is the hole: the dark pixels, what is not drawn on, what is not erased.
    pub invert: bool,
}

impl Default for MaskOptions {
    fn default() -> Self {
        Self { threshold: 128, invert: false }
    }
}

impl MaskOptions {
    /// What the grey values of a mask mark.
    ///
    /// # Errors
    /// With why, for a mask that marks nothing or everything.
    pub fn taken(self, mut mask: GrayImage, drawn: Drawn) -> std::result::Result<Taken, String> {
        let low = mask.iter().copied().min().unwrap_or(0);
        let high = mask.iter().copied().max().unwrap_or(0);
        for value in mask.iter_mut() {
            *value = u8::from((*value >= self.threshold) != self.invert);
        }
        let part = area(&mask);
        if part > 0.0 && part < 1.0 {
            return Ok(Taken { mask, drawn, inverted: self.invert });
        }
        let marks = if part > 0.0 { "everything" } else { "nothing" };
        let from = self.threshold;
        // What of the two sides of a threshold is the hole changes nothing where all are on one.
        let hint = match (low == high, low >= from) {
            (true, _) => format!("all its pixels have the grey value {low}"),
            (false, true) => {
                let between = low + (high - low).div_ceil(2);
                format!(
                    "its smallest grey value is {low}, its largest {high}: --mask-threshold {between}"
                )
            }
            (false, false) => {
                let between = low + (high - low).div_ceil(2);
                format!("its largest grey value is {high}: --mask-threshold {between}")
            }
        };
        Err(format!("{marks}: the hole is from grey {from} on, {hint}"))
    }
}

/// An opened set of masks. Images are matched by their row in the dataset or by their key, as the
/// set is made.
pub struct MaskSet {
    place: String,
    path: PathBuf,
    masks: Masks,
    options: MaskOptions,
}

enum Masks {
    /// By row.
    Archive(Archive),
    /// By key.
    Stored(Stored),
    /// By key, or one for all.
    Pictures(Pictures),
}

impl MaskSet {
    /// Opens `PATH` or `PATH#KEY`:
    ///
    /// - `FILE.npz`: the archive of the published evaluations, mask i for row i of the dataset; KEY
    ///   is the array, such as `10-20% freeform`, and may be left out where there is only one.
    /// - `FILE.parquet`: what `pipeline masks` stored, matched by key.
    /// - a folder of pictures, matched by key or by file name, without their endings.
    /// - one picture, for all images.
    ///
    /// # Errors
    /// When nothing is there, it cannot be read or holds no masks; where the key is missing or names
    /// nothing.
    pub fn open(place: &str, options: MaskOptions) -> Result<Self> {
        let (path, key) = split(place)?;
        let whole = Place::folder(&path)?.to_string();
        let place = key.iter().fold(whole, |path, key| format!("{path}#{key}"));
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let masks = match extension.to_lowercase().as_str() {
            "npz" => Masks::Archive(Archive::open(&path, key.as_deref())?),
            _ if key.is_some() => {
                return Err(Error::source(&place, "only an .npz archive has keys; leave out `#…`"));
            }
            "parquet" => Masks::Stored(Stored::open(&path)?),
            _ => Masks::Pictures(Pictures::open(&path)?),
        };
        Ok(Self { place, path, masks, options })
    }

    /// What the files are: SHA-256 of the file, or of the lines "sha256  file" of a folder's pictures in the
    /// order of their names; hexadecimal. Reads them all.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn digest(&self) -> Result<String> {
        match &self.masks {
            Masks::Pictures(pictures) => pictures.digest(&self.path),
            Masks::Archive(_) | Masks::Stored(_) => Ok(atomic::sha256_file(&self.path)?.0),
        }
    }

    /// `PATH` or `PATH#KEY` by its absolute path: [`Self::open`] opens the same set from anywhere.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The mask of an image of `width`×`height`: that of row `index` of the dataset, or of its
    /// `key`, as the set is made. 1 where pixels are to be generated, else 0.
    ///
    /// # Errors
    /// Where the set has no mask for the image or it cannot be read; for a mask that marks nothing
    /// or everything.
    pub fn mask(&self, index: u64, key: &str, width: u32, height: u32) -> Result<GrayImage> {
        let mask = cover(&self.own_size(index, key)?.mask, width, height);
        let part = area(&mask);
        if part > 0.0 && part < 1.0 {
            return Ok(mask);
        }
        // Only what is scaled and cut can lose its hole here.
        let message =
            format!("the mask of `{key}` marks nothing in the middle, which is what is used");
        Err(Error::source(&self.place, message))
    }

    /// [`Self::mask`] in the size that it has by itself, and what it was taken for.
    ///
    /// # Errors
    /// Where the set has no mask for the image or it cannot be read; for a mask that marks nothing
    /// or everything.
    pub fn own_size(&self, index: u64, key: &str) -> Result<Taken> {
        let (grey, drawn) = match &self.masks {
            Masks::Archive(archive) => (archive.mask(index)?, Drawn::Light),
            Masks::Stored(stored) => (stored.mask(key)?, Drawn::Light),
            Masks::Pictures(pictures) => pictures.mask(key)?,
        };
        self.options
            .taken(grey, drawn)
            .map_err(|why| Error::source(&self.place, format!("the mask of `{key}` marks {why}")))
    }
}

/// A mask, 1 in the hole and else 0, and what it was taken for.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The mask.
    pub mask: GrayImage,
    /// What of the file is the hole; the rest where that is asked for.
    pub drawn: Drawn,
    /// The rest is the hole.
    pub inverted: bool,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mask, drawn, inverted } = self;
        let but = if *inverted { "all but " } else { "" };
        write!(f, "{but}{drawn}, {:.1} % of the picture", 100.0 * area(mask))
    }
}

/// Path and key of `PATH#KEY`; what is there under the whole name has none.
fn split(place: &str) -> Result<(PathBuf, Option<String>)> {
    let whole = local(place)?;
    if let (false, Some((path, key))) = (whole.exists(), place.rsplit_once('#')) {
        return Ok((local(path)?, Some(key.to_owned())));
    }
    Ok((whole, None))
}

/// The path of an address, which must be on this machine.
fn local(text: &str) -> Result<PathBuf> {
    let place: Place = text.parse()?;
    let path = place.local().map(Path::to_owned);
    path.ok_or_else(|| Error::source(text, "masks must lie on this machine; give a local path"))
}

/// The mask scaled by the nearest pixel until it covers `width`×`height`, the middle of it.
pub fn cover(mask: &GrayImage, width: u32, height: u32) -> GrayImage {
    if mask.dimensions() == (width, height) {
        return mask.clone();
    }
    let [w, h, mw, mh] = [width, height, mask.width(), mask.height()].map(f64::from);
    let scale = (w / mw).max(h / mh);
    let from = |at: u32, side: f64, own: f64| {
        let place = (f64::from(at) + 0.5 - side / 2.0) / scale + own / 2.0;
        place.clamp(0.0, own - 1.0) as u32
    };
    GrayImage::from_fn(width, height, |x, y| *mask.get_pixel(from(x, w, mw), from(y, h, mh)))
}

#[cfg(test)]
mod tests;
