//! `trainer export`: the weights of a checkpoint as one safetensors file.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use diffusion::checkpoint::{Component, LAST};
use diffusion::weights::{self, Format};
use registry::CheckpointName;

use super::import::or_force;
use crate::place;

/// Which weights.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Weights {
    /// The (first) EMA.
    Ema,
    /// Those that are trained.
    Model,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  trainer export --checkpoint palette@best --out palette.safetensors
  trainer export --checkpoint palette@1000 --weights model --out palette.safetensors")]
pub struct Export {
    /// The checkpoint: a run (RUN, RUN@best, RUN@STEP), or the folder or address of a run or of one of
    /// its steps.
    #[arg(long, value_name = "CHECKPOINT")]
    checkpoint: CheckpointName,
    /// Which weights: the EMA, or those that are trained.
    #[arg(long, default_value = "ema")]
    weights: Weights,
    /// Whose names the tensors get.
    #[arg(long, default_value = "adm")]
    format: Format,
    /// The file to write, .safetensors.
    #[arg(long, value_name = "FILE", value_parser = storage::named::whole_file)]
    out: PathBuf,
    /// Export weights even where values are NaN or infinite.
    #[arg(long)]
    allow_non_finite: bool,
}

impl Export {
    pub fn run(self) -> anyhow::Result<()> {
        let place = self.checkpoint.find(LAST)?;
        let checkpoint =
            place::open(&place).with_context(|| format!("--checkpoint {}", self.checkpoint))?;
        let part = match self.weights {
            Weights::Ema => Component::Ema(0),
            Weights::Model => Component::Model,
        };
        let tensors = match self.allow_non_finite {
            true => checkpoint.read_any_values(part)?,
            false => checkpoint.read(part).map_err(or_force)?,
        };
        let description = checkpoint.description();
        storage::named::write_by(&self.out, |beside| {
            weights::export(&tensors, &description, self.format, beside)
                .map_err(anyhow::Error::from)
        })
        .with_context(|| format!("--out {}", self.out.display()))?;
        let step = checkpoint.metadata().step;
        terminal::print(&format!(
            "{}: {} tensors, weights of step {step}",
            self.out.display(),
            tensors.len()
        ))?;
        let trained = contracts::Trained::of(&checkpoint.metadata().experiment);
        let task = trained.tasks.as_ref().and_then(|tasks| tasks.keys().next());
        terminal::print(&format!(
            "to make a picture: {}",
            super::picture(&self.out.display().to_string(), task.map(String::as_str))
        ))
    }
}
