//! Super-resolution: the source was scaled down by a whole factor and up again, both bicubic, the
//! former antialiased.

use std::fmt;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{Degradation, Degraded};
use crate::Result;
use crate::config::range;
use crate::image::resample;
use random::Rng;

/// Fine detail of an image that was scaled down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Superresolution {
    /// Factors from and to, both included; drawn uniformly among the whole numbers.
    pub factor: [u32; 2],
}

impl Default for Superresolution {
    fn default() -> Self {
        Self { factor: [4, 4] }
    }
}

/// The factor of an evaluation: `4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Factor(pub u32);

impl Default for Factor {
    fn default() -> Self {
        Self(4)
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Factors that make sense: of one there is nothing to restore, of more nothing is left.
const FACTORS: [u32; 2] = [2, 64];

impl Degradation for Superresolution {
    const HOLE: bool = false;
    const FORMS: &'static str = "superresolution:N with N from 2 to 64";
    type Form = Factor;

    fn validate(&self, table: &str) -> Result<()> {
        range(&format!("{table}.factor"), self.factor, FACTORS[0], FACTORS[1])
    }

    fn train(&self, target: &RgbImage, rng: &mut Rng) -> Result<Degraded> {
        let factor = rng.integer(self.factor[0], self.factor[1]);
        Ok(Degraded::whole(coarse(target, factor)?))
    }

    fn form(text: &str) -> Option<Factor> {
        let factor = text.parse().ok()?;
        (FACTORS[0]..=FACTORS[1]).contains(&factor).then_some(Factor(factor))
    }

    fn evaluate(Factor(factor): Factor, target: &RgbImage, _: u64, _: &str) -> Result<Degraded> {
        Ok(Degraded::whole(coarse(target, factor)?))
    }
}

/// Down by `factor` (a side that is no multiple is rounded up) and up to the size that it had.
pub fn coarse(target: &RgbImage, factor: u32) -> Result<RgbImage> {
    let (width, height) = target.dimensions();
    let small = resample(target, width.div_ceil(factor), height.div_ceil(factor), None)?;
    resample(&small, width, height, None)
}
