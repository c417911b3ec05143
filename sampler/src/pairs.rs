//! What a sampling job restores: the images of a dataset, degraded.

use std::ops::Range;

use anyhow::Result;
use contracts::SamplingJob;
use image::RgbImage;
use outputs::Variant;
use pipeline::image::{self as picture, Window};
use pipeline::masks::MaskSet;
use pipeline::{Dataset, Degraded};
use terminal::Usage;

use crate::network::Item;

/// What is to be restored.
pub struct Pair {
    pub item: Item,
    /// The photograph that it is compared with.
    pub reference: RgbImage,
    /// How it was degraded.
    pub variant: Variant,
}

/// What a sampling job restores.
#[derive(Clone, Copy)]
pub struct Pairs<'a> {
    pub job: &'a SamplingJob,
    pub dataset: &'a Dataset,
    pub masks: Option<&'a MaskSet>,
}

impl<'a> Pairs<'a> {
    /// Every evaluation and sample of the images with these numbers, made when asked for.
    pub fn of(self, numbers: Range<u64>, size: u32) -> Box<dyn Iterator<Item = Result<Pair>> + 'a> {
        Box::new(numbers.flat_map(move |number| {
            self.of_row(spread(number, self.job.count, self.dataset.len()), size)
                .map_or_else(|error| vec![Err(error)], |pairs| pairs.into_iter().map(Ok).collect())
        }))
    }

    fn of_row(self, row: u64, size: u32) -> Result<Vec<Pair>> {
        let record = self.dataset.record(row)?;
        let decoded =
            picture::decode(&record.bytes).map_err(|error| self.dataset.damaged(row, &error))?;
        let reference = picture::fit(&decoded, size, Window::CENTER)?;
        let mut pairs = Vec::new();
        for evaluation in &self.job.evaluations {
            let (degraded, variant) = match self.masks {
                Some(masks) if evaluation.task().has_hole() => {
                    let mask = masks.mask(row, &record.key, size, size);
                    let mask = mask.map_err(|e| Usage::new(e.to_string()))?;
                    (Degraded::hole(&reference, mask), Variant::Task(evaluation.task()))
                }
                _ => {
                    let degraded = evaluation.apply(&reference, self.job.seed, &record.key)?;
                    (degraded, Variant::from(*evaluation))
                }
            };
            for sample in 0..self.job.samples {
                let item = Item {
                    task: evaluation.task(),
                    degraded: degraded.clone(),
                    key: record.key.clone(),
                    sample,
                };
                pairs.push(Pair { item, reference: reference.clone(), variant });
            }
        }
        Ok(pairs)
    }
}

/// Row of the number-th of `count` images that are spread evenly over `len` rows.
fn spread(number: u64, count: u64, len: u64) -> u64 {
    let row = u128::from(number) * u128::from(len) / u128::from(count.max(1));
    u64::try_from(row).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn images_are_spread_over_the_dataset_and_all_are_all() {
        let rows = |count, len| (0..count).map(|n| spread(n, count, len)).collect::<Vec<_>>();
        assert_eq!(rows(4, 100), [0, 25, 50, 75]);
        assert_eq!(rows(5, 5), [0, 1, 2, 3, 4]);
        assert_eq!(spread(u64::MAX - 1, u64::MAX, u64::MAX), u64::MAX - 1);
    }
}
