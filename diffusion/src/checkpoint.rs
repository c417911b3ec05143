//! Checkpoint folders: `step-00010000/` with `model.safetensors`, `ema.safetensors` (`ema-2…` where
//! there are several averages), `optimizer.safetensors` and `state.json`, which names the digest of
//! each. Imported weights have no optimizer.
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

use crate::weights::{self, Format};
use crate::{DiffusionConfig, Error, ModelConfig, regular};

const FORMAT: u32 = 2;
/// The file of a checkpoint that is written last and makes it complete.
pub const LAST: &str = "state.json";
/// `state.json` is small; more than this is something else.
const LARGEST_STATE: u64 = 16 << 20;

/// The weight files of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The weights that are trained.
    Model,
    /// An exponential moving average of them, by its place among [`Metadata::averages`]: what one
    /// samples from.
    Ema(usize),
    /// Adam's moments and its number of steps.
    Optimizer,
}

impl Component {
    fn file(self) -> String {
        match self {
            Self::Model => "model.safetensors".to_owned(),
            Self::Ema(0) => "ema.safetensors".to_owned(),
            Self::Ema(index) => format!("ema-{}.safetensors", index + 1),
            Self::Optimizer => "optimizer.safetensors".to_owned(),
        }
    }
}

/// Tensors by name.
pub type Named = Vec<(String, Tensor)>;

/// Named tensors of each component, on the CPU, no longer shared with the training that goes on.
pub struct Snapshot {
    /// Weights.
    pub model: Named,
    /// Moving averages of the weights, at least one.
    pub averages: Vec<Named>,
    /// State of the optimizer; none of weights that were not trained here.
    pub optimizer: Option<Named>,
}

impl Snapshot {
    fn components(&self) -> impl Iterator<Item = (Component, &Named)> {
        let averages = self.averages.iter().enumerate();
        std::iter::once((Component::Model, &self.model))
            .chain(averages.map(|(index, average)| (Component::Ema(index), average)))
            .chain(self.optimizer.iter().map(|optimizer| (Component::Optimizer, optimizer)))
    }
}

/// What a checkpoint says of itself beside the weights.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Metadata {
    /// Optimizer steps done; also the index of the next global batch.
    pub step: u64,
    /// Seed of the run.
    pub seed: u64,
    /// How often the run went back to a checkpoint and took other noise.
    pub rewinds: u32,
    /// Generation of the random numbers that it was trained with ([`random::GENERATION`]).
    #[serde(default)]
    pub noise: u32,
    /// Generation of the stream of samples that it was trained on (`pipeline::GENERATION`).
    #[serde(default)]
    pub stream: u32,
    /// Height and width of the images in pixels.
    pub image_size: [u32; 2],
    /// The network.
    pub model: ModelConfig,
    /// Objective and schedules.
    pub diffusion: DiffusionConfig,
    /// Decay rates of the moving averages, in the order of their files.
    pub averages: Vec<f64>,
    /// The whole resolved configuration of the run, or where imported weights are from.
    pub experiment: serde_json::Value,
}

/// `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    format: u32,
    #[serde(flatten)]
    metadata: Metadata,
    files: BTreeMap<String, Identity>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    bytes: u64,
    sha256: String,
}

