//! What `sampler run` was asked for, resolved: all that a process needs to restore pictures as any other would.

use std::path::PathBuf;

use anyhow::{Result, bail};
use diffusion::{Precision, SamplingConfig};
use pipeline::Task;
use pipeline::masks::{MaskOptions, MaskSet};
use serde::{Deserialize, Serialize};
use storage::Place;
use tch::Device;
use terminal::Usage;

use super::mark::Mark;
use crate::extend::Extension;
use crate::inputs::{Framing, Masks, Reader};
use crate::network::{self, Computing, Network, SeededSampling};
use crate::recording::Form;

/// How pictures are restored.
#[derive(Clone, Serialize, Deserialize)]
pub struct Order {
    /// The weights.
    pub checkpoint: Place,
    /// The digest that they have.
    pub digest: String,
    pub precision: Option<Precision>,
    pub batch: Option<usize>,
    pub task: Task,
    pub framing: Framing,
    pub holes: Holes,
    pub extend: Vec<Extension>,
    pub seed: u64,
    pub sampling: SamplingConfig,
    pub save_process: Option<Form>,
    /// Where outputs go.
    pub folder: PathBuf,
    /// The pictures are those of a folder, of which one that cannot be read is passed over.
    pub several: bool,
    /// What all outputs say of themselves.
    pub mark: Mark,
}

/// Where pixels are to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Holes {
    /// Everywhere, or beside what is there.
    None,
    /// Where the masks at this place say so.
    Given(String, MaskOptions),
    /// Where the pictures themselves are transparent.
    Erased(MaskOptions),
}

impl Holes {
    /// Opens the masks.
    ///
    /// # Errors
    /// Wrong use where they cannot be used.
    pub fn open(&self) -> Result<Masks, Usage> {
        match self {
            Self::None => Ok(Masks::None),
            Self::Erased(options) => Ok(Masks::Erased(*options)),
            Self::Given(place, options) => MaskSet::open(place, *options)
                .map(Masks::Given)
                .map_err(|error| Usage::new(format!("--mask {place} cannot be used: {error}"))),
        }
    }
}

impl Order {
    /// Reads pictures with these masks, which [`Holes::open`] opened.
    pub fn reader(&self, masks: Masks) -> Reader {
        Reader { task: self.task, framing: self.framing, masks }
    }

    /// The network on this device. The number of processes that share the device's memory is `sharing`.
    ///
    /// # Errors
    /// When the weights are damaged, or no longer those that were asked for.
    pub fn network(&self, device: Device, sharing: usize) -> Result<Network> {
        let checkpoint = network::open(&self.checkpoint)?;
        if checkpoint.digest() != self.digest {
            bail!("{} changed while it was read", self.checkpoint);
        }
        let (precision, batch) = (self.precision, self.batch);
        Network::of(&checkpoint, Computing { device, precision, batch, sharing })
    }

    /// The reverse process and the seed of its noise.
    pub fn seeded(&self) -> SeededSampling<'_> {
        SeededSampling { seed: self.seed, sampling: &self.sampling }
    }
}
