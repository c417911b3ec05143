//! The order of samples: a keyed permutation per epoch, no memory, any position at once.
//!
//! Position g of the stream is an image of epoch g / N at place g mod N of that epoch's permutation,
//! a function of (seed, epoch) alone. Several datasets are mixed in blocks: each block of 65536
//! positions holds a fixed number of places for each dataset, by weight, shuffled by (seed, block);
//! within its own places each dataset is again a stream of whole epochs.

use crate::random::key;

/// Rounds of the Feistel network.
const ROUNDS: u64 = 6;
/// Positions of a block of the mixture.
const BLOCK: u64 = 1 << 16;

/// A permutation of 0..count, fixed by a key: a Feistel network over the next even number of bits,
/// walked until it falls back into range (under four steps on average).
#[derive(Clone, Debug)]
pub struct Permutation {
    count: u64,
    half: u32,
    keys: [u64; ROUNDS as usize],
}

impl Permutation {
    /// The permutation of 0..count with this key.
    pub fn new(count: u64, seed: u64) -> Self {
        let bits = u64::BITS - count.saturating_sub(1).leading_zeros();
        let keys = std::array::from_fn(|round| key(&[seed, round as u64]));
        Self { count, half: bits.div_ceil(2).max(1), keys }
    }

    /// Where `index` (less than count) goes.
    pub fn apply(&self, index: u64) -> u64 {
        debug_assert!(index < self.count);
        let mask = (1u64 << self.half) - 1;
        let mut at = index;
        loop {
            let (mut left, mut right) = (at >> self.half, at & mask);
            for round in self.keys {
                (left, right) = (right, left ^ (key(&[round, right]) & mask));
            }
            at = (left << self.half) | right;
            if at < self.count {
                return at;
            }
        }
    }
}

/// One sample of the stream: image `index` of `dataset` in that dataset's epoch `epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which dataset.
    pub dataset: usize,
    /// That dataset's epoch.
    pub epoch: u64,
    /// Row in the dataset.
    pub index: u64,
}

/// The order of a stream over one or several datasets.
#[derive(Clone, Debug)]
pub struct Order {
    seed: u64,
    counts: Vec<u64>,
    /// Places of each dataset in a block, as running sums from 0 to [`BLOCK`].
    bounds: Vec<u64>,
}

impl Order {
    /// The order over datasets of these (positive) numbers of images and weights.
    pub fn new(seed: u64, datasets: &[(u64, f64)]) -> Self {
        let total: f64 = datasets.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let bounds = std::iter::once(0)
            .chain(datasets.iter().map(|(_, weight)| {
                sum += weight;
                (sum / total * BLOCK as f64).round() as u64
            }))
            .collect();
        Self { seed, counts: datasets.iter().map(|(count, _)| *count).collect(), bounds }
    }

    /// The sample at position `position` of the stream.
    pub fn place(&self, position: u64) -> Place {
        let (dataset, within) = self.mixture(position);
        let count = self.counts[dataset];
        let (epoch, step) = (within / count, within % count);
        let permutation = Permutation::new(count, key(&[self.seed, dataset as u64, epoch]));
        Place { dataset, epoch, index: permutation.apply(step) }
    }

    /// Which dataset stands at a position, and the how-manieth of its samples that is.
    fn mixture(&self, position: u64) -> (usize, u64) {
        if self.counts.len() == 1 {
            return (0, position);
        }
        let (block, step) = (position / BLOCK, position % BLOCK);
        let slot = Permutation::new(BLOCK, key(&[self.seed, 0x006d_6978, block])).apply(step);
        let dataset = self.bounds.partition_point(|&bound| bound <= slot) - 1;
        let (from, to) = (self.bounds[dataset], self.bounds[dataset + 1]);
        (dataset, block * (to - from) + (slot - from))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_bijection(count in 1u64..5000, seed: u64) {
            let permutation = Permutation::new(count, seed);
            let mut seen = vec![false; count as usize];
            for index in 0..count {
                let image = permutation.apply(index);
                prop_assert!(image < count && !std::mem::replace(&mut seen[image as usize], true));
            }
        }
    }

    #[test]
    fn every_image_once_an_epoch_and_epochs_differ() {
        let order = Order::new(3, &[(1000, 1.0)]);
        let epoch = |e: u64| (e * 1000..(e + 1) * 1000).map(|g| order.place(g)).collect::<Vec<_>>();
        let (first, second) = (epoch(0), epoch(1));
        for places in [&first, &second] {
            let mut indices: Vec<_> = places.iter().map(|place| place.index).collect();
            indices.sort_unstable();
            assert_eq!(indices, (0..1000).collect::<Vec<_>>());
        }
        let same = first.iter().zip(&second).filter(|(a, b)| a.index == b.index).count();
        assert!(same < 10, "{same}");
        let neighbours = first.windows(2).filter(|pair| pair[0].index + 1 == pair[1].index).count();
        assert!(neighbours < 10, "{neighbours}");
    }

    #[test]
    fn mixtures_keep_weights_and_whole_epochs() {
        let order = Order::new(9, &[(100, 3.0), (50, 1.0), (7, 0.0)]);
        let mut seen = [vec![0u32; 100], vec![0; 50], vec![0; 7]];
        for position in 0..BLOCK {
            let place = order.place(position);
            seen[place.dataset][place.index as usize] += 1;
        }
        let sums = seen.clone().map(|counts| counts.iter().sum::<u32>());
        assert_eq!(sums, [49152, 16384, 0]);
        for counts in &seen[..2] {
            let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(max - min <= 1);
        }
    }

    #[test]
    fn a_position_far_away_costs_nothing() {
        let order = Order::new(1, &[(10_000_000, 1.0)]);
        assert!(order.place(u64::MAX / 2).index < 10_000_000);
    }
}
