//! Mean structural similarity of whole pictures (Wang et al. 2004).

use super::{About, Basis, Better, Heading, Line, Measure, Own, Pixels};

pub struct Ssim;

impl Measure for Ssim {
    fn about(&self) -> About {
        About {
            name: "ssim",
            key: "ssim",
            basis: Basis::Pictures,
            line: Line {
                name: "SSIM",
                of: "whole pictures",
                factor: 1.0,
                digits: 4,
                scales: false,
            },
            column: Some(Heading { text: "SSIM", better: Better::Higher, factor: 1.0, digits: 3 }),
            details: &["ssim"],
        }
    }

    fn compare(&self, pixels: &Pixels) -> Option<Own> {
        pixels.structure.map(|structure| Own::of(structure.ssim))
    }
}
