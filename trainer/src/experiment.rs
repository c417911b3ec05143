//! Experiments: a TOML file with overrides becomes one validated, resolved configuration, which is
//! stored with its run. Whatever is wrong is refused here, before anything is queued, naming the
//! file, the key and what is allowed.

use std::path::Path;

use diffusion::{DiffusionConfig, ModelConfig};
use pipeline::DataConfig;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use terminal::Usage;

/// A configuration file is text that people write; more than this is something else.
const LARGEST_FILE: u64 = 1 << 20;

/// One experiment, complete: what a configuration file means once every default is filled in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Name of the experiment; its runs carry it.
    pub name: String,
    /// Seed of everything random: order, degradations, initial weights, noise.
    #[serde(default)]
    pub seed: u64,
    /// Where images come from and what is done to them.
    #[serde(default)]
    pub data: DataConfig,
    /// The network.
    #[serde(default)]
    pub model: ModelConfig,
    /// Objective and noise schedules.
    #[serde(default)]
    pub diffusion: DiffusionConfig,
    /// Steps, optimizer, checkpoints.
    #[serde(default)]
    pub train: TrainConfig,
}

/// Steps, optimizer, checkpoints; the defaults are the paper's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Images a step.
    pub batch_size: usize,
    /// Images that go through the network at once, 0 for the whole batch; gradients of the parts
    /// are accumulated.
    pub micro_batch: usize,
    /// Learning rate of Adam after the warm-up.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Adam's decay rates of the first and second moments.
    pub betas: (f64, f64),
    /// Largest norm of the gradient, 0 for no clipping.
    pub clip: f64,
    /// Decay rate of the exponential moving average of the weights.
    pub ema: f64,
    /// Steps between two records of loss and speed.
    pub log_every: u64,
    /// When to keep the state.
    pub checkpoint: CheckpointConfig,
    /// Where to train: the GPU if there is one.
    pub device: DeviceChoice,
    /// Threads of libtorch on the CPU, 0 for all cores. Another number of threads sums in another
    /// order, so a run is repeated to the bit only with the same.
    pub threads: usize,
}

/// When the state of a run is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between two checkpoints; there is always one at the end.
    pub every: u64,
    /// Also keep the untrained network, as step 0.
    pub initial: bool,
}

/// Where to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The first GPU; an error where there is none.
    Cuda,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 1_000_000,
            batch_size: 1024,
            micro_batch: 0,
            learning_rate: 1e-4,
            warmup_steps: 10_000,
            betas: (0.9, 0.999),
            clip: 0.0,
            ema: 0.9999,
            log_every: 100,
            checkpoint: CheckpointConfig::default(),
            device: DeviceChoice::Auto,
            threads: 0,
        }
    }
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 10_000, initial: false }
    }
}

