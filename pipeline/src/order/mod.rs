//! The order of samples: a function of (seed, position) alone, so that any position is known at once.
//!
//! Position g of the stream is an image of epoch g / N at step g mod N of that epoch. An epoch holds
//! every image once, in the order that [`Shuffle`] names, keyed by (seed, dataset, epoch). Several
//! datasets are interleaved by weight (`mixture.rs`): the n-th position that a dataset takes is the n-th
//! of its own stream, so that it goes by whole epochs, in its own order, whatever it is mixed with.

mod mixture;
mod permutation;
mod windows;

use std::sync::{Arc, Mutex, PoisonError};

use mixture::Mixture;
pub use permutation::Permutation;
use serde::{Deserialize, Serialize};
use windows::Windows;

use random::{Rng, key};

/// Purpose of the keys.
const SUBSTITUTE: u64 = 0x7375_6273;

/// The order within an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shuffle {
    /// A permutation of all images.
    #[default]
    Full,
    /// A permutation of the row groups, the images of a few consecutive ones mixed: for stores where
    /// single reads are dear.
    Window,
    /// As the dataset has them.
    None,
}

/// One sample of the stream: image `index` of `dataset` in that dataset's epoch `epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleRef {
    /// Which dataset.
    pub dataset: usize,
    /// That dataset's epoch.
    pub epoch: u64,
    /// Row in the dataset.
    pub index: u64,
}

/// The order of a stream over one or several datasets.
#[derive(Debug)]
pub struct Order {
    seed: u64,
    shuffle: Shuffle,
    window: usize,
    streams: Vec<Rows>,
    mixture: Mixture,
}

/// The rows of one dataset.
#[derive(Debug)]
struct Rows {
    /// End of each row group.
    bounds: Vec<u64>,
    /// Even and odd epochs that were asked for last, so that threads on both sides of an epoch's end
    /// do not compute them in turn.
    latest: [Mutex<Option<Arc<Windows>>>; 2],
}

impl Order {
    /// The smallest share of the stream that a dataset may have: less is a mistake rather than a wish.
    pub const LEAST_SHARE: f64 = 1.0 / 65_536.0;

    /// The order over datasets, each given by the rows of its row groups (at least one row in
    /// all) and its weight (0, or at least [`Self::LEAST_SHARE`] of the sum). `window` (at least 1)
    /// is the number of row groups that [`Shuffle::Window`] mixes.
    pub fn new(seed: u64, shuffle: Shuffle, window: usize, datasets: &[(&[u64], f64)]) -> Self {
        let mixture = Mixture::new(seed, datasets.iter().map(|(_, weight)| *weight));
        let streams = datasets.iter().map(|(groups, _)| Rows::new(groups)).collect();
        Self { seed, shuffle, window: window.max(1), streams, mixture }
    }

    /// The sample at position `position` of the stream.
    pub fn sample(&self, position: u64) -> SampleRef {
        let (dataset, within) = self.mixture.at(position);
        let rows = &self.streams[dataset];
        let (epoch, step) = (within / rows.count(), within % rows.count());
        let epoch_key = key(&[self.seed, dataset as u64, epoch]);
        let index = match self.shuffle {
            Shuffle::Full => Permutation::new(rows.count(), epoch_key).apply(step),
            Shuffle::Window => rows.windows(epoch, epoch_key, self.window).row(&rows.bounds, step),
            Shuffle::None => step,
        };
        SampleRef { dataset, epoch, index }
    }

    /// What stands in for the sample at `position` where that cannot be used: for attempt 1, 2, …
    /// an image of the same dataset and epoch, drawn uniformly by (seed, position, attempt).
    pub fn substitute(&self, position: u64, attempt: u64) -> SampleRef {
        let sample = self.sample(position);
        let mut rng = Rng::new(key(&[self.seed, SUBSTITUTE, position, attempt]));
        SampleRef { index: rng.below(self.streams[sample.dataset].count()), ..sample }
    }
}

impl Rows {
    fn new(groups: &[u64]) -> Self {
        let mut sum = 0;
        let bounds = groups
            .iter()
            .map(|rows| {
                sum += rows;
                sum
            })
            .collect();
        Self { bounds, latest: Default::default() }
    }

    fn count(&self) -> u64 {
        self.bounds.last().copied().unwrap_or(0)
    }

    fn windows(&self, epoch: u64, epoch_key: u64, window: usize) -> Arc<Windows> {
        let latest = &self.latest[(epoch % 2) as usize];
        let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some(windows) if windows.is_of(epoch_key) => Arc::clone(windows),
            _ => {
                let windows = Arc::new(Windows::new(epoch_key, &self.bounds, window));
                *latest = Some(Arc::clone(&windows));
                windows
            }
        }
    }
}

#[cfg(test)]
mod tests;
