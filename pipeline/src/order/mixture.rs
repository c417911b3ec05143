//! Which dataset a position of a mixture takes, and how many positions before it took the same one: a
//! function of (seed, weights, position), computed from the position alone.
//!
//! Two datasets are interleaved as evenly as whole numbers allow: of the first n positions the first
//! takes ⌊(n·a + φ) / s⌋, with its share a/s and a phase φ < s that the seed draws. Steps of this count
//! are 0 or 1 (a Sturmian word), and its inverse is the count itself, so that no table is kept. More
//! datasets are halved first, and each half again among the positions that it takes.
//!
//! Always holds: of the first n positions a dataset takes its share of n to within ⌈log₂ K⌉ of K datasets,
//! for every n; its ranks are 0, 1, 2, … in the order of the positions.

use random::key;

/// Whole of the weights: shares are multiples of its inverse.
const WHOLE: u64 = 1 << 48;
/// Purpose of the keys of the phases.
const PHASE: u64 = 0x6d69_7870;

/// The datasets of a stream by position.
#[derive(Debug)]
pub(super) struct Mixture {
    seed: u64,
    /// Shares of the datasets, as running sums from 0 to [`WHOLE`].
    bounds: Vec<u64>,
}

impl Mixture {
    /// The mixture of datasets by these weights, of which one at least is more than 0.
    pub(super) fn new(seed: u64, weights: impl Iterator<Item = f64> + Clone) -> Self {
        let total: f64 = weights.clone().sum();
        let mut sum = 0.0;
        let bounds = std::iter::once(0)
            .chain(weights.map(|weight| {
                sum += weight;
                (sum / total * WHOLE as f64).round() as u64
            }))
            .collect();
        Self { seed, bounds }
    }

    /// The dataset at a position, and the positions before it that took the same dataset.
    pub(super) fn at(&self, position: u64) -> (usize, u64) {
        let (mut from, mut to) = (0, self.bounds.len() - 1);
        let mut rank = position;
        while to - from > 1 {
            let middle = from.midpoint(to);
            let first = self.bounds[middle] - self.bounds[from];
            let whole = self.bounds[to] - self.bounds[from];
            let taken = self.taken(rank.into(), first, whole, [from, to]);
            if self.taken(u128::from(rank) + 1, first, whole, [from, to]) > taken {
                (to, rank) = (middle, taken);
            } else {
                (from, rank) = (middle, rank - taken);
            }
        }
        (from, rank)
    }

    /// How many of the first `count` positions of datasets `half` go to their first half, whose share is
    /// `first` of `whole`.
    fn taken(&self, count: u128, first: u64, whole: u64, half: [usize; 2]) -> u64 {
        // A half without weight is never entered, but for rounding: nothing is divided by 0.
        let whole = whole.max(1);
        let phase = key(&[self.seed, PHASE, half[0] as u64, half[1] as u64]) % whole;
        let sum = count * u128::from(first) + u128::from(phase);
        // At most `count`, since `first` is at most `whole` and the phase less.
        (sum / u128::from(whole)) as u64
    }
}