/// A checkpoint on disk: a folder, or a file of exported weights, which has the weights to sample from alone.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    state: State,
    digest: String,
    /// Whose names the tensors of a file of exported weights have; none for a folder.
    exported: Option<Format>,
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
    pub fn write(place: &Path, snapshot: &Snapshot, metadata: Metadata) -> Result<Self, Error> {
        Self::write_at(&place.join(Self::name(metadata.step)), snapshot, metadata)
    }

    /// As [`Self::write`], into this very folder.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write_at(folder: &Path, snapshot: &Snapshot, metadata: Metadata) -> Result<Self, Error> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let partial = folder.with_file_name(format!(".{name}.partial-{}", std::process::id()));
        let written = Self::write_into(&partial, snapshot, metadata).and_then(|checkpoint| {
            replace(&partial, folder).map_err(|error| problem(folder, error))?;
            Ok(Self { folder: folder.to_owned(), ..checkpoint })
        });
        if written.is_err() {
            // The error that matters is the first one.
            let _ = fs::remove_dir_all(&partial);
        }
        written
    }

    fn write_into(folder: &Path, snapshot: &Snapshot, metadata: Metadata) -> Result<Self, Error> {
        let io = |error| problem(folder, error);
        fs::create_dir_all(folder).map_err(io)?;
        let mut files = BTreeMap::new();
        for (component, tensors) in snapshot.components() {
            let path = folder.join(component.file());
            weights::save_tensors(tensors, &path)?;
            File::open(&path).and_then(|file| file.sync_all()).map_err(io)?;
            files.insert(component.file(), identify(&path)?);
        }
        let state = State { format: FORMAT, metadata, files };
        let text = serde_json::to_vec_pretty(&state).map_err(|error| problem(folder, error))?;
        let path = folder.join(LAST);
        fs::write(&path, &text).map_err(io)?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(io)?;
        File::open(folder).and_then(|file| file.sync_all()).map_err(io)?;
        let digest = hex(&Sha256::digest(&text));
        Ok(Self { folder: folder.to_owned(), state, digest, exported: None })
    }

    /// Opens a checkpoint's folder or a file of exported weights; the weights are read and checked when asked
    /// for.
    ///
    /// # Errors
    /// When there is no checkpoint, when its `state.json` is damaged or of another format, and when a file
    /// does not say which network it is of.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        if folder.is_file() {
            return Self::of_file(folder);
        }
        let path = folder.join(LAST);
        let io = |error| problem(folder, error);
        let mut text = Vec::new();
        let (file, _) = regular::open(&path).map_err(io)?;
        file.take(LARGEST_STATE).read_to_end(&mut text).map_err(io)?;
        let state: State = serde_json::from_slice(&text)
            .map_err(|error| problem(folder, format!("state.json is damaged: {error}")))?;
        if state.format != FORMAT {
            let message =
                format!("format {} is not {FORMAT}: another version wrote it", state.format);
            return Err(problem(folder, message));
        }
        // Its word says which files are read, copied and removed with it.
        let within = |name: &str| {
            let mut parts = Path::new(name).components();
            matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
        };
        if let Some(name) = state.files.keys().find(|name| !within(name)) {
            let message = format!("state.json is damaged: {name:?} is not a file of this folder");
            return Err(problem(folder, message));
        }
        let digest = hex(&Sha256::digest(&text));
        Ok(Self { folder: folder.to_owned(), state, digest, exported: None })
    }

    /// A file of exported weights as a checkpoint: its description says what `state.json` does.
    fn of_file(path: &Path) -> Result<Self, Error> {
        let Some(description) = weights::describe(path)? else {
            let message = match path.parent().filter(|folder| folder.join(LAST).is_file()) {
                Some(folder) => {
                    format!("is one file of a checkpoint: give its folder, {}", folder.display())
                }
                None => format!(
                    "is a weights file that does not say which network it is of: make a checkpoint of it \
                     by `trainer import {} --format adm|janspiry --out DIR`, and give that",
                    path.display()
                ),
            };
            return Err(problem(path, message));
        };
        let identity = identify(path)?;
        let digest = identity.sha256.clone();
        let weights::Description { format, model, diffusion, image_size, step, trained } =
            description;
        model.validate(image_size)?;
        diffusion.validate()?;
        let metadata = Metadata {
            step,
            seed: 0,
            rewinds: 0,
            noise: random::GENERATION,
            stream: 0,
            image_size,
            model,
            diffusion,
            averages: vec![0.0],
            experiment: trained,
        };
        let files = BTreeMap::from([(Component::Ema(0).file(), identity)]);
        let state = State { format: FORMAT, metadata, files };
        Ok(Self { folder: path.to_owned(), state, digest, exported: Some(format) })
    }

    /// What a weights file says of this checkpoint's network, for [`weights::export`]. `trained` is taken
    /// from the experiment: what says for what the network was trained.
    pub fn description(&self) -> weights::Description {
        let metadata = &self.state.metadata;
        let experiment = &metadata.experiment;
        let mut trained = serde_json::Map::new();
        if let Some(name) = experiment.get("name") {
            trained.insert("name".to_owned(), name.clone());
        }
        for (table, key) in [("data", "tasks"), ("train", "precision")] {
            if let Some(value) = experiment.get(table).and_then(|table| table.get(key)) {
                trained.insert(table.to_owned(), serde_json::json!({ key: value }));
            }
        }
        weights::Description {
            format: Format::Adm,
            model: metadata.model.clone(),
            diffusion: metadata.diffusion.clone(),
            image_size: metadata.image_size,
            step: metadata.step,
            trained: trained.into(),
        }
    }

    /// Reads the tensors of one component; the bytes are compared with their digest first.
    ///
    /// # Errors
    /// When the file is missing, is not the one that was written, or holds values that are NaN or infinite.
    pub fn read(&self, component: Component) -> Result<Named, Error> {
        let tensors = self.read_any_values(component)?;
        let path = match self.exported {
            Some(_) => self.folder.clone(),
            None => self.folder.join(component.file()),
        };
        weights::check_finite(&tensors, &path.display().to_string())?;
        Ok(tensors)
    }

    /// As [`Self::read`], of weights of the network that the checkpoint says it is of, by the sizes of the tensors:
    /// to be called before that network is built, whose size is the checkpoint's word alone. Of a folder nothing is
    /// read of weights that do not fit.
    ///
    /// # Errors
    /// As [`Self::read`], and when the network has other tensors.
    pub fn read_weights(&self, component: Component) -> Result<Named, Error> {
        let Metadata { model, image_size, .. } = &self.state.metadata;
        if self.exported.is_some() {
            let tensors = self.read(component)?;
            weights::check_tensors(&tensors, model, *image_size, &self.folder)?;
            return Ok(tensors);
        }
        weights::check_file(&self.folder.join(component.file()), model, *image_size)?;
        self.read(component)
    }

    /// As [`Self::read`], also values that are NaN or infinite.
    ///
    /// # Errors
    /// When the file is missing or is not the one that was written.
    pub fn read_any_values(&self, component: Component) -> Result<Named, Error> {
        let path = self.folder.join(component.file());
        let Some(wanted) = self.state.files.get(&component.file()) else {
            return Err(problem(&path, "this checkpoint has no such component"));
        };
        if let Some(format) = self.exported {
            if identify(&self.folder)? != *wanted {
                return Err(problem(&self.folder, "was changed since it was opened"));
            }
            let hints = weights::Hints { allow_non_finite: true, ..weights::Hints::default() };
            return Ok(weights::import(&self.folder, format, &hints)?.weights);
        }
        let (_, length) = regular::open(&path).map_err(|error| problem(&path, error))?;
        if length != wanted.bytes {
            let message = format!("has {length} bytes but state.json says {}", wanted.bytes);
            return Err(problem(&path, message));
        }
        let bytes = regular::read(&path).map_err(|error| problem(&path, error))?;
        let found = hex(&Sha256::digest(&bytes));
        if wanted.sha256 != found {
            let message = format!("sha256 is {found} but state.json says {}", wanted.sha256);
            return Err(problem(&path, message));
        }
        weights::parse_tensors(&bytes, &path)
    }

    /// Compares all files with what was written. Reads them.
    ///
    /// # Errors
    /// Names the first that is missing or another one.
    pub fn verify(&self) -> Result<(), Error> {
        for (name, wanted) in &self.state.files {
            let path = self.folder.join(name);
            let found = identify(&path)?;
            if found != *wanted {
                let (wanted, found) = (&wanted.sha256, &found.sha256);
                let message = format!("sha256 is {found} but state.json says {wanted}");
                return Err(problem(&path, message));
            }
        }
        Ok(())
    }

    /// Whether there is such a component.
    pub fn has(&self, component: Component) -> bool {
        self.state.files.contains_key(&component.file())
    }

    /// Refuses to go on from a checkpoint whose random numbers were those of another version: its run
    /// would draw other noise from here on than it would have.
    ///
    /// # Errors
    /// Names the way out.
    pub fn check_resumable(&self) -> Result<(), Error> {
        if self.exported.is_some() || !self.has(Component::Optimizer) {
            let message = format!(
                "has weights but no state of the optimizer, so that no run can go on from it; start a new \
                 run from its weights with train.init = \"{}\"",
                self.folder.display()
            );
            return Err(problem(&self.folder, message));
        }
        if self.state.metadata.noise == random::GENERATION {
            return Ok(());
        }
        let message = format!(
            "was trained with another noise generator (generation {}, not {}) and cannot be resumed \
             exactly; start a new run from its weights with train.init = \"{}\"",
            self.state.metadata.noise,
            random::GENERATION,
            self.folder.display()
        );
        Err(problem(&self.folder, message))
    }

    /// Where it lies: its folder, or the file of exported weights.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it says of itself.
    pub fn metadata(&self) -> &Metadata {
        &self.state.metadata
    }

    /// Names of its files, `state.json` last.
    pub fn files(&self) -> Vec<String> {
        self.state.files.keys().cloned().chain([LAST.to_owned()]).collect()
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
    match place.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all()?,
        _ => File::open(".")?.sync_all()?,
    }
    match fs::remove_dir_all(&old) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn identify(path: &Path) -> Result<Identity, Error> {
    let (mut file, _) = regular::open(path).map_err(|error| problem(path, error))?;
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

    fn snapshot(value: f64) -> Snapshot {
        Snapshot {
            model: tensors(value),
            averages: vec![tensors(value + 1.0), tensors(value + 2.0)],
            optimizer: Some(tensors(value + 3.0)),
        }
    }

    fn metadata(step: u64) -> Metadata {
        Metadata {
            step,
            seed: 7,
            rewinds: 0,
            noise: random::GENERATION,
            stream: 1,
            image_size: [32, 32],
            model: ModelConfig::default(),
            diffusion: DiffusionConfig::default(),
            averages: vec![0.9999, 0.99],
            experiment: serde_json::json!({"name": "test"}),
        }
    }

    #[test]
    fn weights_of_another_network_are_refused_by_their_header() {
        let place = tempfile::tempdir().unwrap();
        let huge = ModelConfig { model_channels: 4096, ..ModelConfig::default() };
        let metadata = Metadata { image_size: [256, 256], model: huge, ..metadata(1) };
        let written = Checkpoint::write(place.path(), &snapshot(1.0), metadata.clone()).unwrap();
        let refused = |of: &Checkpoint| of.read_weights(Component::Ema(0)).unwrap_err().to_string();
        let error = refused(&written);
        assert!(error.contains("ema.safetensors`: holds 6 numbers in 1 tensors, the"), "{error}");
        // Longer or shorter than the header says: not by the word of either is anything made room for.
        let path = written.folder().join("ema.safetensors");
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        let error = refused(&written);
        assert!(error.contains("bytes of tensors, its header says 24"), "{error}");
        let error = written.read(Component::Ema(0)).unwrap_err().to_string();
        assert!(error.contains("has 1099511627776 bytes but state.json says"), "{error}");
        fs::write(&path, [0xff; 64]).unwrap();
        let error = refused(&written);
        assert!(error.contains("its header says 18446744073709551615 bytes"), "{error}");
        // No valid network at all.
        let none = ModelConfig { model_channels: u32::MAX, ..ModelConfig::default() };
        let metadata = Metadata { model: none, ..metadata };
        let written = Checkpoint::write(place.path(), &snapshot(1.0), metadata).unwrap();
        assert!(refused(&written).contains("model.model_channels"), "{}", refused(&written));
    }

    #[test]
    fn what_was_written_is_read_and_damage_is_named() {
        let place = tempfile::tempdir().unwrap();
        let snapshot = snapshot(1.0);
        let written = Checkpoint::write(place.path(), &snapshot, metadata(12)).unwrap();
        assert_eq!(written.folder(), place.path().join("step-00000012"));
        let read = Checkpoint::open(written.folder()).unwrap();
        assert_eq!((read.digest(), read.metadata().step), (written.digest(), 12));
        for (component, value) in [
            (Component::Model, 1.0),
            (Component::Ema(0), 2.0),
            (Component::Ema(1), 3.0),
            (Component::Optimizer, 4.0),
        ] {
            let tensors = read.read(component).unwrap();
            assert_eq!(tensors[0].0, "a.weight");
            assert_eq!(tensors[0].1.mean(None).double_value(&[]), value);
        }
        assert!(!read.has(Component::Ema(2)) && read.read(Component::Ema(2)).is_err());

        let path = written.folder().join("ema.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = read.read(Component::Ema(0)).unwrap_err().to_string();
        assert!(error.contains("ema.safetensors") && error.contains("sha256"), "{error}");
    }

    #[test]
    fn a_checkpoint_of_other_noise_is_read_but_not_resumed() {
        let place = tempfile::tempdir().unwrap();
        let written = Checkpoint::write(place.path(), &snapshot(1.0), metadata(3)).unwrap();
        assert!(written.check_resumable().is_ok());
        // As versions wrote it that did not record a generation.
        let path = written.folder().join(LAST);
        let mut state: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert!(state.as_object_mut().unwrap().remove("noise").is_some());
        fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
        let old = Checkpoint::open(written.folder()).unwrap();
        assert_eq!(old.read(Component::Ema(0)).unwrap().len(), 1);
        let message = old.check_resumable().unwrap_err().to_string();
        assert!(message.contains("noise generator") && message.contains("train.init"), "{message}");
    }

    #[test]
    fn the_same_step_is_replaced_and_nothing_is_left_behind() {
        let place = tempfile::tempdir().unwrap();
        for value in [1.0, 5.0] {
            Checkpoint::write(place.path(), &snapshot(value), metadata(3)).unwrap();
        }
        let names: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["step-00000003"]);
        let model = Checkpoint::open(&place.path().join("step-00000003")).unwrap();
        assert_eq!(model.read(Component::Model).unwrap()[0].1.double_value(&[0, 0]), 5.0);
    }

    #[test]
    fn a_checkpoint_that_is_not_finite_is_not_read_unless_forced() {
        let place = tempfile::tempdir().unwrap();
        let snapshot = Snapshot {
            averages: vec![tensors(2.0), tensors(f64::NAN)],
            optimizer: Some(tensors(f64::INFINITY)),
            ..snapshot(1.0)
        };
        let written = Checkpoint::write(place.path(), &snapshot, metadata(3)).unwrap();
        assert!(written.read(Component::Ema(0)).is_ok());
        for (component, file) in [
            (Component::Ema(1), "ema-2.safetensors"),
            (Component::Optimizer, "optimizer.safetensors"),
        ] {
            let message = written.read(component).unwrap_err().to_string();
            assert!(message.contains("`a.weight`") && message.contains(file), "{message}");
            assert!(written.read_any_values(component).is_ok());
        }
    }

    #[test]
    fn files_have_the_mode_that_files_have_here() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let written = Checkpoint::write(place.path(), &snapshot(1.0), metadata(3)).unwrap();
        let plain = place.path().join("plain");
        fs::write(&plain, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        for file in written.files() {
            assert_eq!(mode(&written.folder().join(&file)), mode(&plain), "{file}");
        }
        assert_eq!(fs::read_dir(written.folder()).unwrap().count(), written.files().len());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Checkpoint::write(&file, &snapshot(1.0), metadata(1)).is_err());
    }
}
