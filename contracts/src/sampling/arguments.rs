//! How a dataset is sampled, as it is typed: by people to `sampler submit`, and in the profile by which
//! `evaluator submit` fills tables.

use std::path::PathBuf;

use clap::Args;
use diffusion::{Method, Precision, SamplingConfig, Spacing};
use pipeline::degrade::Evaluation;
use pipeline::masks::{MaskOptions, MaskSet};

use super::GivenMasks;
use crate::{Error, Result};

/// How a dataset is sampled.
#[derive(Args, Clone, Debug)]
pub struct SamplingArguments {
    /// Only the images of a list, in its order: a name a line, as `pipeline cut` takes it.
    #[arg(long, value_name = "FILE")]
    pub(super) list: Option<PathBuf>,
    /// Only these rows of the dataset, or of the list; the last one not included: 0..5000.
    #[arg(long, value_name = "FROM..TO")]
    pub(super) rows: Option<String>,
    /// Masks in place of the drawn ones, for tasks with a hole: an .npz archive (mask i for row i of
    /// the dataset; KEY is the array, such as `10-20% freeform`), a .parquet file of `pipeline
    /// masks`, a folder of pictures matched by key or file name, or one picture for all.
    #[arg(long, value_name = "PATH[#KEY]")]
    pub(super) masks: Option<String>,
    #[command(flatten)]
    pub(super) mask_reading: MaskReading,
    /// Number of images to sample, spread evenly over the dataset [default: all].
    #[arg(long)]
    pub(super) count: Option<u64>,
    /// Seed of masks and noise.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    #[command(flatten)]
    pub(super) process: Process,
    #[command(flatten)]
    pub(super) numbers: ComputeArgs,
    /// How many workers may take part at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) workers: u32,
    /// Images of the dataset in a chunk, which one worker makes and which becomes a shard of the
    /// output [default: 256, fewer where there are more workers than that gives chunks for].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) chunk: Option<u32>,
    /// Allow tasks that the network was not trained for.
    #[arg(long)]
    pub(super) any_task: bool,
    /// Also write every output as a PNG file.
    #[arg(long)]
    pub(super) png: bool,
    /// Use the checkpoints that there are, even if the run still trains.
    #[arg(long)]
    pub now: bool,
}

impl SamplingArguments {
    /// Whether tasks may be those that the network was not trained for.
    pub fn any_task(&self) -> bool {
        self.any_task
    }

    /// Refuses what shows before anything is opened.
    ///
    /// # Errors
    /// Names the argument and what is allowed.
    pub fn check(&self, tasks: &[Evaluation]) -> Result<()> {
        self.process.config()?;
        self.check_tasks(tasks)?;
        self.open_masks(tasks).map(|_| ())
    }

    /// Refuses tasks of which two would be the same outputs.
    fn check_tasks(&self, tasks: &[Evaluation]) -> Result<()> {
        for (number, task) in tasks.iter().enumerate() {
            let before = &tasks[..number];
            if before.contains(task) {
                return Err(Error::Refused(format!("--task {task} is there twice: leave one out")));
            }
            let same = |other: &&Evaluation| other.task() == task.task() && task.task().has_hole();
            if let Some(other) = before.iter().find(same).filter(|_| self.masks.is_some()) {
                return Err(Error::Refused(format!(
                    "--task {other} and --task {task} are the same with --masks, which take the place of \
                     their holes: leave one out"
                )));
            }
        }
        Ok(())
    }

    /// The masks that were asked for, and what their files are.
    pub(super) fn given_masks(&self, tasks: &[Evaluation]) -> Result<Option<GivenMasks>> {
        let Some(masks) = self.open_masks(tasks)? else { return Ok(None) };
        let digest = Some(masks.digest()?);
        let (from, options) = (masks.place().to_owned(), self.mask_reading.into());
        Ok(Some(GivenMasks { from, digest, options }))
    }

    /// Opened once, so that a mistake shows before anything is queued.
    fn open_masks(&self, tasks: &[Evaluation]) -> Result<Option<MaskSet>> {
        let Some(from) = &self.masks else { return Ok(None) };
        if let Some(whole) = tasks.iter().find(|task| !task.task().has_hole()) {
            let message = format!("--masks: {whole} has no hole; leave out either");
            return Err(Error::Refused(message));
        }
        let options: MaskOptions = self.mask_reading.into();
        let refused = |error: &dyn std::fmt::Display| {
            Error::Refused(format!("--masks {from} cannot be used: {error}"))
        };
        MaskSet::open(from, options).map(Some).map_err(|error| refused(&error))
    }
}

/// How mask files are read.
#[derive(Args, Clone, Copy, Debug)]
pub struct MaskReading {
    /// Grey (BT.601 luma) from which a pixel of a mask file belongs to the hole.
    #[arg(long, value_name = "LEVEL", default_value_t = 128)]
    mask_threshold: u8,
    /// Treat dark mask pixels as the hole.
    #[arg(long)]
    mask_invert: bool,
}

impl From<MaskReading> for MaskOptions {
    fn from(reading: MaskReading) -> Self {
        Self { threshold: reading.mask_threshold, invert: reading.mask_invert }
    }
}

/// How the network is computed.
#[derive(Args, Clone, Copy, Debug)]
pub struct ComputeArgs {
    /// Images that go through the network at once [default: as many as make it faster and as memory
    /// allows].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Option<u32>,
    /// Precision that the network is computed in [default: on a GPU those that it was trained in, on the
    /// CPU fp32].
    #[arg(long)]
    precision: Option<Precision>,
}

impl ComputeArgs {
    /// Images that go through the network at once, where that is said.
    pub fn batch(self) -> Option<usize> {
        self.batch.map(|batch| batch as usize)
    }

    /// What the network is computed in, where that is said.
    pub fn precision(self) -> Option<Precision> {
        self.precision
    }
}

/// The reverse process.
#[derive(Args, Clone, Debug)]
pub struct Process {
    /// Reverse process, with its steps where --steps gives no other number.
    #[arg(long, default_value_t = Method::Dpmpp2m, value_enum)]
    process: Method,
    /// Steps of the reverse process [default: as --process says].
    #[arg(long)]
    steps: Option<u32>,
    /// How the noise levels of the steps are spaced.
    #[arg(long, default_value = "linear")]
    spacing: Spacing,
    /// Noise of ddim: 0 for none, 1 for as much as the ancestral process has.
    #[arg(long, default_value_t = 0.0)]
    eta: f64,
}

impl Process {
    /// The reverse process as the library takes it.
    ///
    /// # Errors
    /// Names the argument and what is allowed.
    pub fn config(&self) -> Result<SamplingConfig> {
        let config = SamplingConfig {
            method: self.process,
            steps: self.steps,
            spacing: self.spacing,
            eta: self.eta,
            ..SamplingConfig::default()
        };
        config.validate().map_err(crate::ConfigError::from)?;
        Ok(config)
    }
}
