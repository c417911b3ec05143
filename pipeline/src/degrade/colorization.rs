//! Colorization: the source is the BT.601 luma, repeated three times.

use std::fmt;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{Degradation, Degraded};
use crate::Result;
use crate::image::quad;
use random::Rng;

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
    let mut source = RgbImage::new(target.width(), target.height());
    let (quads, last) = target.as_raw().as_chunks::<12>();
    let (grey_quads, grey_last) = source.as_chunks_mut::<12>();
    for (grey, quad) in grey_quads.iter_mut().zip(quads) {
        let [a, b, c] = quad::words(quad);
        let [p, q, r, s] = [
            weighted(a, a >> 8, a >> 16),
            weighted(a >> 24, b, b >> 8),
            weighted(b >> 16, b >> 24, c),
            weighted(c >> 8, c >> 16, c >> 24),
        ];
        let words =
            [(p * 0x01_0101) | (q << 24), (q * 0x0101) | (r * 0x0101_0000), r | (s * 0x0101_0100)];
        quad::set(grey, words);
    }
    for (grey, pixel) in grey_last.as_chunks_mut::<3>().0.iter_mut().zip(last.as_chunks::<3>().0) {
        *grey = [luma(*pixel); 3];
    }
    source
}

/// Luma of a pixel, 0 to 255.
pub(crate) fn luma([r, g, b]: [u8; 3]) -> u8 {
    weighted(r.into(), g.into(), b.into()) as u8
}

/// Luma of the lowest byte of each, 0 to 255. 16-bit fixed point; the three weights add up to 65536,
/// so that white stays white.
fn weighted(r: u32, g: u32, b: u32) -> u32 {
    (19_595 * (r & 0xff) + 38_470 * (g & 0xff) + 7_471 * (b & 0xff) + 32_768) >> 16
}
