//! Uncropping: the borders of all four sides, or one side, are missing.

use std::fmt;

use image::{GrayImage, RgbImage};
use serde::{Deserialize, Serialize};

use super::{Degradation, Degraded, fill};
use crate::Result;
use crate::config::within;
use random::Rng;

/// Missing borders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uncropping {
    /// Share of the cases in which all four sides are missing; else one, drawn uniformly.
    pub four_sides: f64,
    /// Part of the image that is missing.
    pub area: f64,
}

impl Default for Uncropping {
    fn default() -> Self {
        Self { four_sides: 0.5, area: 0.5 }
    }
}

/// The border that is missing in an evaluation: `right-half`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Border {
    /// The right half; an odd middle column is kept.
    #[default]
    RightHalf,
}

impl fmt::Display for Border {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RightHalf => f.write_str("right-half"),
        }
    }
}

impl Degradation for Uncropping {
    const HOLE: bool = true;
    const FORMS: &'static str = "uncropping:right-half";
    type Form = Border;

    fn validate(&self, table: &str) -> Result<()> {
        within(&format!("{table}.four_sides"), self.four_sides, 0.0, 1.0)?;
        within(&format!("{table}.area"), self.area, 0.05, 0.95)
    }

    fn train(&self, target: &RgbImage, rng: &mut Rng) -> Result<Degraded> {
        let (width, height) = target.dimensions();
        Ok(Degraded::hole(target, self.mask(width, height, rng)))
    }

    fn form(text: &str) -> Option<Border> {
        (text == "right-half").then_some(Border::RightHalf)
    }

    fn evaluate(border: Border, target: &RgbImage, _: u64, _: &str) -> Result<Degraded> {
        let (width, height) = target.dimensions();
        let mask = match border {
            Border::RightHalf => right_half(width, height),
        };
        Ok(Degraded::hole(target, mask))
    }
}

impl Uncropping {
    /// A training mask, 1 where borders are missing.
    pub fn mask(&self, width: u32, height: u32, rng: &mut Rng) -> GrayImage {
        if rng.chance(self.four_sides) {
            return around(width, height, self.area);
        }
        let mut mask = GrayImage::new(width, height);
        let part = |side: u32| (f64::from(side) * self.area).round() as u32;
        let (w, h) = (part(width), part(height));
        let missing = match rng.below(4) {
            0 => [0, 0, w, height],
            1 => [width - w, 0, width, height],
            2 => [0, 0, width, h],
            _ => [0, height - h, width, height],
        };
        fill(&mut mask, missing, 1);
        mask
    }
}

/// All four sides missing; the kept middle has the image's shape (181×181 of 256×256 at one half).
fn around(width: u32, height: u32, area: f64) -> GrayImage {
    let mut mask = GrayImage::from_pixel(width, height, image::Luma([1]));
    let kept = |side: u32| (f64::from(side) * (1.0 - area).sqrt()).round() as u32;
    let (w, h) = (kept(width), kept(height));
    let (left, top) = ((width - w) / 2, (height - h) / 2);
    fill(&mut mask, [left, top, left + w, top + h], 0);
    mask
}

/// The right half missing (the paper's evaluation).
fn right_half(width: u32, height: u32) -> GrayImage {
    let mut mask = GrayImage::new(width, height);
    fill(&mut mask, [width.div_ceil(2), 0, width, height], 1);
    mask
}
