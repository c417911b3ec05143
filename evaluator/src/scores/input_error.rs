//! The error of what the network was given, which it should undercut; none where the input has a masked
//! region, whose pixels say nothing.

use super::{About, Basis, Line, Measure, Own, Owns, Pixels, Value};

pub struct InputError;

impl Measure for InputError {
    fn about(&self) -> About {
        About {
            name: "input-error",
            key: "input_mean_absolute_error",
            basis: Basis::Generated,
            line: Line {
                name: "error of the input",
                of: "generated pixels, levels of 0 to 255",
                factor: 1.0,
                digits: 2,
                scales: false,
            },
            column: None,
            details: &[],
        }
    }

    fn compare(&self, pixels: &Pixels) -> Option<Own> {
        pixels.input_error.filter(|_| !pixels.hole).map(|sums| sums.absolute())
    }

    fn total(&self, owns: &Owns) -> Option<Value> {
        owns.pooled().value().map(Value::Number)
    }
}
