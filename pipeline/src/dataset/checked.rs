//! Which images of a dataset this process has compared with their digests: a bit each. A shard that
//! was copied badly is found the first time it is read, and a second epoch costs nothing.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
pub(super) struct Checked(Vec<AtomicU64>);

impl Checked {
    /// None of `rows` rows.
    pub(super) fn new(rows: u64) -> Self {
        Self((0..rows.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    // A bit only saves work, a thread that misses one compares again: no order with other memory is
    // needed.

    pub(super) fn is(&self, row: u64) -> bool {
        self.0[(row / 64) as usize].load(Ordering::Relaxed) >> (row % 64) & 1 == 1
    }

    pub(super) fn set(&self, row: u64) {
        self.0[(row / 64) as usize].fetch_or(1 << (row % 64), Ordering::Relaxed);
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        8 * self.0.len()
    }
}
