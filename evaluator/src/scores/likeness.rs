//! Multi-scale SSIM between the first and every other output of an input (figure 7 of the paper), with a
//! histogram: the higher, the less diverse.

use super::{About, Basis, Better, Heading, Line, Measure, Own, Owns, Pixels, Value};

/// Bins of the histogram, from 0 to 1.
pub const BINS: usize = 50;

pub struct Likeness;

impl Measure for Likeness {
    fn about(&self) -> About {
        About {
            name: "likeness",
            key: "diversity_ms_ssim",
            basis: Basis::Pictures,
            line: Line {
                name: "MS-SSIM of outputs",
                of: "first and others",
                factor: 1.0,
                digits: 4,
                scales: true,
            },
            column: Some(Heading {
                text: "likeness of outputs",
                better: Better::Lower,
                factor: 1.0,
                digits: 3,
            }),
            details: &["likeness_to_first"],
        }
    }

    fn compare(&self, pixels: &Pixels) -> Option<Own> {
        pixels.likeness.map(|structure| Own::of(structure.ms_ssim))
    }

    fn total(&self, owns: &Owns) -> Option<Value> {
        let histogram = statistics::histogram(owns.values(), 0.0..1.0, BINS);
        owns.over_inputs().map(|mean| Value::Distribution { mean, histogram })
    }
}
