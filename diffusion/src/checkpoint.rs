//! Checkpoint folders: `step-00010000/` with `model.safetensors`, `ema.safetensors`,
//! `optimizer.safetensors` and `state.json`, which names the digest of each.
//!
//! A folder is written beside, synced and renamed, so one that has its final name is complete. The
//! sha256 of `state.json` stands for the whole. Written by the trainer, read by whoever needs the
//! weights of a run; nothing in here is ever executed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::Tensor;

use crate::{DiffusionConfig, Error, ModelConfig, weights};

const FORMAT: u32 = 1;
/// `state.json` is small; more than this is something else.
const LARGEST_STATE: u64 = 16 << 20;

/// The three weight files of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The weights that are trained.
    Model,
    /// Their exponential moving average: what one samples from.
    Ema,
    /// Adam's moments and its number of steps.
    Optimizer,
}

impl Part {
    const ALL: [Self; 3] = [Self::Model, Self::Ema, Self::Optimizer];

    fn file(self) -> &'static str {
        match self {
            Self::Model => "model.safetensors",
            Self::Ema => "ema.safetensors",
            Self::Optimizer => "optimizer.safetensors",
        }
    }
}

/// Named tensors of each part, on the CPU, no longer shared with the training that goes on.
pub struct Snapshot {
    /// Weights.
    pub model: Vec<(String, Tensor)>,
    /// Moving average of the weights.
    pub ema: Vec<(String, Tensor)>,
    /// State of the optimizer.
    pub optimizer: Vec<(String, Tensor)>,
}

impl Snapshot {
    fn part(&self, part: Part) -> &[(String, Tensor)] {
        match part {
            Part::Model => &self.model,
            Part::Ema => &self.ema,
            Part::Optimizer => &self.optimizer,
        }
    }
}

/// What a checkpoint says of itself beside the weights.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Optimizer steps done; also the index of the next global batch.
    pub step: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Side of the images in pixels.
    pub image_size: u32,
    /// The network.
    pub model: ModelConfig,
    /// Objective and schedules.
    pub diffusion: DiffusionConfig,
    /// The whole resolved configuration of the run.
    pub experiment: serde_json::Value,
}

/// `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    format: u32,
    #[serde(flatten)]
    facts: Facts,
    files: BTreeMap<String, Identity>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    bytes: u64,
    sha256: String,
}

/// A checkpoint on disk.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    state: State,
    digest: String,
}

impl Checkpoint {
    /// Name of the folder of a step: `step-00010000`.
    pub fn name(step: u64) -> String {
        format!("step-{step:08}")
    }

    /// Writes a checkpoint into `place/step-…`, replacing one of the same step. Whatever fails,
    /// what was there before is unharmed.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(place: &Path, snapshot: &Snapshot, facts: Facts) -> Result<Self, Error> {
        let name = Self::name(facts.step);
        let partial = place.join(format!(".{name}.partial-{}", std::process::id()));
        let written = Self::write_into(&partial, snapshot, facts).and_then(|checkpoint| {
            let folder = place.join(&name);
            replace(&partial, &folder).map_err(|error| problem(&folder, error))?;
            Ok(Self { folder, ..checkpoint })
        });
        if written.is_err() {
            // The error that matters is the first one.
            let _ = fs::remove_dir_all(&partial);
        }
        written
    }

    fn write_into(folder: &Path, snapshot: &Snapshot, facts: Facts) -> Result<Self, Error> {
        let io = |error| problem(folder, error);
        fs::create_dir_all(folder).map_err(io)?;
        let mut files = BTreeMap::new();
        for part in Part::ALL {
            let path = folder.join(part.file());
            weights::save_tensors(snapshot.part(part), &path)?;
            File::open(&path).and_then(|file| file.sync_all()).map_err(io)?;
            files.insert(part.file().to_owned(), identify(&path)?);
        }
        let state = State { format: FORMAT, facts, files };
        let text = serde_json::to_vec_pretty(&state).map_err(|error| problem(folder, error))?;
        let path = folder.join("state.json");
        fs::write(&path, &text).map_err(io)?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(io)?;
        File::open(folder).and_then(|file| file.sync_all()).map_err(io)?;
        Ok(Self { folder: folder.to_owned(), state, digest: hex(&Sha256::digest(&text)) })
    }

    /// Opens a checkpoint; the weights are read and checked when asked for.
    ///
    /// # Errors
    /// When there is none or its `state.json` is damaged or of another format.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("state.json");
        let io = |error| problem(folder, error);
        let mut text = Vec::new();
        let file = File::open(&path).map_err(io)?;
        file.take(LARGEST_STATE).read_to_end(&mut text).map_err(io)?;
        let state: State = serde_json::from_slice(&text)
            .map_err(|error| problem(folder, format!("state.json is damaged: {error}")))?;
        if state.format != FORMAT {
            let message =
                format!("format {} is not {FORMAT}: another version wrote it", state.format);
            return Err(problem(folder, message));
        }
        Ok(Self { folder: folder.to_owned(), state, digest: hex(&Sha256::digest(&text)) })
    }

    /// Reads the tensors of one part, after its digest was checked.
    ///
    /// # Errors
    /// When the file is missing or is not the one that was written.
    pub fn read(&self, part: Part) -> Result<Vec<(String, Tensor)>, Error> {
        let path = self.folder.join(part.file());
        let wanted = self.state.files.get(part.file());
        let found = identify(&path)?;
        if wanted != Some(&found) {
            let wanted = wanted.map_or("none", |identity| &identity.sha256);
            let message = format!("sha256 is {} but state.json says {wanted}", found.sha256);
            return Err(problem(&path, message));
        }
        weights::read_tensors(&path)
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it says of itself.
    pub fn facts(&self) -> &Facts {
        &self.state.facts
    }

    /// sha256 of `state.json`, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Bytes of the weight files.
    pub fn bytes(&self) -> u64 {
        self.state.files.values().map(|identity| identity.bytes).sum()
    }
}

