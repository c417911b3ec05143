//! Mean PSNR of whole pictures, in dB with peak 255. No picture counts more than [`MOST`], which is what one
//! counts that equals its reference and whose PSNR is infinite: a better output never makes the mean worse.

use super::maths::structure;
use super::{About, Basis, Better, Heading, Line, Measure, Own, Pixels};

/// What a picture counts at most, in dB: one level of one value in 256×256 pixels is 101.
pub const MOST: f64 = 100.0;

pub struct Psnr;

impl Measure for Psnr {
    fn about(&self) -> About {
        About {
            name: "psnr",
            key: "picture_psnr",
            basis: Basis::Pictures,
            line: Line {
                name: "PSNR of pictures",
                of: "whole pictures, dB",
                factor: 1.0,
                digits: 2,
                scales: false,
            },
            column: Some(Heading { text: "PSNR", better: Better::Higher, factor: 1.0, digits: 1 }),
            details: &["psnr"],
        }
    }

    fn compare(&self, pixels: &Pixels) -> Option<Own> {
        let psnr = structure::psnr(pixels.output, pixels.reference?)?;
        Some(Own::of(psnr.min(MOST)))
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::super::{Output, Owns, Score, Value};
    use super::*;
    use crate::pictures::Decoded;

    #[test]
    fn a_better_output_never_makes_the_mean_worse() {
        let reference = RgbImage::from_pixel(32, 32, Rgb([90, 120, 60]));
        let own = |level: u8| {
            let mut output = reference.clone();
            // From all pixels wrong over a single one to none.
            let wrong = usize::from(level).pow(2).min(32 * 32);
            output.pixels_mut().take(wrong).for_each(|pixel| pixel.0[0] += level);
            let decoded =
                Decoded { output, reference: Some(reference.clone()), first: None, given: None };
            Psnr.compare(&Pixels::new(&decoded, false, false).unwrap())
        };
        let mut levels = [40; 8];
        let mut before = f64::NEG_INFINITY;
        for at in 0..levels.len() {
            for level in [20, 5, 1, 0] {
                levels[at] = level;
                let outputs = levels.map(|level| {
                    let mut output = Output { first: true, ..Output::default() };
                    output.set(Score::Psnr, own(level));
                    output
                });
                let owns = Owns::of(Score::Psnr, &outputs.iter().collect::<Vec<_>>());
                let mean = Psnr.total(&owns).as_ref().map(Value::number).unwrap();
                assert!(mean > before, "{levels:?}: {mean} after {before}");
                before = mean;
            }
        }
        assert_eq!(before, MOST);
    }
}
