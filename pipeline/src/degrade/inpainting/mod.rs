//! Inpainting: a hole of free-form strokes or of boxes, by share; in evaluations strokes of a given
//! area, or a square in the middle.

mod boxes;
mod strokes;

use std::fmt;

use image::{GrayImage, RgbImage};
use serde::{Deserialize, Serialize};

pub use boxes::BoxesConfig;
pub use strokes::StrokesConfig;

use super::{Degradation, Degraded, area, fill};
use crate::Result;
use crate::config::within;
use random::{Rng, key, text_key};

/// A hole inside the image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Inpainting {
    /// Share of the masks that are free-form strokes; the rest are boxes.
    pub free_form_share: f64,
    /// Free-form strokes.
    pub strokes: StrokesConfig,
    /// Boxes.
    pub boxes: BoxesConfig,
}

impl Default for Inpainting {
    fn default() -> Self {
        Self {
            free_form_share: 0.6,
            strokes: StrokesConfig::default(),
            boxes: BoxesConfig::default(),
        }
    }
}

/// The hole of an evaluation: `free-form-10-20`, `center`, `center-96`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hole {
    /// Free-form strokes that cover this many percent of the image: at least the first number,
    /// less than the second.
    FreeForm([u8; 2]),
    /// A square in the middle; its side in pixels of a 256×256 image scales with the image.
    Center(u32),
}

impl Default for Hole {
    fn default() -> Self {
        Self::FreeForm([20, 30])
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FreeForm([low, high]) => write!(f, "free-form-{low}-{high}"),
            Self::Center(128) => f.write_str("center"),
            Self::Center(side) => write!(f, "center-{side}"),
        }
    }
}

impl Degradation for Inpainting {
    const HOLE: bool = true;
    const FORMS: &'static str = "inpainting:free-form-10-20 (any bin from 1 to 60), \
        inpainting:center, inpainting:center-N with N from 1 to 256";
    type Form = Hole;

    fn validate(&self, table: &str) -> Result<()> {
        within(&format!("{table}.free_form_share"), self.free_form_share, 0.0, 1.0)?;
        self.strokes.validate(&format!("{table}.strokes"))?;
        self.boxes.validate(&format!("{table}.boxes"))
    }

    fn train(&self, target: &RgbImage, rng: &mut Rng) -> Result<Degraded> {
        let (width, height) = target.dimensions();
        Ok(Degraded::hole(target, self.mask(width, height, rng)))
    }

    fn form(text: &str) -> Option<Hole> {
        if text == "center" {
            return Some(Hole::Center(128));
        }
        if let Some(side) = text.strip_prefix("center-") {
            return side.parse().ok().filter(|side| (1..=256).contains(side)).map(Hole::Center);
        }
        bin(text.strip_prefix("free-form-")?).map(Hole::FreeForm)
    }

    fn evaluate(hole: Hole, target: &RgbImage, seed: u64, key: &str) -> Result<Degraded> {
        let (width, height) = target.dimensions();
        Ok(Degraded::hole(target, hole.mask(width, height, seed, key)))
    }
}

/// A bin of areas in percent, `10-20`; within 1 to 60, where strokes reach.
pub fn bin(text: &str) -> Option<[u8; 2]> {
    let (low, high) = text.split_once('-')?;
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (1 <= low && low < high && high <= 60).then_some([low, high])
}

impl Inpainting {
    /// A training mask, 1 in the hole.
    pub fn mask(&self, width: u32, height: u32, rng: &mut Rng) -> GrayImage {
        if rng.chance(self.free_form_share) {
            self.strokes.mask(width, height, rng)
        } else {
            self.boxes.mask(width, height, rng)
        }
    }
}

impl Hole {
    /// The mask of a record, 1 in the hole; what is random in it depends on `seed` and `key` alone.
    pub fn mask(self, width: u32, height: u32, seed: u64, key: &str) -> GrayImage {
        match self {
            Self::FreeForm(bin) => free_form(bin, width, height, seed, key),
            Self::Center(side) => center(side, width, height),
        }
    }
}

/// Draws of a mask before the area nearest to the bin is taken as it is.
const TRIES: u64 = 10_000;

/// Strokes as in training, drawn again until their area lies in the bin.
fn free_form(bin: [u8; 2], width: u32, height: u32, seed: u64, name: &str) -> GrayImage {
    let strokes = StrokesConfig::default();
    let [low, high] = bin.map(|percent| f64::from(percent) / 100.0);
    let middle = (low + high) / 2.0;
    let mut best: Option<(f64, GrayImage)> = None;
    for attempt in 0..TRIES {
        let rng = &mut Rng::new(key(&[seed, 0x6576_616c, text_key(name), attempt]));
        let mask = strokes.mask(width, height, rng);
        let part = area(&mask);
        if part >= low && part < high {
            return mask;
        }
        let distance = (part - middle).abs();
        if best.as_ref().is_none_or(|(nearest, _)| distance < *nearest) {
            best = Some((distance, mask));
        }
    }
    best.map(|(_, mask)| mask).unwrap_or_else(|| GrayImage::new(width, height))
}

fn center(side: u32, width: u32, height: u32) -> GrayImage {
    let span = |length: u32| {
        let scaled = (f64::from(length) * f64::from(side) / 256.0).round() as u32;
        let hole = scaled.clamp(1, length);
        let from = (length - hole) / 2;
        (from, from + hole)
    };
    let ((left, right), (top, bottom)) = (span(width), span(height));
    let mut mask = GrayImage::new(width, height);
    fill(&mut mask, [left, top, right, bottom], 1);
    mask
}
