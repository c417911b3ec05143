//! The seam for several processes that train one run together: each takes its slice of every global
//! batch, and what they have to agree on goes through a collective. One process is the only
//! implementation so far; the global batch, the order of data and the noise do not depend on the
//! number of ranks.

use anyhow::Result;
use tch::Tensor;

/// Which of how many processes this is, and how it speaks to the others.
#[derive(Clone, Copy)]
pub struct Ranks<'a> {
    /// This process, from 0; the first one writes and reports.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
    /// How they speak.
    pub collective: &'a dyn Collective,
}

/// What the ranks do together. All call the same functions in the same order.
pub trait Collective {
    /// Adds up these tensors over all ranks, in place. Shapes and kinds are the same everywhere.
    ///
    /// # Errors
    /// When a rank is lost.
    fn sum(&self, tensors: &[Tensor]) -> Result<()>;
}

/// One process.
pub struct Alone;

impl Collective for Alone {
    fn sum(&self, _tensors: &[Tensor]) -> Result<()> {
        Ok(())
    }
}

impl Ranks<'static> {
    /// One process.
    pub const ALONE: Self = Self { rank: 0, world_size: 1, collective: &Alone };
}
