//! Several processes that train one run together. Each takes its slice of every global batch; what they
//! have to agree on goes through a [`Group`]. The global batch, the order of data, the noise and the
//! dropout do not depend on the number of ranks.
//!
//! The first rank, the leader, is the one that has the database: it begins the run, reads checkpoints,
//! writes them, and says what is to be done ([`plan`]). The others do the same steps and say nothing.

pub mod children;
pub mod crew;
pub mod meeting;
pub mod outside;
pub mod pauses;
pub mod plan;
mod reduction;
pub mod tally;

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};
use torch_ext::group::{Group, Pending};

pub use reduction::{Reduction, overlaps};

/// Names the address or name by which other hosts reach this one.
const ADDRESS_VARIABLE: &str = "PALETTE_ADDRESS";

/// How long the others wait for what the leader does alone: pictures, a checkpoint that has to go to a
/// store. It is not watched by them but by whoever renews the leader's lease.
const PATIENCE: Duration = Duration::from_hours(24);

/// The ranks lost one another: one ended, or stood still for too long.
#[derive(Debug)]
pub struct LostRank;

impl fmt::Display for LostRank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rank of this run ended or stood still")
    }
}

/// Which of how many processes this is, and how it speaks to the others.
#[derive(Clone, Copy)]
pub struct Ranks<'a> {
    /// None where there are no others.
    group: Option<&'a Group>,
    /// Ranks on this host.
    here: usize,
}

impl<'a> Ranks<'a> {
    /// One process.
    pub const ALONE: Self = Self { group: None, here: 1 };

    /// A member of a group, of which `here` are on this host.
    pub fn of(group: &'a Group, here: usize) -> Self {
        Self { group: (group.member().size > 1).then_some(group), here: here.max(1) }
    }

    /// Threads of this host's cores that fall to this rank.
    pub fn cores(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (cores / self.here).max(1)
    }

    /// This process, from 0.
    pub fn rank(&self) -> usize {
        self.group.map_or(0, |group| group.member().rank)
    }

    /// Number of processes.
    pub fn count(&self) -> usize {
        self.group.map_or(1, |group| group.member().size)
    }

    /// Whether this is the first one, which writes and reports.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Begins to add up a tensor over all ranks, in place.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn begin_sum(&self, tensor: &Tensor) -> Result<Option<Pending>> {
        self.group
            .map(|group| group.sum(tensor, group.member().limit).context(LostRank))
            .transpose()
    }

    /// Adds up a tensor over all ranks, in place.
    ///
    /// # Errors
    /// When a rank is lost or stands still.
    pub fn sum(&self, tensor: &Tensor) -> Result<()> {
        self.begin_sum(tensor)?.map_or(Ok(()), waited)
    }

    /// Sends equal parts of `from` to the ranks; `to` gets theirs.
    fn exchange(&self, to: &Tensor, from: &Tensor) -> Result<()> {
        let Some(group) = self.group else { bail!("one process exchanges nothing") };
        waited(group.exchange(to, from, group.member().limit).context(LostRank)?)
    }

    /// Fills `to` with what the ranks give.
    fn gather(&self, to: &Tensor, from: &Tensor) -> Result<()> {
        let Some(group) = self.group else { bail!("one process gathers nothing") };
        waited(group.gather(to, from, group.member().limit).context(LostRank)?)
    }

    /// Gives every rank the tensor of rank `root`, in place.
    ///
    /// # Errors
    /// When a rank is lost or stands still.
    pub fn give(&self, tensor: &Tensor, root: usize) -> Result<()> {
        let Some(group) = self.group else { return Ok(()) };
        waited(group.broadcast(tensor, root, group.member().limit).context(LostRank)?)
    }

    /// Waits until the leader has done what it does alone. The leader waits for nobody.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn await_leader(&self) -> Result<()> {
        let Some(group) = self.group else { return Ok(()) };
        let word = Tensor::f_zeros([1], (Kind::Uint8, group.member().device))?;
        waited(group.broadcast(&word, 0, PATIENCE).context(LostRank)?)?;
        // On a GPU the wait is the host's.
        if group.member().device != Device::Cpu {
            let _ = word.f_to_device(Device::Cpu)?;
        }
        Ok(())
    }

    /// What the leader says, to all. The others may wait long for it.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn tell(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let Some(group) = self.group else { return Ok(bytes.to_vec()) };
        let device = group.member().device;
        let length = Tensor::f_from_slice(&[bytes.len() as i64])?.f_to_device(device)?;
        waited(group.broadcast(&length, 0, PATIENCE).context(LostRank)?)?;
        let length = usize::try_from(length.f_int64_value(&[0])?)?;
        let told = if self.leads() {
            Tensor::f_from_slice(bytes)?.f_to_device(device)?
        } else {
            Tensor::f_zeros([length as i64], (Kind::Uint8, device))?
        };
        self.give(&told, 0)?;
        Ok(Vec::try_from(&told.f_to_device(Device::Cpu)?)?)
    }

    /// What every rank says, in their order.
    ///
    /// # Errors
    /// When a rank is lost or stands still.
    pub fn gather_words(&self, word: &str) -> Result<Vec<String>> {
        let Some(group) = self.group else { return Ok(vec![word.to_owned()]) };
        let device = group.member().device;
        let own = Tensor::f_from_slice(&[word.len() as i64])?.f_to_device(device)?;
        let lengths = Tensor::f_zeros([self.count() as i64], (Kind::Int64, device))?;
        self.gather(&lengths, &own)?;
        let lengths = Vec::<i64>::try_from(&lengths.f_to_device(Device::Cpu)?)?;
        let most = lengths.iter().copied().max().unwrap_or_default().max(1);
        let mut padded = word.as_bytes().to_vec();
        padded.resize(usize::try_from(most)?, 0);
        let own = Tensor::f_from_slice(&padded)?.f_to_device(device)?;
        let all = Tensor::f_zeros([most * self.count() as i64], (Kind::Uint8, device))?;
        self.gather(&all, &own)?;
        let all = Vec::<u8>::try_from(&all.f_to_device(Device::Cpu)?)?;
        let words = all.chunks(padded.len()).zip(lengths);
        words
            .map(|(bytes, length)| {
                let bytes = bytes.get(..usize::try_from(length)?).context("a word is cut off")?;
                Ok(String::from_utf8_lossy(bytes).into_owned())
            })
            .collect()
    }
}

/// The address or name by which other hosts reach this one, where it is said.
fn own_address() -> Option<String> {
    std::env::var(ADDRESS_VARIABLE).ok().filter(|address| !address.is_empty())
}

fn waited(pending: Pending) -> Result<()> {
    pending.wait().context(LostRank)
}
