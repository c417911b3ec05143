//! What a picture file marks as the hole, as people draw it: white on black, strokes on transparency, or
//! a photograph out of which the hole was erased.

use std::fmt;
use std::path::Path;

use image::{DynamicImage, GrayImage, Luma, RgbaImage};

use crate::degrade::colorization;
use crate::image::{self as picture, Limits};
use crate::{Error, Result};

/// Colours of strokes on transparency differ by so much a channel, at most.
const ONE_COLOUR: u8 = 48;
/// Alpha of a pixel that is no soft edge.
const OPAQUE: u8 = 250;

/// What of a mask file is the hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// Its light pixels.
    Light,
    /// Its opaque pixels: strokes of one colour on transparency.
    Strokes,
    /// Its transparent pixels: it is a photograph, and the hole was erased.
    Erased,
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Light => "its light pixels",
            Self::Strokes => "its strokes on transparency",
            Self::Erased => "what is erased of it",
        })
    }
}

/// A mask file as grey values, the higher the more hole, upright as its EXIF says.
///
/// # Errors
/// When it cannot be read.
pub(super) fn read(path: &Path) -> Result<(GrayImage, Drawn)> {
    let picture = picture::read(path, &Limits::DECODE)
        .and_then(|bytes| picture::decode_full(&bytes))
        .map_err(|error| Error::source(path, format!("no mask can be read: {error}")))?;
    Ok(match picture.more.filter(|more| more.color().has_alpha()) {
        Some(layered) => of_alpha(&layered),
        None => {
            let luma = |x, y| Luma([colorization::luma(picture.flat.get_pixel(x, y).0)]);
            let (width, height) = picture.flat.dimensions();
            (GrayImage::from_fn(width, height, luma), Drawn::Light)
        }
    })
}

/// The hole of a photograph of which a part is transparent: 255 there, 0 where it is opaque.
pub fn erased(picture: &DynamicImage) -> GrayImage {
    let picture = picture.to_rgba8();
    let hole = |x, y| Luma([255 - picture.get_pixel(x, y).0[3]]);
    GrayImage::from_fn(picture.width(), picture.height(), hole)
}

fn of_alpha(layered: &DynamicImage) -> (GrayImage, Drawn) {
    let picture = layered.to_rgba8();
    let (width, height) = picture.dimensions();
    match drawn(&picture) {
        Drawn::Strokes => {
            let alpha = |x, y| Luma([picture.get_pixel(x, y).0[3]]);
            (GrayImage::from_fn(width, height, alpha), Drawn::Strokes)
        }
        Drawn::Erased => (erased(layered), Drawn::Erased),
        Drawn::Light => {
            // Transparent is as black as what was not drawn on.
            let light = |x, y| {
                let [r, g, b, a] = picture.get_pixel(x, y).0;
                Luma([if a < 128 { 0 } else { colorization::luma([r, g, b]) }])
            };
            (GrayImage::from_fn(width, height, light), Drawn::Light)
        }
    }
}

/// By the colours of the opaque pixels: one colour is that of strokes, black and white are a mask, others
/// those of a photograph.
fn drawn(picture: &RgbaImage) -> Drawn {
    let opaque = || picture.pixels().filter(|pixel| pixel.0[3] >= OPAQUE).map(|pixel| pixel.0);
    let (mut low, mut high) = ([u8::MAX; 3], [0; 3]);
    let mut is_mask = true;
    for [r, g, b, _] in opaque() {
        for ((low, high), value) in low.iter_mut().zip(&mut high).zip([r, g, b]) {
            (*low, *high) = ((*low).min(value), (*high).max(value));
        }
        is_mask &= [r, g, b].iter().all(|value| *value <= ONE_COLOUR)
            || [r, g, b].iter().all(|value| *value >= 255 - ONE_COLOUR);
    }
    let one_colour =
        low.iter().zip(high).all(|(low, high)| high.saturating_sub(*low) <= ONE_COLOUR);
    match (one_colour, is_mask) {
        (true, _) => Drawn::Strokes,
        (false, true) => Drawn::Light,
        (false, false) => Drawn::Erased,
    }
}
