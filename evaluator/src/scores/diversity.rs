//! Mean absolute difference between the first and every other output of an input, over the generated
//! pixels; none where each input has one output.

use super::{About, Basis, Line, Measure, Own, Owns, Pixels, Value};

pub struct Diversity;

impl Measure for Diversity {
    fn about(&self) -> About {
        About {
            name: "diversity",
            key: "diversity",
            basis: Basis::Generated,
            line: Line {
                name: "diversity",
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
        pixels.apart.map(|sums| sums.absolute())
    }

    fn total(&self, owns: &Owns) -> Option<Value> {
        owns.pooled().value().map(Value::Number)
    }
}
