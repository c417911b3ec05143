//! One epoch of a dataset whose rows lie in groups that are dear to open: the groups are permuted,
//! and the rows of each `window` consecutive ones are permuted together. A reader that goes through
//! the epoch touches `window` groups at a time, and each group in one window only.

use super::Permutation;
use random::key;

/// Purposes of the keys.
const GROUPS: u64 = 0x6772_7073;
const ROWS: u64 = 0x726f_7773;

/// Where the groups of one epoch lie: twelve bytes a group.
#[derive(Debug)]
pub(super) struct Windows {
    seed: u64,
    window: usize,
    /// Group at each slot of the epoch.
    groups: Vec<u32>,
    /// Rows of the epoch up to the end of each slot.
    ends: Vec<u64>,
}

impl Windows {
    /// The epoch with this key over groups that end at these rows of the dataset.
    pub(super) fn new(seed: u64, bounds: &[u64], window: usize) -> Self {
        let count = bounds.len() as u64;
        let permutation = Permutation::new(count, key(&[seed, GROUPS]));
        let groups: Vec<u32> = (0..count).map(|slot| permutation.apply(slot) as u32).collect();
        let mut sum = 0;
        let ends = groups
            .iter()
            .map(|&group| {
                let (first, end) = rows(bounds, group as usize);
                sum += end - first;
                sum
            })
            .collect();
        Self { seed, window, groups, ends }
    }

    /// True for the epoch with this key.
    pub(super) fn is_of(&self, seed: u64) -> bool {
        self.seed == seed
    }

    /// The row of the dataset at step `step` (less than its rows) of the epoch.
    pub(super) fn row(&self, bounds: &[u64], step: u64) -> u64 {
        let window = self.slot(step) / self.window;
        let from = self.start(window * self.window);
        let to = self.ends[((window + 1) * self.window).min(self.ends.len()) - 1];
        let rows_key = key(&[self.seed, ROWS, window as u64]);
        let mixed = from + Permutation::new(to - from, rows_key).apply(step - from);
        let slot = self.slot(mixed);
        rows(bounds, self.groups[slot] as usize).0 + (mixed - self.start(slot))
    }

    /// The slot whose group holds a step.
    fn slot(&self, step: u64) -> usize {
        self.ends.partition_point(|&end| end <= step)
    }

    fn start(&self, slot: usize) -> u64 {
        slot.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

/// First row and end of a group.
fn rows(bounds: &[u64], group: usize) -> (u64, u64) {
    (group.checked_sub(1).map_or(0, |before| bounds[before]), bounds[group])
}
