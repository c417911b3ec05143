//! Inpainting: one to five boxes whose union covers a given part of the image.

use image::GrayImage;
use serde::{Deserialize, Serialize};

use super::{area, fill};
use crate::config::{range, within};
use crate::{Error, Result};
use random::Rng;

/// Numbers of the boxes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoxesConfig {
    /// Boxes in an image, from and to, both included.
    pub count: [u32; 2],
    /// Part of the image that their union covers, from and to.
    pub area: [f64; 2],
}

impl Default for BoxesConfig {
    fn default() -> Self {
        Self { count: [1, 5], area: [0.10, 0.30] }
    }
}

impl BoxesConfig {
    pub(super) fn validate(&self, table: &str) -> Result<()> {
        range(&format!("{table}.count"), self.count, 1, 100)?;
        let key = format!("{table}.area");
        range(&key, self.area, 0.0, 1.0)?;
        let width = self.area[1] - self.area[0];
        if width < 0.05 {
            let value = format!("[{}, {}]", self.area[0], self.area[1]);
            let allowed = "a range at least 0.05 wide, so that whole pixels can meet it";
            return Err(Error::config(key, value, allowed));
        }
        within(&key, self.area[0], 0.0, 0.95)
    }

    /// A mask of boxes, 1 inside; the union's area always lies in the configured range (for sides
    /// of at least 8 pixels).
    pub fn mask(&self, width: u32, height: u32, rng: &mut Rng) -> GrayImage {
        let count = rng.integer(self.count[0], self.count[1]);
        let [low, high] = self.area;
        let target = rng.between(low, high);
        for _ in 0..TRIES {
            let mut mask = GrayImage::new(width, height);
            let shares: Vec<_> = (0..count).map(|_| rng.between(0.3, 1.0)).collect();
            let sum: f64 = shares.iter().sum();
            for share in shares {
                place(&mut mask, target * share / sum, rng);
            }
            if (low..=high).contains(&area(&mask)) {
                return mask;
            }
        }
        single(self, width, height, target, rng)
    }
}

/// Draws of boxes before one box of the right area is taken instead.
const TRIES: usize = 64;

/// Fills one box of about this part of the image, its sides within 1:2 and 2:1 of the image's.
fn place(mask: &mut GrayImage, part: f64, rng: &mut Rng) {
    let stretch = rng.between(-0.5, 0.5).exp2();
    let (width, height) = mask.dimensions();
    let side = |length: u32, scale: f64| {
        ((f64::from(length) * part.sqrt() * scale).round() as u32).clamp(1, length)
    };
    let (w, h) = (side(width, stretch), side(height, 1.0 / stretch));
    let left = rng.integer(0, width - w);
    let top = rng.integer(0, height - h);
    fill(mask, [left, top, left + w, top + h], 1);
}

/// One box, of all boxes in whole pixels that lie in the range the one nearest to `target`.
fn single(config: &BoxesConfig, width: u32, height: u32, target: f64, rng: &mut Rng) -> GrayImage {
    let total = f64::from(width) * f64::from(height);
    let error = |w: u32, h: u32| {
        let part = f64::from(w) * f64::from(h) / total;
        let outside = part < config.area[0] || part > config.area[1];
        (part - target).abs() + if outside { 1.0 } else { 0.0 }
    };
    let (w, h) = (1..=width)
        .map(|w| {
            let h = (target * total / f64::from(w)).round().clamp(1.0, f64::from(height)) as u32;
            (w, h)
        })
        .min_by(|a, b| error(a.0, a.1).total_cmp(&error(b.0, b.1)))
        .unwrap_or((width, height));
    let mut mask = GrayImage::new(width, height);
    let left = rng.integer(0, width - w);
    let top = rng.integer(0, height - h);
    fill(&mut mask, [left, top, left + w, top + h], 1);
    mask
}
