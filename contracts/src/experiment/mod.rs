//! Experiments: a TOML file with overrides becomes one validated, resolved configuration, which is
//! stored with its run. Whatever is wrong is refused here, before anything is queued, naming the
//! file, the key, its value and what is allowed.

mod advice;
mod overrides;
pub mod sweep;
mod train;

use std::path::Path;

use diffusion::{DiffusionConfig, Formulation, Memory, ModelConfig, NOISE_BINS, TrainingStep};
use pipeline::DataConfig;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tch::Device;

use crate::config_error::nearest;
use crate::read::{deserialize, from_json, parse, read_text};
use crate::{ConfigError, Trained};
pub use advice::Advice;
pub use overrides::Override;
pub use train::{
    CheckpointConfig, PrecisionChoice, PreviewConfig, Rates, TrainConfig, ValidationConfig,
    WatchConfig,
};

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

/// The payload of a training job. Its run has the configuration; the payload says what the job is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingJob {
    /// Digest of the experiment ([`Experiment::digest`]).
    pub config_digest: String,
}

impl Experiment {
    /// Reads a configuration file and applies overrides of the form `a.b=value`, where the value is
    /// TOML or else a string. Places on this machine become absolute: whoever runs the experiment
    /// works in another folder.
    ///
    /// # Errors
    /// Names file, key, value and what is allowed.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let table = parse(&read_text(path)?).map_err(|error| error.of(&file))?;
        Self::with_overrides(table, &file, overrides)
    }

    /// The experiment with overrides, as [`Self::load`] takes them; `origin` says in errors what it is.
    ///
    /// # Errors
    /// Names origin, key, value and what is allowed.
    pub fn changed(&self, origin: &str, overrides: &[String]) -> Result<Self, ConfigError> {
        let table = toml::Table::try_from(self)
            .map_err(|error| ConfigError::other("", error.to_string()).of(origin))?;
        Self::with_overrides(table, origin, overrides)
    }

    fn with_overrides(
        mut table: toml::Table,
        origin: &str,
        overrides: &[String],
    ) -> Result<Self, ConfigError> {
        let mut applied: Vec<Override> = Vec::new();
        for item in overrides {
            let typed = |error: ConfigError| error.of(format!("--set {item}"));
            let item: Override = item.parse().map_err(typed)?;
            item.apply(&mut table).map_err(typed)?;
            applied.push(item);
        }
        Self::from_table(table).map_err(|error| {
            // The last one counts.
            match applied.iter().rev().find(|item| item.concerns(error.key())) {
                Some(item) => error.of(format!("{origin} with --set {item}")),
                None => error.of(origin),
            }
        })
    }

    /// Reads the resolved form that is stored with a run.
    ///
    /// # Errors
    /// Names the key and what is allowed.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, ConfigError> {
        let read = || {
            let mut experiment: Self = from_json(json)?;
            experiment.validate()?;
            experiment.settle_best_by();
            Ok(experiment)
        };
        read().map_err(|error: ConfigError| error.of("stored configuration"))
    }

    fn from_table(table: toml::Table) -> Result<Self, ConfigError> {
        let mut experiment: Self = deserialize(toml::Value::Table(table), &known_keys())?;
        experiment.validate()?;
        experiment.settle_best_by();
        experiment.check_best_by()?;
        Ok(experiment)
    }

    fn settle_best_by(&mut self) {
        let by = match self.train.validation {
            Some(_) => "validation/loss",
            None => "loss",
        };
        if self.train.checkpoint.best_by.is_empty() {
            self.train.checkpoint.best_by = by.to_owned();
        }
    }

    /// Refuses a metric that the run will never have. Not of a run that began already: an earlier version let
    /// it begin.
    fn check_best_by(&self) -> Result<(), ConfigError> {
        let shares = self.data.tasks.iter().filter(|(_, share)| **share > 0.0);
        let tasks: Vec<String> = shares.map(|(task, _)| task.to_string()).collect();
        let mut losses = vec!["loss".to_owned()];
        if tasks.len() > 1 {
            losses.extend(tasks.iter().map(|task| format!("loss/{task}")));
        }
        if self.diffusion.kind == Formulation::Diffusion {
            losses.extend((0..NOISE_BINS).map(|bin| format!("noise/{bin}")));
        }
        let mut known = losses.clone();
        if self.train.validation.is_some() {
            known.extend(losses.iter().map(|loss| format!("validation/{loss}")));
        }
        known.extend(["gradient_norm", "waiting"].map(str::to_owned));
        let by = &self.train.checkpoint.best_by;
        if known.contains(by) {
            return Ok(());
        }
        let mut allowed = format!("a metric of the run: {}", known.join(", "));
        if by.starts_with("validation/") && self.train.validation.is_none() {
            allowed += "; validation/… wants a table [train.validation]";
        }
        Err(ConfigError::value("train.checkpoint.best_by", format!("\"{by}\""), allowed)
            .meant(nearest(by, known.iter().map(String::as_str))))
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if storage::names::name(&self.name).is_err() {
            let shown: String = self.name.chars().take(storage::names::LONGEST).collect();
            return Err(ConfigError::value("name", format!("{shown:?}"), storage::names::RULE));
        }
        self.data.validate()?;
        self.model.validate(self.size())?;
        self.diffusion.validate()?;
        self.train.validate()
    }

    /// Decides what the configuration leaves to the device and the machine (`train.precision = "auto"`,
    /// and on the CPU `train.threads = 0`). A run that goes on from a checkpoint, whose experiment is
    /// `begun`, goes on as it began.
    pub fn settle(&mut self, device: Device, begun: Option<&serde_json::Value>) {
        let begun = begun.map(Trained::of).unwrap_or_default();
        if self.train.precision == PrecisionChoice::Auto {
            self.train.precision = match begun.precision {
                None | Some(PrecisionChoice::Auto) => self.train.precision.on(device).into(),
                Some(decided) => decided,
            };
        }
        if self.train.threads == 0 && device == Device::Cpu {
            let all = || usize::try_from(tch::get_num_threads()).unwrap_or(1);
            self.train.threads = begun.threads.unwrap_or_else(all);
        }
    }

    /// What a training step takes of each of `ranks` processes on this device, reckoned from the plan of the network.
    ///
    /// # Errors
    /// When the network is invalid.
    pub fn memory(&self, device: Device, ranks: usize) -> diffusion::Result<Memory> {
        let train = &self.train;
        let step = TrainingStep {
            images: train.at_once_of(ranks) as u64,
            buffers: u64::from(train.buffers(ranks)),
            holders: if train.shard_optimizer { ranks as u64 } else { 1 },
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
        // The keys in order, as the registry has them, so that both say the same digest.
        let json = serde_json::to_value(self).unwrap_or_default().to_string();
        Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// An experiment in which all is as where nothing is said, with the tables that are left out otherwise.
fn in_full() -> serde_json::Value {
    let experiment = Experiment {
        name: String::new(),
        seed: 0,
        data: DataConfig::default(),
        model: ModelConfig::default(),
        diffusion: DiffusionConfig::default(),
        train: TrainConfig {
            validation: serde_json::from_value(json!({ "dataset": "/", "every": 1 })).ok(),
            preview: serde_json::from_value(json!({ "every": 1 })).ok(),
            ..TrainConfig::default()
        },
    };
    serde_json::to_value(experiment).unwrap_or_default()
}

/// Every key of an experiment in full, of tables that are left out too.
fn known_keys() -> Vec<String> {
    let mut keys = Vec::new();
    collect(&in_full(), "", &mut keys);
    keys
}

fn collect(value: &serde_json::Value, path: &str, keys: &mut Vec<String>) {
    let Some(table) = value.as_object() else { return };
    for (name, value) in table {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(value, &key, keys);
        keys.push(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(precision: &str) -> Experiment {
        Experiment::from_json(&json!({
            "name": "e",
            "data": { "datasets": [{ "uri": "d" }], "tasks": { "colorization": 1.0 } },
            "train": { "precision": precision },
        }))
        .unwrap()
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

    /// The default takes the machine's; another machine has others.
    #[test]
    fn a_run_keeps_the_threads_that_it_began_with() {
        let settled = |device, begun: Option<&serde_json::Value>| {
            let mut experiment = experiment("fp32");
            experiment.settle(device, begun);
            experiment.train.threads
        };
        assert_eq!(settled(Device::Cpu, None), tch::get_num_threads() as usize);
        let begun = json!({ "train": { "threads": 37 } });
        assert_eq!(settled(Device::Cpu, Some(&begun)), 37);
        let of_before = json!({ "train": { "threads": 0 } });
        assert_eq!(settled(Device::Cpu, Some(&of_before)), tch::get_num_threads() as usize);
        assert_eq!(settled(Device::Cuda(0), Some(&begun)), 0, "nothing hangs on them there");
        let mut given = experiment("fp32");
        given.train.threads = 3;
        given.settle(Device::Cpu, Some(&begun));
        assert_eq!(given.train.threads, 3);
    }

    #[test]
    fn the_best_checkpoint_is_so_by_a_metric_that_the_run_has() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("e.toml");
        let data =
            "data = { datasets = [{ uri = \"d\" }], tasks = { jpeg = 1, colorization = 1 } }\n";
        std::fs::write(&file, format!("name = \"e\"\n{data}")).unwrap();
        let validation = "train.validation={ dataset = \"v\", every = 10 }";
        let load = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            Experiment::load(&file, &sets).map(|experiment| experiment.train.checkpoint.best_by)
        };
        assert_eq!(load(&[]).unwrap(), "loss");
        assert_eq!(load(&[validation]).unwrap(), "validation/loss");
        for by in ["loss/jpeg", "noise/4", "gradient_norm"] {
            assert_eq!(load(&[&format!("train.checkpoint.best_by={by}")]).unwrap(), by);
        }
        let validated = "train.checkpoint.best_by=validation/loss";
        assert!(load(&[validation, validated]).is_ok());
        let message = load(&[validated]).unwrap_err().to_string();
        assert!(message.contains("wants a table [train.validation]"), "{message}");
        let message = load(&["train.checkpoint.best_by=los"]).unwrap_err().to_string();
        assert!(message.contains("did you mean `loss`?"), "{message}");
        assert!(load(&["train.checkpoint.best_by=loss/inpainting"]).is_err());
    }

    #[test]
    fn a_stored_experiment_is_changed_as_one_of_a_file() {
        let mut stored = experiment("fp32");
        stored.train.validation =
            serde_json::from_value(json!({ "dataset": "/v", "every": 5 })).unwrap();
        stored.settle_best_by();
        let stored = Experiment::from_json(&serde_json::to_value(&stored).unwrap()).unwrap();
        assert_eq!(stored.changed("run x", &[]).unwrap().digest(), stored.digest());
        let set = |set: &str| stored.changed("run x", &[set.to_owned()]);
        let changed = set("train.steps=7").unwrap();
        assert_eq!((changed.train.steps, changed.seed), (7, stored.seed));
        let message = set("train.stepz=7").unwrap_err().to_string();
        assert!(message.starts_with("run x with --set train.stepz=7: "), "{message}");
    }

    fn refused(text: &str, overrides: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("e.toml");
        std::fs::write(&file, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|item| (*item).to_owned()).collect();
        let error = Experiment::load(&file, &overrides).unwrap_err().to_string();
        let (origin, message) = error.split_once(": ").unwrap();
        assert!(origin.starts_with(file.to_str().unwrap()), "{error}");
        let typed = origin.strip_prefix(file.to_str().unwrap()).unwrap();
        format!("{typed}: {message}")
    }

    #[test]
    fn an_error_names_file_key_value_allowed_and_the_nearest_key() {
        let good = "name = \"e\"\ndata = { datasets = [{ uri = \"d\" }], tasks = { jpeg = 1 } }\n";
        let with = |set: &str| refused(good, &[set]);
        for (set, parts) in [
            (
                "train.stepz=3",
                &["train.stepz is not a known key", "did you mean `train.steps`?"][..],
            ),
            ("steps=3", &["steps is not a known key", "did you mean `train.steps`?"]),
            ("train.previw.every=3", &["train.previw is not", "did you mean `train.preview`?"]),
            ("train.steps=\"many\"", &["train.steps is \"many\", allowed: a whole number"]),
            ("train.steps=0", &["train.steps is 0, allowed: at least 1"]),
            (
                "data.crop=centre",
                &["data.crop is \"centre\", allowed: center, random; did you mean"],
            ),
            ("data.tasks={ color = 1 }", &["data.tasks.color is not a known key", "colorization"]),
            ("data.image_size=4", &["data.image_size is 4, allowed: 8 to 4096"]),
            ("train.ema=slow", &["train.ema is \"slow\"", "a decay rate or a list of them"]),
            ("train.init=ftp://a/b", &["train.init: ", "`ftp://` is not known", "s3://BUCKET"]),
            ("diffusion.min_snr=0", &["diffusion.min_snr is 0, allowed: "]),
            ("model.dropout=2", &["model.dropout is 2, allowed: "]),
        ] {
            let message = with(set);
            let file = format!(" with --set {set}: ");
            for part in parts.iter().copied().chain([file.as_str()]) {
                assert!(message.contains(part), "`{part}` is not in: {message}");
            }
        }
        let missing = refused("[train]\nsteps = 1\n", &[]);
        assert_eq!(missing, ": name is missing");
        let unread = refused("name = \n", &[]);
        assert!(unread.starts_with(": line 1: "), "{unread}");
    }

    /// The control room shows what a configuration changes, and does not link the networks to know it.
    #[test]
    fn the_pages_know_every_default() {
        let mut defaults = in_full();
        for (table, key) in [
            ("", "name"),
            ("/data", "datasets"),
            ("/train/validation", "dataset"),
            ("/train/validation", "every"),
            ("/train/preview", "every"),
        ] {
            defaults.pointer_mut(table).unwrap().as_object_mut().unwrap().remove(key);
        }
        let file = Path::new("../room/src/screens/run/defaults.json");
        let text = serde_json::to_string_pretty(&defaults).unwrap() + "\n";
        if std::env::var_os("PALETTE_WRITE_DEFAULTS").is_some() {
            std::fs::write(file, &text).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(file).unwrap_or_default(),
            text,
            "run this test with PALETTE_WRITE_DEFAULTS=1, which writes the file anew"
        );
    }

    /// What is stored is what was stored before: absolute paths, addresses as they are.
    #[test]
    fn addresses_are_stored_as_text() {
        let stored = json!({
            "name": "e",
            "data": { "datasets": [{ "uri": "file:///data/a/" }], "tasks": { "jpeg": 1.0 } },
            "train": { "init": "file:///weights/w/", "checkpoint": { "place": "s3://bucket/runs" } },
        });
        let experiment = Experiment::from_json(&stored).unwrap();
        let text = serde_json::to_value(&experiment).unwrap();
        assert_eq!(text["data"]["datasets"][0]["uri"], "/data/a");
        assert_eq!(text["train"]["init"], "/weights/w");
        assert_eq!(text["train"]["checkpoint"]["place"], "s3://bucket/runs");
        let again = Experiment::from_json(&text).unwrap();
        assert_eq!(again.digest(), experiment.digest());
    }
}
