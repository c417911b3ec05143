//! What a sampling job is about: the payload that `sampler submit` queues and an attempt reads.

use diffusion::SamplingConfig;
use pipeline::degrade::Evaluation;
use pipeline::masks::MaskOptions;
use serde::{Deserialize, Serialize};

/// A sampling job over a dataset.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingJob {
    /// `RUN@best`, `RUN@latest` or `RUN@STEP`.
    pub run: String,
    /// The dataset whose images are degraded and restored.
    pub dataset: String,
    /// sha256 of its manifest when the job was queued.
    pub dataset_digest: String,
    /// How each image is degraded; every one of them is applied to every image.
    pub evaluations: Vec<Evaluation>,
    /// Masks that take the place of those that the evaluations draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masks: Option<GivenMasks>,
    /// So many images, spread evenly over the dataset.
    pub count: u64,
    /// Outputs for each input.
    pub samples: u32,
    /// Seed of masks and noise.
    pub seed: u64,
    /// The reverse process.
    pub sampling: SamplingConfig,
    /// Images that go through the network at once.
    pub batch: usize,
    /// Images of the dataset in a chunk; each chunk becomes one shard.
    pub chunk: u64,
    /// Where the outputs go.
    pub out: String,
    /// Also write every output as a PNG file.
    pub png: bool,
}

/// Masks from files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenMasks {
    /// `PATH` or `PATH#KEY`, as [`pipeline::masks::MaskSet::open`] takes it.
    pub place: String,
    /// How the files are read.
    pub options: MaskOptions,
}
