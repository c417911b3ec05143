//! The mean of the perceptual distance squared: the paper does not say which of the two it means.

use anyhow::Result;

use super::perceptual::Perceptual;
use super::{About, Basis, Better, Heading, Line, Measure, Score, Section, With};
use crate::extractor::Seen;

pub struct PerceptualSquared;

impl Measure for PerceptualSquared {
    fn about(&self) -> About {
        About {
            name: "pd-squared",
            key: "perceptual_squared",
            basis: Basis::Extractor {
                section: Section::Features,
                with: With::Reference,
                claim: Score::Pd,
            },
            line: Line {
                name: "PD squared",
                of: "L2 of features, squared",
                factor: 1.0,
                digits: 3,
                scales: false,
            },
            column: Some(Heading { text: "PD²", better: Better::Lower, factor: 1.0, digits: 2 }),
            details: &[],
        }
    }

    fn look(&self, outputs: &Seen, references: Option<&Seen>) -> Result<Vec<f64>> {
        let distances = Perceptual.look(outputs, references)?;
        Ok(distances.into_iter().map(|distance| distance.powi(2)).collect())
    }
}
