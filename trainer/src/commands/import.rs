//! `trainer import`: weights of other systems become a checkpoint.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use diffusion::checkpoint::{Checkpoint, Metadata, Named, Snapshot};
use diffusion::weights::{Assumed, Format};
use diffusion::{
    AttentionOrder, DiffusionConfig, Formulation, ModelConfig, NoiseEmbedding, Prediction,
    ScheduleConfig, UNet, weights,
};
use pipeline::Task;
use serde::Serialize;
use serde_json::{Value, json};
use tch::{Device, nn};

/// How a weight file is read. What its shapes say is found out, what it says of itself is taken from it;
/// the rest can be said here, or is assumed.
#[derive(Args)]
pub struct Reading {
    /// Whose names the tensors have.
    #[arg(long)]
    format: Format,
    /// Which network of a file that has several: the key of its state dict, or what its tensors' names
    /// begin with, such as `model` or `ema`; `.` for names that begin with nothing [default: the EMA].
    #[arg(long, value_name = "NAME")]
    state_dict: Option<String>,
    /// Side of the images that the weights were trained on [default: 256].
    #[arg(long, value_name = "PX")]
    image_size: Option<u32>,
    /// Channels of an attention head [default: 64 for adm, 32 for janspiry].
    #[arg(long, value_name = "N", conflicts_with = "num_heads")]
    head_channels: Option<u32>,
    /// Heads of every attention, whatever its channels, in place of --head-channels.
    #[arg(long, value_name = "N")]
    num_heads: Option<u32>,
    /// Order of the channels that attention starts from [default: legacy].
    #[arg(long, value_name = "ORDER")]
    attention_order: Option<AttentionOrder>,
    /// What of the noise level is embedded [default: timestep for adm, gamma for janspiry].
    #[arg(long, value_name = "WHAT")]
    noise_embedding: Option<NoiseEmbedding>,
    /// Groups of the group norms [default: 32].
    #[arg(long, value_name = "N")]
    norm_groups: Option<u32>,
    /// Whether the condition comes before the noisy image in the input [default: false for adm, true
    /// for janspiry].
    #[arg(long, value_name = "BOOL")]
    condition_first: Option<bool>,
    /// Diffusion, or the regression baseline [default: diffusion].
    #[arg(long, value_name = "KIND")]
    kind: Option<Formulation>,
    /// What the network's output means [default: epsilon].
    #[arg(long, value_name = "WHAT")]
    prediction: Option<Prediction>,
    /// Whether the output is added to the source [default: false].
    #[arg(long, value_name = "BOOL")]
    residual: Option<bool>,
    /// Noise schedule of the training [default: 1000,1e-4,0.02 with time steps, else 2000,1e-6,0.01].
    #[arg(long, value_name = "STEPS,FIRST,LAST")]
    training_schedule: Option<ScheduleConfig>,
    /// Noise schedule that `ancestral` and `posterior` walk down [default: 1000,1e-4,0.02 with time
    /// steps, else 1000,1e-4,0.09].
    #[arg(long, value_name = "STEPS,FIRST,LAST")]
    sampling_schedule: Option<ScheduleConfig>,
    /// Import weights even where values are NaN or infinite: they make no picture.
    #[arg(long)]
    allow_non_finite: bool,
}

impl Reading {
    /// Reads a file.
    ///
    /// # Errors
    /// When it holds no such network.
    pub fn import(&self, file: &Path) -> anyhow::Result<weights::Imported> {
        let hints = weights::Hints {
            state_dict: self.state_dict.clone(),
            image_size: self.image_size,
            head_channels: self.head_channels,
            num_heads: self.num_heads,
            attention_order: self.attention_order,
            noise_embedding: self.noise_embedding,
            norm_groups: self.norm_groups,
            condition_first: self.condition_first,
            kind: self.kind,
            prediction: self.prediction,
            residual: self.residual,
            training: self.training_schedule,
            sampling: self.sampling_schedule,
            allow_non_finite: self.allow_non_finite,
        };
        weights::import(file, self.format, &hints).map_err(or_force)
    }
}