impl Experiment {
    /// Reads a configuration file and applies overrides of the form `a.b=value`, where the value is
    /// TOML or else a string.
    ///
    /// # Errors
    /// Wrong use, naming file, key and what is allowed.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, Usage> {
        let file = path.display();
        let text = read(path).map_err(|error| Usage::new(format!("{file}: {error}")))?;
        let mut table: toml::Table = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            Usage::new(format!("{file}: line {line}: {}", error.message().replace('\n', ", ")))
        })?;
        for item in overrides {
            set(&mut table, item).map_err(|error| Usage::new(format!("--set {item}: {error}")))?;
        }
        Self::from_value(toml::Value::Table(table))
            .map_err(|error| Usage::new(format!("{file}: {error}")))
    }

    /// Reads the resolved form that is stored with a run.
    ///
    /// # Errors
    /// Wrong use, naming the key and what is allowed.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, Usage> {
        let experiment: Self = serde_path_to_error::deserialize(json)
            .map_err(|error| Usage::new(format!("stored configuration: {error}")))?;
        experiment.validate().map_err(Usage::new)?;
        Ok(experiment)
    }

    fn from_value(value: toml::Value) -> Result<Self, String> {
        let mut experiment: Self = serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let message = error.inner().message().replace('\n', ", ");
            if path == "." { message } else { format!("{path}: {message}") }
        })?;
        experiment.validate()?;
        experiment.resolve()?;
        Ok(experiment)
    }

    /// Local datasets by their absolute path: whoever runs this stands in another folder.
    fn resolve(&mut self) -> Result<(), String> {
        for dataset in &mut self.data.datasets {
            if !dataset.uri.contains("://") {
                let absolute = std::path::absolute(&dataset.uri)
                    .map_err(|error| format!("data.datasets: `{}`: {error}", dataset.uri))?;
                dataset.uri = absolute.to_string_lossy().into_owned();
            }
        }
        Ok(())
    }

    fn validate(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.len() > 100 || self.name.contains(char::is_whitespace)
        {
            return Err(format!("name: `{}` is not 1 to 100 characters without spaces", self.name));
        }
        self.data.validate().map_err(|error| error.to_string())?;
        let size = self.data.image_size;
        if size.height != size.width {
            let (height, width) = (size.height, size.width);
            return Err(format!(
                "data.image_size is [{height}, {width}], allowed: one number, the network takes squares"
            ));
        }
        self.model.validate(self.side()).map_err(|error| error.to_string())?;
        self.diffusion.validate().map_err(|error| error.to_string())?;
        self.train.validate()
    }

    /// Side of the images in pixels; `validate` lets nothing but squares through.
    pub fn side(&self) -> u32 {
        self.data.image_size.short()
    }

    /// sha256 of the resolved configuration: two runs with the same digest are the same experiment.
    pub fn digest(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(&json).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TrainConfig {
    fn validate(&self) -> Result<(), String> {
        let inside = |key: &str, good: bool, value: &dyn std::fmt::Display, allowed: &str| {
            if good { Ok(()) } else { Err(format!("train.{key}: {value} is not {allowed}")) }
        };
        let rate = "at least 0 and below 1";
        inside("steps", self.steps > 0, &self.steps, "at least 1")?;
        let sizes = (1..=65_536).contains(&self.batch_size);
        inside("batch_size", sizes, &self.batch_size, "from 1 to 65536")?;
        let parts = self.micro_batch <= self.batch_size;
        inside("micro_batch", parts, &self.micro_batch, "0 or at most train.batch_size")?;
        let positive = self.learning_rate > 0.0 && self.learning_rate <= 1.0;
        inside("learning_rate", positive, &self.learning_rate, "above 0 and at most 1")?;
        let (first, second) = self.betas;
        inside("betas", (0.0..1.0).contains(&first), &first, rate)?;
        inside("betas", (0.0..1.0).contains(&second), &second, rate)?;
        let finite = self.clip >= 0.0 && self.clip.is_finite();
        inside("clip", finite, &self.clip, "0 (no clipping) or a positive number")?;
        inside("ema", (0.0..1.0).contains(&self.ema), &self.ema, rate)?;
        inside("log_every", self.log_every > 0, &self.log_every, "at least 1")?;
        inside(
            "checkpoint.every",
            self.checkpoint.every > 0,
            &self.checkpoint.every,
            "at least 1",
        )?;
        inside("threads", self.threads <= 1024, &self.threads, "0 (all cores) to 1024")
    }

    /// Learning rate of the step that makes `step` (counted from 1) steps done.
    pub fn rate(&self, step: u64) -> f64 {
        if step >= self.warmup_steps {
            self.learning_rate
        } else {
            self.learning_rate * step as f64 / self.warmup_steps as f64
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > LARGEST_FILE {
        let message = format!("{} is too large for a configuration", terminal::bytes(size));
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message));
    }
    std::fs::read_to_string(path)
}

/// Sets `a.b=value` in the table.
fn set(table: &mut toml::Table, item: &str) -> Result<(), String> {
    let (path, text) =
        item.split_once('=').ok_or("wanted is key=value, such as train.steps=100")?;
    let value = toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()));
    let mut keys: Vec<&str> = path.split('.').map(str::trim).collect();
    let last = keys.pop().filter(|key| !key.is_empty()).ok_or("the key is missing")?;
    let mut inside = table;
    for key in keys {
        inside = inside
            .entry(key)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("`{key}` is a value and has no keys of its own"))?;
    }
    inside.insert(last.to_owned(), value);
    Ok(())
}
