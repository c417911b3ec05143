//! The gradients of a global batch, added up over micro-batches, shares and ranks.
//!
//! A backward pass adds to views of one flat buffer, and the flat buffer is what is added up. Behind the
//! gradients it has room for what rides along ([`super::tally`]). The gradients lie in the order in which a
//! backward pass comes by them.
//!
//! The plain sum goes over buckets of that buffer. It may begin with the first ones while the last backward pass
//! of a step still computes others ([`overlaps`]); the buckets, and so the bits, are the same either way.
//!
//! With `train.shares = P` the batch is cut into P parts whatever the number of ranks is. Each share's
//! gradient is summed on its own, and the shares are added up by a binary tree: 0+1, 2+3, …, then (0+1)+(2+3),
//! and so on. A rank adds up its own shares as they come, with one buffer for each level of the tree. Then the
//! ranks exchange parts, each adds up its part by the rest of the same tree, and all gather the parts. Every sum
//! has the same two summands on any number of ranks, so it has the same bits.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};
use torch_ext::buckets::Buckets;
use torch_ext::flat::Layout;

use super::{LostRank, Ranks};

/// Says whether sums begin during the backward pass: 1 or 0.
const OVERLAP_VARIABLE: &str = "PALETTE_OVERLAP";

/// Numbers of a bucket: large enough for a network's full rate, small enough that most of the sum can begin
/// before the backward pass ends.
const BUCKET: usize = 16 << 20;

/// A small network has as many buckets, of at least [`LEAST`] numbers.
const BUCKETS: usize = 8;

/// 64 kB.
const LEAST: usize = 1 << 14;

/// Whether sums begin during the backward pass: unless the variable says no.
///
/// # Errors
/// When it is neither 0 nor 1.
pub fn overlaps() -> Result<bool> {
    let Some(value) = std::env::var_os(OVERLAP_VARIABLE) else { return Ok(true) };
    match value.to_str() {
        Some("0") => Ok(false),
        Some("1" | "") => Ok(true),
        _ => bail!(
            "{OVERLAP_VARIABLE} is {value:?}: 1 begins the sum of gradients during the backward pass, 0 after it"
        ),
    }
}

/// Gradients on their way to their sum.
pub struct Reduction<'a> {
    ranks: Ranks<'a>,
    /// In the order in which a backward pass comes by them.
    weights: Vec<Tensor>,
    layout: Layout,
    /// Of the plain sum of several ranks, and where each lies in a buffer.
    buckets: Option<(Buckets<'a>, Vec<Range<usize>>)>,
    overlap: bool,
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

impl<'a> Reduction<'a> {
    /// For the gradients of these weights, which a backward pass comes by in about this order, and `tail` numbers
    /// beside them.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn new(
        weights: Vec<Tensor>,
        tail: usize,
        shares: usize,
        ranks: Ranks<'a>,
        overlap: bool,
    ) -> Result<Self> {
        let layout = Layout::of(&weights);
        // The ranks take equal parts of a buffer.
        let len = (layout.len() + tail).next_multiple_of(ranks.count().max(1));
        let device = weights.first().map_or(Device::Cpu, Tensor::device);
        let buckets = match ranks.group {
            Some(group) if shares == 0 => {
                let count = (layout.len() / BUCKETS).clamp(LEAST, BUCKET);
                let runs = layout.runs(layout.len().div_ceil(count).max(1));
                let runs: Vec<_> = runs.into_iter().filter(|run| !run.is_empty()).collect();
                let place = |(place, run): (usize, &Range<usize>)| vec![place; run.len()];
                let places: Vec<usize> = runs.iter().enumerate().flat_map(place).collect();
                let mut spans: Vec<_> = runs.iter().map(|run| layout.span(run)).collect();
                if let Some(last) = spans.last_mut() {
                    last.end = len;
                }
                Some((Buckets::new(group, &weights, &places, spans.len())?, spans))
            }
            _ => None,
        };
        let (open, sums, free) = Default::default();
        let in_collective = Duration::ZERO;
        Ok(Self {
            ranks,
            weights,
            layout,
            buckets,
            overlap,
            tail,
            len,
            device,
            shares,
            open,
            sums,
            free,
            in_collective,
        })
    }

    /// The shares of this rank's slice of `images` images: each is summed on its own.
    pub fn parts(&self, images: usize) -> Vec<Range<usize>> {
        let count = if self.shares == 0 { 1 } else { self.shares / self.ranks.count() };
        (0..count).map(|part| images * part / count..images * (part + 1) / count).collect()
    }

    /// Begins a share: from here on backward passes add to its sum.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn begin(&mut self) -> Result<()> {
        let mut flat = match self.free.pop() {
            Some(flat) => flat,
            None => Tensor::f_empty([self.len as i64], (Kind::Float, self.device))?,
        };
        let _ = flat.f_zero_()?;
        torch_ext::set_gradients(&self.weights, &self.layout.views(&flat)?)?;
        self.open = Some(flat);
        Ok(())
    }

    /// The next backward pass is the step's last: sums may begin during it. Until [`Self::finish`] the ranks say
    /// nothing else to each other.
    ///
    /// # Errors
    /// When no share was begun.
    pub fn expect_last(&self) -> Result<()> {
        if let Some((buckets, spans)) = self.buckets.as_ref().filter(|_| self.overlap) {
            let flat = self.open.as_ref().context("no share was begun")?;
            buckets.open(&parts_of(flat, spans)?)?;
        }
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
    pub fn finish(&mut self) -> Result<Tensor> {
        let (_, flat) = self.sums.pop().context("no share was summed")?;
        let begun = Instant::now();
        if self.ranks.count() > 1 {
            match &self.buckets {
                Some((buckets, spans)) => {
                    buckets.finish(&parts_of(&flat, spans)?).context(LostRank)?;
                }
                None => self.sum_by_tree(&flat)?,
            }
            self.in_collective += begun.elapsed();
        }
        torch_ext::set_gradients(&self.weights, &self.layout.views(&flat)?)?;
        let tail = Self::tail_of(&flat, &self.layout, self.tail)?;
        self.free.push(flat);
        Ok(tail)
    }

    /// The rest of the tree, over the sums of the ranks.
    fn sum_by_tree(&mut self, flat: &Tensor) -> Result<()> {
        let ranks = self.ranks;
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

    /// Bytes of its buffers.
    pub fn bytes(&self) -> u64 {
        let sums = self.sums.iter().map(|(_, sum)| sum);
        let count = sums.chain(&self.open).chain(&self.free).count();
        4 * (count * self.len) as u64
    }

    /// Time in collectives so far, where the host waits for them (on the CPU).
    pub fn in_collective(&self) -> Duration {
        self.in_collective
    }
}

fn parts_of(flat: &Tensor, spans: &[Range<usize>]) -> Result<Vec<Tensor>> {
    let part = |span: &Range<usize>| flat.f_narrow(0, span.start as i64, span.len() as i64);
    Ok(spans.iter().map(part).collect::<Result<_, _>>()?)
}
