//! Fool rates: of the answers to a study, how many took the output for the photograph. They come from the
//! study that a profile names for a table (`study/rates.rs`), not from a scoring.

use super::{About, Basis, Better, Heading, Line, Measure};

pub struct FoolRate {
    name: &'static str,
    heading: &'static str,
    seconds: f64,
}

impl FoolRate {
    pub const fn shown_for_3_seconds() -> Self {
        Self { name: "fool-3s", heading: "fool rate % (3 s)", seconds: 3.0 }
    }

    pub const fn shown_for_5_seconds() -> Self {
        Self { name: "fool-5s", heading: "fool rate % (5 s)", seconds: 5.0 }
    }
}

impl Measure for FoolRate {
    fn about(&self) -> About {
        let Self { name, heading, seconds } = *self;
        About {
            name,
            key: name,
            basis: Basis::Study { seconds },
            line: Line {
                name: heading,
                of: "answers to a study",
                factor: 100.0,
                digits: 1,
                scales: false,
            },
            column: Some(Heading {
                text: heading,
                better: Better::Higher,
                factor: 100.0,
                digits: 1,
            }),
            details: &[],
        }
    }
}
