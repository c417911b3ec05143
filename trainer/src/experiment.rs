//! Experiments: a TOML file with overrides becomes one validated, resolved configuration, which is
//! stored with its run. Whatever is wrong is refused here, before anything is queued, naming the
//! file, the key and what is allowed.

use std::path::Path;

use diffusion::{DiffusionConfig, Memory, ModelConfig, TrainingStep};
use pipeline::DataConfig;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::Device;
use terminal::Usage;

use crate::config::{PrecisionChoice, TrainConfig};

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
        let experiment: Self = serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let message = error.inner().message().replace('\n', ", ");
            if path == "." { message } else { format!("{path}: {message}") }
        })?;
        experiment.validate()?;
        Ok(experiment)
    }

    fn validate(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.len() > 100 || self.name.contains(char::is_whitespace)
        {
            return Err(format!("name: `{}` is not 1 to 100 characters without spaces", self.name));
        }
        self.data.validate().map_err(|error| error.to_string())?;
        self.model.validate(self.size()).map_err(|error| error.to_string())?;
        self.diffusion.validate().map_err(|error| error.to_string())?;
        self.train.validate()
    }

    /// Decides what the configuration leaves to the device (`train.precision = "auto"`). A run that
    /// goes on from a checkpoint, whose experiment is `begun`, goes on as it began.
    pub fn settle(&mut self, device: Device, begun: Option<&serde_json::Value>) {
        if self.train.precision != PrecisionChoice::Auto {
            return;
        }
        let before = begun
            .and_then(|experiment| experiment.pointer("/train/precision"))
            .and_then(|precision| PrecisionChoice::deserialize(precision).ok())
            .unwrap_or(PrecisionChoice::Auto);
        self.train.precision = match before {
            PrecisionChoice::Auto => self.train.precision.on(device).into(),
            decided => decided,
        };
    }

    /// What a training step takes on this device, reckoned from the plan of the network.
    ///
    /// # Errors
    /// When the network is invalid.
    pub fn memory(&self, device: Device) -> diffusion::Result<Memory> {
        let train = &self.train;
        let step = TrainingStep {
            images: train.at_once() as u64,
            precision: train.precision.on(device),
            recompute: train.recompute,
            averages: train.ema.0.len() as u64,
            cuda: device.is_cuda(),
        };
        self.model.memory(self.size(), step)
    }

    /// Height and width of the images in pixels.
    pub fn size(&self) -> [u32; 2] {
        [self.data.image_size.height, self.data.image_size.width]
    }

    /// sha256 of the resolved configuration: two runs with the same digest are the same experiment.
    pub fn digest(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(&json).iter().map(|byte| format!("{byte:02x}")).collect()
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

/// A value as it is typed: TOML where it is that, else a text.
pub fn value(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// Sets `a.b=value` in the table.
fn set(table: &mut toml::Table, item: &str) -> Result<(), String> {
    let (path, text) =
        item.split_once('=').ok_or("wanted is key=value, such as train.steps=100")?;
    let value = value(text);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn experiment(precision: &str) -> Experiment {
        Experiment::from_json(&json!({
            "name": "e",
            "data": { "datasets": [{ "uri": "d" }], "tasks": { "colorization": 1.0 } },
            "train": { "precision": precision },
        }))
        .unwrap()
    }

    /// Whoever runs an experiment stands in another folder.
    #[test]
    fn places_are_absolute_and_have_one_spelling() {
        let mut json = json!({
            "name": "e",
            "data": { "datasets": [{ "uri": "d" }], "tasks": { "colorization": 1.0 } },
            "train": { "checkpoint": { "place": "file:///a%20b/" }, "init": "s3://b/p" },
        });
        let stored = serde_json::to_value(Experiment::from_json(&json).unwrap()).unwrap();
        let here = std::env::current_dir().unwrap().join("d");
        assert_eq!(stored["data"]["datasets"][0]["uri"], here.to_str().unwrap());
        assert_eq!(stored["train"]["checkpoint"]["place"], "/a b");
        assert_eq!(stored["train"]["init"], "s3://b/p");
        json["train"]["checkpoint"]["place"] = "ftp://a/b".into();
        let error = Experiment::from_json(&json).unwrap_err().to_string();
        assert!(error.contains("train.checkpoint.place: `ftp://a/b` is no address"), "{error}");
    }

    /// A run that began on a GPU and goes on elsewhere, and the other way round, stays as it was.
    #[test]
    fn a_run_keeps_the_precision_that_it_began_with() {
        let settled = |precision: &str, device, begun: Option<&serde_json::Value>| {
            let mut experiment = experiment(precision);
            experiment.settle(device, begun);
            experiment.train.precision
        };
        let (cpu, gpu) = (Device::Cpu, Device::Cuda(0));
        assert_eq!(settled("auto", cpu, None), PrecisionChoice::Fp32);
        assert_eq!(settled("auto", gpu, None), PrecisionChoice::Bf16);
        assert_eq!(settled("tf32", cpu, None), PrecisionChoice::Tf32);
        for (began, goes_on) in [(gpu, cpu), (cpu, gpu)] {
            let mut first = experiment("auto");
            first.settle(began, None);
            let begun = serde_json::to_value(&first).unwrap();
            assert_eq!(settled("auto", goes_on, Some(&begun)), first.train.precision);
        }
        // A checkpoint of before, whose run said what it wants.
        let old = json!({ "train": { "precision": "bf16" } });
        assert_eq!(settled("auto", cpu, Some(&old)), PrecisionChoice::Bf16);
        assert_eq!(settled("fp32", cpu, Some(&old)), PrecisionChoice::Fp32);
    }
}
