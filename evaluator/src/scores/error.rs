//! Mean absolute error over the pixels that were to be generated: what was given is right by construction
//! and would only flatter the score.

use super::{About, Basis, Line, Measure, Own, Owns, Pixels, Value};

pub struct Error;

impl Measure for Error {
    fn about(&self) -> About {
        About {
            name: "error",
            key: "mean_absolute_error",
            basis: Basis::Generated,
            line: Line {
                name: "error",
                of: "generated pixels, levels of 0 to 255",
                factor: 1.0,
                digits: 2,
                scales: false,
            },
            column: None,
            details: &["error"],
        }
    }

    fn compare(&self, pixels: &Pixels) -> Option<Own> {
        pixels.error.map(|sums| sums.absolute())
    }

    fn total(&self, owns: &Owns) -> Option<Value> {
        owns.pooled().value().map(Value::Number)
    }
}
