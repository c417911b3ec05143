//! `trainer export`: the weights of a checkpoint as one safetensors file.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use diffusion::checkpoint::{Checkpoint, Component};
use diffusion::weights::{self, Format};
use storage::Place;

use crate::place;

/// Which weights.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Weights {
    /// The (first) moving average.
    Ema,
    /// Those that are trained.
    Model,
}

#[derive(Args)]
pub struct Export {
    /// The checkpoint, as `scheduler checkpoints RUN` shows it.
    #[arg(long, value_name = "URI")]
    checkpoint: Place,
    /// Which weights.
    #[arg(long, default_value = "ema")]
    weights: Weights,
    /// Whose names.
    #[arg(long, default_value = "adm")]
    format: Format,
    /// The file, .safetensors.
    #[arg(long, value_name = "FILE", value_parser = storage::local_path)]
    out: PathBuf,
}

impl Export {
    pub fn run(self) -> anyhow::Result<()> {
        let checkpoint = Checkpoint::open(&place::fetch(&self.checkpoint)?)?;
        let part = match self.weights {
            Weights::Ema => Component::Ema(0),
            Weights::Model => Component::Model,
        };
        let tensors = checkpoint.read(part)?;
        let Some(name) = self.out.file_name() else {
            bail!("--out {} names no file", self.out.display());
        };
        // Written beside and renamed: a file of that name is whole.
        let beside = self.out.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        let written = weights::export(&tensors, &checkpoint.metadata().model, self.format, &beside)
            .map_err(anyhow::Error::from)
            .and_then(|()| {
                std::fs::File::open(&beside)?.sync_all()?;
                Ok(std::fs::rename(&beside, &self.out)?)
            });
        if written.is_err() {
            // The error that matters is the first one.
            let _ = std::fs::remove_file(&beside);
        }
        written.with_context(|| format!("{} cannot be written", self.out.display()))?;
        terminal::print(&format!("{}: {} tensors", self.out.display(), tensors.len()))
    }
}
