//! KID: the kernel distance of features (Bińkowski et al. 2018), over the first output of each input, with
//! the deviation over subsets.

use anyhow::{Context, Result};

use super::maths::{Sketch, kernel};
use super::{
    About, Basis, Better, Heading, Line, Measure, Score, Section, Setting, Statistics, Tally,
    Value, With,
};
use crate::extractor::Seen;

pub struct Kernel;

impl Measure for Kernel {
    fn about(&self) -> About {
        About {
            name: "kid",
            key: "kid",
            basis: Basis::Extractor {
                section: Section::Features,
                with: With::Distribution,
                claim: Score::Kid,
            },
            line: Line {
                name: "KID",
                of: "first outputs, deviation over subsets",
                factor: 1.0,
                digits: 5,
                scales: false,
            },
            column: Some(Heading {
                text: "KID·10³",
                better: Better::Lower,
                factor: 1000.0,
                digits: 2,
            }),
            details: &[],
        }
    }

    fn tally(&self, setting: &Setting) -> Result<Option<Box<dyn Tally>>> {
        let (outputs, references) = (Sketch::default(), Sketch::default());
        Ok(Some(Box::new(Features { outputs, references, subset: setting.subset })))
    }
}

struct Features {
    outputs: Sketch,
    references: Sketch,
    subset: usize,
}

impl Tally for Features {
    fn add(&mut self, names: &[&str], outputs: &Seen, references: Option<&Seen>) -> Result<()> {
        self.outputs.add_all(names, outputs.features.as_ref().context("no features")?)?;
        if let Some(features) = references.and_then(|seen| seen.features.as_ref()) {
            self.references.add_all(names, features)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, reference: Option<&Statistics>) -> Result<Option<Value>> {
        let reference = reference.map_or(&self.references, |statistics| &statistics.sketch);
        // A distance of a single picture says nothing.
        if self.outputs.len() < 2 || reference.len() < 2 {
            return Ok(None);
        }
        let (outputs, references) = (self.outputs.tensor()?, reference.tensor()?);
        let estimate = kernel::distance(&outputs, &references, self.subset, 0)?;
        Ok(Some(Value::Estimate(estimate)))
    }
}
