//! Perceptual distance (PD of the paper): the mean L2 distance of features between output and reference.

use anyhow::{Context, Result};
use tch::{Device, Kind};

use super::{About, Basis, Better, Heading, Line, Measure, Score, Section, With};
use crate::extractor::Seen;

pub struct Perceptual;

impl Measure for Perceptual {
    fn about(&self) -> About {
        About {
            name: "pd",
            key: "perceptual",
            basis: Basis::Extractor {
                section: Section::Features,
                with: With::Reference,
                claim: Score::Pd,
            },
            line: Line { name: "PD", of: "L2 of features", factor: 1.0, digits: 3, scales: false },
            column: Some(Heading { text: "PD", better: Better::Lower, factor: 1.0, digits: 2 }),
            details: &["perceptual"],
        }
    }

    fn look(&self, outputs: &Seen, references: Option<&Seen>) -> Result<Vec<f64>> {
        let features = |seen: Option<&'_ Seen>| {
            seen.and_then(|seen| seen.features.as_ref().map(tch::Tensor::shallow_clone))
        };
        let outputs = features(Some(outputs)).context("no features")?;
        let references = features(references).context("references without features")?;
        let apart = outputs.f_sub(&references)?.f_to_kind(Kind::Double)?.f_square()?;
        let squares = apart.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?;
        Ok(Vec::try_from(squares.f_sqrt()?.f_to_device(Device::Cpu)?)?)
    }
}
