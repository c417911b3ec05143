//! The gradients of a global batch, added up over micro-batches, shares and ranks.
//!
//! A backward pass adds to views of one flat buffer, and the flat buffer is what is added up. Behind the
//! gradients it has room for what rides along ([`super::tally`]).
//!
//! With `train.shares = P` the batch is cut into P parts whatever the number of ranks is. Each share's
//! gradient is summed on its own, and the shares are added up by a binary tree: 0+1, 2+3, …, then (0+1)+(2+3),
//! and so on. A rank adds up its own shares as they come, with one buffer for each level of the tree. Then the
//! ranks exchange parts, each adds up its part by the rest of the same tree, and all gather the parts. Every sum
//! has the same two summands on any number of ranks, so it has the same bits.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};
use torch_ext::flat::Layout;

use super::Ranks;

/// Gradients on their way to their sum.
pub struct Reduction {
    layout: Layout,
    /// Numbers that ride along.
    tail: usize,
    /// Numbers of a buffer.
    len: usize,
    device: Device,
    /// 0 for a plain sum.
    shares: usize,
    /// The buffer that backward passes add to.
    open: Option<Tensor>,
    /// Sums of whole subtrees, each with its height; heights fall.
    sums: Vec<(u32, Tensor)>,
    /// Buffers that are free.
    free: Vec<Tensor>,
    /// Time that this rank spent in collectives, where the host waits for them.
    in_collective: Duration,
}

impl Reduction {
    /// For the gradients of these parameters, and `tail` numbers beside them.
    pub fn new(parameters: &[Tensor], tail: usize, shares: usize, ranks: Ranks) -> Self {
        let layout = Layout::of(parameters);
        // The ranks take equal parts of a buffer.
        let len = (layout.len() + tail).next_multiple_of(ranks.count().max(1));
        let device = parameters.first().map_or(Device::Cpu, Tensor::device);
        let (open, sums, free) = Default::default();
        Self { layout, tail, len, device, shares, open, sums, free, in_collective: Duration::ZERO }
    }

    /// The shares of this rank's slice of `images` images: each is summed on its own.
    pub fn parts(&self, images: usize, ranks: Ranks) -> Vec<Range<usize>> {
        let count = if self.shares == 0 { 1 } else { self.shares / ranks.count() };
        (0..count).map(|part| images * part / count..images * (part + 1) / count).collect()
    }

    /// Begins a share: from here on backward passes add to its sum.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn begin(&mut self, parameters: &[Tensor]) -> Result<()> {
        let mut flat = match self.free.pop() {
            Some(flat) => flat,
            None => Tensor::f_empty([self.len as i64], (Kind::Float, self.device))?,
        };
        let _ = flat.f_zero_()?;
        torch_ext::set_gradients(parameters, &self.layout.views(&flat)?)?;
        self.open = Some(flat);
        Ok(())
    }

    /// What rides along with the share that was begun, f32 `[tail]`: zeros, to be written to.
    ///
    /// # Errors
    /// When no share was begun.
    pub fn tail(&self) -> Result<Tensor> {
        Self::tail_of(self.open.as_ref().context("no share was begun")?, &self.layout, self.tail)
    }

    fn tail_of(flat: &Tensor, layout: &Layout, tail: usize) -> Result<Tensor> {
        Ok(flat.f_narrow(0, layout.len() as i64, tail as i64)?)
    }

    /// Ends a share: it goes into the tree.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn end(&mut self) -> Result<()> {
        let mut top = (0, self.open.take().context("no share was begun")?);
        while let Some((height, _)) = self.sums.last() {
            if *height != top.0 {
                break;
            }
            let Some((height, mut left)) = self.sums.pop() else { break };
            let _ = left.f_add_(&top.1)?;
            self.free.push(top.1);
            top = (height + 1, left);
        }
        self.sums.push(top);
        Ok(())
    }

    /// Adds up all shares of all ranks. The parameters' gradients are the sum from here on, and what rode
    /// along is given back, f32 `[tail]`; both lie in a buffer that the next [`Self::begin`] takes.
    ///
    /// # Errors
    /// When a rank is lost or stands still.
    pub fn finish(&mut self, parameters: &[Tensor], ranks: Ranks) -> Result<Tensor> {
        let (_, flat) = self.sums.pop().context("no share was summed")?;
        let begun = Instant::now();
        if ranks.count() > 1 {
            if self.shares == 0 {
                ranks.sum(&flat)?;
            } else {
                self.sum_by_tree(&flat, ranks)?;
            }
            self.in_collective += begun.elapsed();
        }
        torch_ext::set_gradients(parameters, &self.layout.views(&flat)?)?;
        let tail = Self::tail_of(&flat, &self.layout, self.tail)?;
        self.free.push(flat);
        Ok(tail)
    }

    /// The rest of the tree, over the sums of the ranks.
    fn sum_by_tree(&mut self, flat: &Tensor, ranks: Ranks) -> Result<()> {
        let parts = match self.free.pop() {
            Some(parts) => parts,
            None => flat.f_empty_like()?,
        };
        ranks.exchange(&parts, flat)?;
        let mut sums = parts.f_chunk(ranks.count() as i64, 0)?;
        while sums.len() > 1 {
            let mut next = Vec::with_capacity(sums.len() / 2);
            for pair in sums.chunks(2) {
                let mut left = pair[0].shallow_clone();
                if let Some(right) = pair.get(1) {
                    let _ = left.f_add_(right)?;
                }
                next.push(left);
            }
            sums = next;
        }
        let sum = sums.first().context("there are no ranks")?;
        ranks.gather(flat, sum)?;
        self.free.push(parts);
        Ok(())
    }

    /// Time in collectives so far, where the host waits for them (on the CPU).
    pub fn in_collective(&self) -> Duration {
        self.in_collective
    }
}
