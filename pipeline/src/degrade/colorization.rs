//! Colorization: the source is the BT.601 luma, repeated three times.

use std::fmt;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{Degradation, Degraded};
use crate::Result;
use crate::random::Rng;

/// Grey to colour: there is nothing to choose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Colorization {}

/// The one form of its evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grey;

impl fmt::Display for Grey {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl Degradation for Colorization {
    const HOLE: bool = false;
    const FORMS: &'static str = "colorization";
    type Form = Grey;

    fn validate(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn train(&self, target: &RgbImage, _: &mut Rng) -> Result<Degraded> {
        Ok(Degraded::whole(grey(target)))
    }

    fn form(_: &str) -> Option<Grey> {
        None
    }

    fn evaluate(_: Grey, target: &RgbImage, _: u64, _: &str) -> Result<Degraded> {
        Ok(Degraded::whole(grey(target)))
    }
}

/// Luma Y = 0.299 R + 0.587 G + 0.114 B, rounded, in all three channels.
pub fn grey(target: &RgbImage) -> RgbImage {
    let mut source = target.clone();
    for pixel in source.as_chunks_mut::<3>().0 {
        *pixel = [luma(*pixel); 3];
    }
    source
}

/// 16-bit fixed point; the three weights add up to 65536, so that white stays white.
pub(crate) fn luma([r, g, b]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b);
    ((sum + 32_768) >> 16) as u8
}
