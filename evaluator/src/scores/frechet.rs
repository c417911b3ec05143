//! FID: the Fréchet distance of features (Heusel et al. 2017), over the first output of each input, with
//! the interval of a jackknife over ten groups of images, all of one size: of groups of several sizes, FID's bias
//! by the number of images would count as spread.

use anyhow::{Context, Result};

use super::maths::frechet::Reference;
use super::maths::{Groups, Moments};
use super::{
    About, Basis, Better, Heading, Interval, Line, Measure, Score, Section, Setting, Statistics,
    Tally, Value, With,
};
use crate::extractor::Seen;

/// Groups of the jackknife.
const GROUPS: u8 = 10;
/// Fewest images that an interval is given for: two a group.
const FEWEST: u64 = 20;

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
        let Setting { features, device, inputs, .. } = *setting;
        let outputs = Groups::new(features, inputs, GROUPS, device)?;
        let references = Groups::new(features, inputs, 0, device)?;
        Ok(Some(Box::new(Features { outputs, references })))
    }
}

struct Features {
    outputs: Groups,
    references: Groups,
}

impl Tally for Features {
    fn add(&mut self, _names: &[&str], outputs: &Seen, references: Option<&Seen>) -> Result<()> {
        self.outputs.add(outputs.features.as_ref().context("no features")?)?;
        if let Some(features) = references.and_then(|seen| seen.features.as_ref()) {
            self.references.add(features)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, reference: Option<&Statistics>) -> Result<Option<Value>> {
        let (all, groups) = self.outputs.finish()?;
        let (own, _) = self.references.finish()?;
        let reference = reference.map_or(&own, |statistics| &statistics.moments);
        // A distance of a single picture says nothing.
        if all.count() < 2 || reference.count() < 2 {
            return Ok(None);
        }
        let reference = Reference::new(reference)?;
        let value = reference.distance(&all)?;
        let groups = if all.count() < FEWEST { Vec::new() } else { groups };
        let without = groups.iter().map(|group| reference.distance(&all.without(group)?));
        let without = without.collect::<Result<Vec<f64>>>()?;
        let left_out = groups.first().map_or(0, Moments::count);
        let interval = Interval::jackknife(value, &without, all.count(), left_out);
        Ok(Some(Value::Interval(interval)))
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Tensor};

    use super::*;

    const WIDTH: i64 = 64;

    /// FID of `images` that are drawn a little wider than the reference and beside it, as outputs are.
    fn fid(images: i64, seed: u64, reference: &Statistics) -> Interval {
        let setting = Setting {
            inputs: images.unsigned_abs(),
            features: WIDTH,
            classes: 0,
            probabilities: false,
            device: Device::Cpu,
            splits: 1,
            subset: 2,
        };
        let mut tally = Frechet.tally(&setting).unwrap().unwrap();
        let seen = Seen { features: Some(normal(images, seed) * 1.2 + 0.3), ..Seen::default() };
        tally.add(&[], &seen, None).unwrap();
        match tally.finish(Some(reference)).unwrap() {
            Some(Value::Interval(interval)) => interval,
            other => panic!("{other:?}"),
        }
    }

    fn normal(images: i64, seed: u64) -> Tensor {
        let mut rng = random::Rng::new(seed);
        let values: Vec<f64> = (0..images * WIDTH).map(|_| rng.normal()).collect();
        Tensor::from_slice(&values).view([images, WIDTH])
    }

    /// 47 does not divide by ten, and 160 is fewer than five times the width.
    #[test]
    fn half_widths_are_a_little_over_two_deviations_of_fid_itself() {
        let moments = Moments::of(&normal(20_000, 1)).unwrap();
        let reference = Statistics { moments, sketch: Default::default() };
        for images in [47, 160, 325] {
            let drawn: Vec<Interval> =
                (0..60).map(|trial| fid(images, 100 + trial, &reference)).collect();
            let values: Vec<f64> = drawn.iter().map(|one| one.value).collect();
            let reaches: Vec<f64> = drawn.iter().filter_map(Interval::reach).collect();
            let deviation = statistics::deviation(&values).unwrap();
            let ratio = statistics::mean(&reaches).unwrap() / deviation;
            println!("{images} images: half-width {ratio:.2} deviations");
            assert!((1.8..3.2).contains(&ratio), "{images}: {ratio}");
        }
        assert_eq!(fid(19, 1, &reference).ends(), None);
        assert!(fid(20, 1, &reference).ends().is_some());
    }
}