/// Puts a complete folder in its place; one of that name gives way at once and is then removed.
fn replace(new: &Path, place: &Path) -> std::io::Result<()> {
    let old = new.with_extension("replaced");
    match fs::rename(place, &old) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(new, place)?;
    if let Some(parent) = place.parent() {
        File::open(parent)?.sync_all()?;
    }
    match fs::remove_dir_all(&old) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn identify(path: &Path) -> Result<Identity, Error> {
    let mut file = File::open(path).map_err(|error| problem(path, error))?;
    let mut sha256 = Sha256::new();
    let mut block = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut block).map_err(|error| problem(path, error))?;
        if count == 0 {
            return Ok(Identity { bytes, sha256: hex(&sha256.finalize()) });
        }
        bytes += count as u64;
        sha256.update(&block[..count]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn problem(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Checkpoint { path: path.to_owned(), problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(value: f64) -> Vec<(String, Tensor)> {
        vec![(
            "a.weight".to_owned(),
            Tensor::full([2, 3], value, (tch::Kind::Float, tch::Device::Cpu)),
        )]
    }

    fn facts(step: u64) -> Facts {
        Facts {
            step,
            seed: 7,
            image_size: 32,
            model: ModelConfig::default(),
            diffusion: DiffusionConfig::default(),
            experiment: serde_json::json!({"name": "test"}),
        }
    }

    #[test]
    fn what_was_written_is_read_and_damage_is_named() {
        let place = tempfile::tempdir().unwrap();
        let snapshot = Snapshot { model: tensors(1.0), ema: tensors(2.0), optimizer: tensors(3.0) };
        let written = Checkpoint::write(place.path(), &snapshot, facts(12)).unwrap();
        assert_eq!(written.folder(), place.path().join("step-00000012"));
        let read = Checkpoint::open(written.folder()).unwrap();
        assert_eq!((read.digest(), read.facts().step), (written.digest(), 12));
        let ema = read.read(Part::Ema).unwrap();
        assert_eq!((ema[0].0.as_str(), ema[0].1.mean(None).double_value(&[])), ("a.weight", 2.0));

        let path = written.folder().join("ema.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = read.read(Part::Ema).unwrap_err().to_string();
        assert!(error.contains("ema.safetensors") && error.contains("sha256"), "{error}");
    }

    #[test]
    fn the_same_step_is_replaced_and_nothing_is_left_behind() {
        let place = tempfile::tempdir().unwrap();
        for value in [1.0, 5.0] {
            let snapshot =
                Snapshot { model: tensors(value), ema: tensors(value), optimizer: tensors(value) };
            Checkpoint::write(place.path(), &snapshot, facts(3)).unwrap();
        }
        let names: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["step-00000003"]);
        let model = Checkpoint::open(&place.path().join("step-00000003")).unwrap();
        assert_eq!(model.read(Part::Model).unwrap()[0].1.double_value(&[0, 0]), 5.0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        let snapshot = Snapshot { model: tensors(1.0), ema: tensors(1.0), optimizer: tensors(1.0) };
        assert!(Checkpoint::write(&file, &snapshot, facts(1)).is_err());
    }
}
