//! Mean multi-scale SSIM of whole pictures (Wang et al. 2003).

use super::{About, Basis, Better, Heading, Line, Measure, Own, Pixels};

pub struct MsSsim;

impl Measure for MsSsim {
    fn about(&self) -> About {
        About {
            name: "ms-ssim",
            key: "ms_ssim",
            basis: Basis::Pictures,
            line: Line {
                name: "MS-SSIM",
                of: "whole pictures",
                factor: 1.0,
                digits: 4,
                scales: true,
            },
            column: Some(Heading {
                text: "MS-SSIM",
                better: Better::Higher,
                factor: 1.0,
                digits: 3,
            }),
            details: &["ms_ssim"],
        }
    }

    fn compare(&self, pixels: &Pixels) -> Option<Own> {
        pixels.structure.map(|structure| Own::of(structure.ms_ssim))
    }
}
