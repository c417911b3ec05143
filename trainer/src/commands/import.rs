//! `trainer import`: weights of other systems become a checkpoint.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use diffusion::checkpoint::{Checkpoint, Metadata, Named, Snapshot};
use diffusion::weights::Format;
use diffusion::{AttentionOrder, ModelConfig, UNet, weights};
use serde::Serialize;
use tch::{Device, nn};

/// How a weight file is read; what shapes tell is found out by itself.
#[derive(Args)]
pub struct Reading {
    /// Whose names the file has.
    #[arg(long)]
    format: Format,
    /// Side of the images that the weights were trained on.
    #[arg(long, value_name = "PX", default_value_t = 256)]
    image_size: u32,
    /// Channels of an attention head [default: 64 for adm, 32 for janspiry].
    #[arg(long, value_name = "N")]
    head_channels: Option<u32>,
    /// Order of the channels that attention starts from.
    #[arg(long, default_value = "legacy")]
    attention_order: AttentionOrder,
}

impl Reading {
    /// Side of the images.
    pub fn image_size(&self) -> u32 {
        self.image_size
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it holds no such network.
    pub fn import(&self, file: &std::path::Path) -> anyhow::Result<weights::Imported> {
        let hints = weights::Hints {
            image_size: self.image_size,
            head_channels: self.head_channels,
            attention_order: self.attention_order,
        };
        Ok(weights::import(file, self.format, &hints)?)
    }
}

#[derive(Args)]
pub struct Import {
    /// The weights: .pth or .pt of PyTorch (read without running anything), or safetensors.
    file: PathBuf,
    #[command(flatten)]
    reading: Reading,
    /// Their moving average, if it is a file of its own [default: the weights themselves].
    #[arg(long, value_name = "FILE")]
    ema: Option<PathBuf>,
    /// Folder of the checkpoint; it must not be there yet.
    #[arg(long, value_name = "DIR", value_parser = storage::local_path)]
    out: PathBuf,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Made {
    checkpoint: PathBuf,
    digest: String,
    parameters: u64,
    tensors: u64,
    model: ModelConfig,
    notes: Vec<String>,
}

impl Import {
    pub fn run(self) -> anyhow::Result<()> {
        if self.out.exists() {
            bail!("{} is there already: choose another --out", self.out.display());
        }
        let imported = self.reading.import(&self.file)?;
        let size = self.reading.image_size;
        fits(&imported, size)?;
        let average = match &self.ema {
            None => copy(&imported.weights),
            Some(file) => {
                let average = self.reading.import(file)?;
                if average.model != imported.model {
                    bail!("{} is of another network than {}", file.display(), self.file.display());
                }
                fits(&average, size)?;
                average.weights
            }
        };
        let complexity = imported.model.complexity([size, size])?;
        let metadata = Metadata {
            step: 0,
            seed: 0,
            rewinds: 0,
            noise: random::GENERATION,
            stream: pipeline::GENERATION,
            image_size: [size, size],
            model: imported.model.clone(),
            diffusion: imported.diffusion,
            averages: vec![0.0],
            experiment: serde_json::json!({
                "imported": self.file.display().to_string(),
                "notes": imported.notes,
            }),
        };
        let snapshot =
            Snapshot { model: imported.weights, averages: vec![average], optimizer: None };
        let checkpoint = Checkpoint::write_at(&self.out, &snapshot, metadata)?;
        let made = Made {
            checkpoint: checkpoint.folder().to_owned(),
            digest: checkpoint.digest().to_owned(),
            parameters: complexity.parameters,
            tensors: complexity.tensors,
            model: imported.model,
            notes: imported.notes,
        };
        if self.json { terminal::print_json(&made) } else { made.print() }
    }
}

/// Whether the weights are all of the network and nothing else.
fn fits(imported: &weights::Imported, side: u32) -> anyhow::Result<()> {
    let variables = nn::VarStore::new(Device::Cpu);
    let _network = UNet::new(&variables.root(), &imported.model, side)?;
    weights::assign(&variables, &imported.weights)
        .context("the file does not hold the network that its shapes tell of")
}

fn copy(tensors: &Named) -> Named {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

impl Made {
    fn print(&self) -> anyhow::Result<()> {
        terminal::print(&format!(
            "{}: {} parameters in {} tensors",
            self.checkpoint.display(),
            super::thousands(self.parameters),
            self.tensors
        ))?;
        for note in &self.notes {
            terminal::print(&format!("note: {note}"))?;
        }
        terminal::print(&format!(
            "to train on from there: train.init = \"{}\" with\n\n[model]\n{}",
            self.checkpoint.display(),
            toml::to_string(&self.model)?.trim_end()
        ))
    }
}
