//! FID: the Fréchet distance of features (Heusel et al. 2017), over the first output of each input, with
//! the interval of a jackknife over ten groups of images.

use anyhow::{Context, Result};

use super::maths::frechet::Reference;
use super::maths::{Groups, Moments};
use super::{
    About, Basis, Better, Heading, Interval, Line, Measure, Score, Section, Setting, Statistics,
    Tally, Value, With,
};
use crate::extractor::Seen;

/// Groups of the jackknife.
const GROUPS: usize = 10;

pub struct Frechet;

impl Measure for Frechet {
    fn about(&self) -> About {
        About {
            name: "fid",
            key: "fid",
            basis: Basis::Extractor {
                section: Section::Features,
                with: With::Distribution,
                claim: Score::Fid,
            },
            line: Line { name: "FID", of: "first outputs", factor: 1.0, digits: 3, scales: false },
            column: Some(Heading { text: "FID", better: Better::Lower, factor: 1.0, digits: 2 }),
            details: &[],
        }
    }

    fn tally(&self, setting: &Setting) -> Result<Option<Box<dyn Tally>>> {
        let Setting { features, device, .. } = *setting;
        let outputs = Groups::new(features, GROUPS, device)?;
        let references = Groups::new(features, 1, device)?;
        Ok(Some(Box::new(Features { outputs, references })))
    }
}

struct Features {
    outputs: Groups,
    references: Groups,
}

impl Tally for Features {
    fn add(&mut self, names: &[&str], outputs: &Seen, references: Option<&Seen>) -> Result<()> {
        self.outputs.add(names, outputs.features.as_ref().context("no features")?)?;
        if let Some(features) = references.and_then(|seen| seen.features.as_ref()) {
            self.references.add(names, features)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, reference: Option<&Statistics>) -> Result<Option<Value>> {
        let groups = self.outputs.finish()?;
        let own = self.references.total()?;
        let reference = reference.map_or(&own, |statistics| &statistics.moments);
        let all = Moments::sum(reference.width(), &groups)?;
        // A distance of a single picture says nothing.
        if all.count() < 2 || reference.count() < 2 {
            return Ok(None);
        }
        let reference = Reference::new(reference)?;
        let value = reference.distance(&all)?;
        let without = groups
            .iter()
            .filter(|group| group.count() > 0 && all.count() - group.count() >= 2)
            .map(|group| reference.distance(&all.without(group)?))
            .collect::<Result<Vec<f64>>>()?;
        let alone = Interval { value, low: value, high: value };
        let interval = Interval::jackknife(value, &without).unwrap_or(alone);
        Ok(Some(Value::Interval(interval)))
    }
}
