//! Mean PSNR of whole pictures, in dB with peak 255; equal pictures, whose PSNR is infinite, are left out.

use super::maths::structure;
use super::{About, Basis, Better, Heading, Line, Measure, Own, Pixels};

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
        psnr.is_finite().then(|| Own::of(psnr))
    }
}
