//! Uncropping: the borders of all four sides, or one side, are missing.

use image::GrayImage;
use serde::{Deserialize, Serialize};

use super::fill;
use crate::Result;
use crate::config::within;
use crate::random::Rng;

/// Numbers of the missing borders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UncropConfig {
    /// Share of the cases in which all four sides are missing; else one, drawn uniformly.
    pub four_sides: f64,
    /// Part of the image that is missing.
    pub area: f64,
}

impl Default for UncropConfig {
    fn default() -> Self {
        Self { four_sides: 0.5, area: 0.5 }
    }
}

impl UncropConfig {
    pub(super) fn validate(&self) -> Result<()> {
        within("data.degradation.uncrop.four_sides", self.four_sides, 0.0, 1.0)?;
        within("data.degradation.uncrop.area", self.area, 0.05, 0.95)
    }
}

/// A mask of missing borders.
pub fn mask(config: &UncropConfig, width: u32, height: u32, rng: &mut Rng) -> GrayImage {
    if rng.chance(config.four_sides) {
        return around(width, height, config.area);
    }
    let mut mask = GrayImage::new(width, height);
    let part = |side: u32| (f64::from(side) * config.area).round() as u32;
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

/// All four sides missing; the kept middle has the image's shape (181×181 of 256×256 at one half).
fn around(width: u32, height: u32, area: f64) -> GrayImage {
    let mut mask = GrayImage::from_pixel(width, height, image::Luma([1]));
    let kept = |side: u32| (f64::from(side) * (1.0 - area).sqrt()).round() as u32;
    let (w, h) = (kept(width), kept(height));
    let (left, top) = ((width - w) / 2, (height - h) / 2);
    fill(&mut mask, [left, top, left + w, top + h], 0);
    mask
}

/// The right half missing (the paper's evaluation); an odd middle column is kept.
pub fn right_half(width: u32, height: u32) -> GrayImage {
    let mut mask = GrayImage::new(width, height);
    fill(&mut mask, [width.div_ceil(2), 0, width, height], 1);
    mask
}