/// An error about numbers that are none, with the option that takes them anyway.
pub fn or_force(error: diffusion::Error) -> anyhow::Error {
    match error {
        diffusion::Error::NonFinite { .. } => {
            anyhow::anyhow!("{error} (--allow-non-finite takes it as it is)")
        }
        other => other.into(),
    }
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  trainer import 256x256_diffusion_uncond.pt --format adm --out adm-256
  trainer import 190_Network.pth --ema 190_Network_ema.pth --format janspiry --out palette-190")]
pub struct Import {
    /// The weights: .pth or .pt of PyTorch (read without running anything), or safetensors.
    file: PathBuf,
    #[command(flatten)]
    reading: Reading,
    /// Their EMA, where it is a separate file [default: the weights themselves].
    #[arg(long, value_name = "FILE")]
    ema: Option<PathBuf>,
    /// A task that the weights were trained for; may be repeated [default: not known, so that any is
    /// sampled].
    #[arg(long = "task", value_name = "TASK")]
    tasks: Vec<Task>,
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
    image_size: [u32; 2],
    model: ModelConfig,
    diffusion: DiffusionConfig,
    /// Names of the tasks that it was trained for; none where that is not known.
    tasks: Option<Vec<String>>,
    notes: Vec<String>,
    /// What neither the file nor an option said.
    assumed: Vec<Assumed>,
}

impl Import {
    pub fn run(self) -> anyhow::Result<()> {
        if self.out.exists() {
            bail!("{} is there already: choose another --out", self.out.display());
        }
        let imported = self.reading.import(&self.file)?;
        fits(&imported, &self.file)?;
        let average = match &self.ema {
            None => copy(&imported.weights),
            Some(file) => {
                let average = self.reading.import(file)?;
                let same = average.model == imported.model
                    && average.diffusion == imported.diffusion
                    && average.image_size == imported.image_size;
                if !same {
                    bail!("{} is of another network than {}", file.display(), self.file.display());
                }
                fits(&average, file)?;
                average.weights
            }
        };
        let mut assumed = imported.assumed;
        let experiment = self.experiment(imported.description.as_ref(), &imported.notes)?;
        let tasks = experiment.pointer("/data/tasks").and_then(Value::as_object);
        let tasks = tasks.map(|tasks| tasks.keys().cloned().collect());
        if tasks.is_none() {
            let value = "any".to_owned();
            assumed.push(Assumed { what: "tasks", value, option: "--task" });
        }
        let complexity = imported.model.complexity(imported.image_size)?;
        let metadata = Metadata {
            step: imported.description.as_ref().map_or(0, |description| description.step),
            seed: 0,
            rewinds: 0,
            noise: random::GENERATION,
            stream: pipeline::GENERATION,
            image_size: imported.image_size,
            model: imported.model.clone(),
            diffusion: imported.diffusion.clone(),
            averages: vec![0.0],
            experiment,
        };
        let snapshot =
            Snapshot { model: imported.weights, averages: vec![average], optimizer: None };
        let checkpoint = Checkpoint::write_at(&self.out, &snapshot, metadata)?;
        let made = Made {
            checkpoint: checkpoint.folder().to_owned(),
            digest: checkpoint.digest().to_owned(),
            parameters: complexity.parameters,
            tensors: complexity.tensors,
            image_size: imported.image_size,
            model: imported.model,
            diffusion: imported.diffusion,
            tasks,
            notes: imported.notes,
            assumed,
        };
        if self.json { terminal::print_json(&made) } else { made.print() }
    }

    /// Where the weights are from, and what the file says of how they were trained.
    fn experiment(
        &self,
        description: Option<&weights::Description>,
        notes: &[String],
    ) -> anyhow::Result<Value> {
        let mut experiment = match description.map(|description| &description.trained) {
            Some(Value::Object(trained)) => trained.clone(),
            _ => serde_json::Map::new(),
        };
        let own = |key: &str| experiment.get(key)?.get("tasks").cloned();
        if !self.tasks.is_empty() {
            let said: serde_json::Map<String, Value> =
                self.tasks.iter().map(|task| (task.name().to_owned(), json!(1.0))).collect();
            let trained = own("data");
            let names = trained.as_ref().and_then(Value::as_object);
            if names.is_some_and(|names| !names.keys().eq(said.keys())) {
                bail!(terminal::Usage::new(
                    "the file says of itself for which tasks it was trained: leave --task out"
                ));
            }
            if trained.is_none() {
                experiment.insert("data".to_owned(), json!({ "tasks": said }));
            }
        }
        experiment.insert("imported".to_owned(), json!(self.file.display().to_string()));
        experiment.insert("notes".to_owned(), json!(notes));
        Ok(experiment.into())
    }
}

const WRONG: &str = "the file does not hold the network that its shapes tell of";

/// Whether the weights are all of the network and nothing else.
pub(super) fn fits(imported: &weights::Imported, file: &Path) -> anyhow::Result<()> {
    // How large the network is that is built, the file alone says.
    weights::check_tensors(&imported.weights, &imported.model, imported.image_size, file)
        .context(WRONG)?;
    let variables = nn::VarStore::new(Device::Cpu);
    let [height, width] = imported.image_size;
    let _network = UNet::new(&variables.root(), &imported.model, height.min(width))?;
    weights::assign(&variables, &imported.weights, file).context(WRONG)
}

fn copy(tensors: &Named) -> Named {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

impl Made {
    fn print(&self) -> anyhow::Result<()> {
        let checkpoint = self.checkpoint.display();
        terminal::print(&format!(
            "{checkpoint}: {} parameters in {} tensors",
            super::thousands(self.parameters),
            self.tensors
        ))?;
        for note in &self.notes {
            terminal::print(&format!("note: {note}"))?;
        }
        if !self.assumed.is_empty() {
            terminal::print("\nassumed, as the file does not say it (the option that does):")?;
            for Assumed { what, value, option } in &self.assumed {
                terminal::print(&format!("  {what:<22}{value:<22}{option}"))?;
            }
        }
        let task = self.tasks.as_ref().and_then(|tasks| tasks.first());
        terminal::print(&format!(
            "\nto make a picture: {}",
            super::picture(&checkpoint.to_string(), task.map(String::as_str))
        ))?;
        terminal::print(&format!(
            "to train on from there: train.init = \"{checkpoint}\" with\n\n[model]\n{}\n\n{}",
            toml::to_string(&self.model)?.trim_end(),
            toml::to_string(&Objective { diffusion: &self.diffusion })?.trim_end()
        ))
    }
}

/// The table `[diffusion]` as configurations have it.
#[derive(Serialize)]
struct Objective<'a> {
    diffusion: &'a DiffusionConfig,
}
