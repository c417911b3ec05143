//! The jobs: small, real and deterministic, with the child's side of the library. Each has a twin
//! here that says what it must have made in the end, had nothing ever disturbed it.
//!
//! - a training: stochastic gradient descent on least squares, two metrics a step, a checkpoint
//!   every few steps;
//! - a sampling with the weights of a training: chunks of numbers, one file a chunk;
//! - an evaluation of a sampling: one score.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use registry::{
    Attempt, CheckpointKind, CheckpointRecord, Ending, JobKind, NewEvaluation, Retention, RunFacts,
    RunRef, STOPPED, Stop,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Where the data of a generator comes from: a counter that is mixed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number under `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub fn within(&mut self, range: Range<usize>) -> usize {
        range.start + self.below(range.len())
    }

    /// A number in [-1, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

/// Work is slowed down so that faults meet every phase of it.
const PACE: Duration = Duration::from_millis(3);
const WEIGHTS: usize = 256;
const BATCH: usize = 8;
const RATE: f64 = 0.01;

/// A training.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Training {
    pub seed: u64,
    pub steps: i64,
    pub checkpoint_every: i64,
}

/// Where a training stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    step: i64,
    weights: Vec<f64>,
}

impl Model {
    fn new() -> Self {
        Self { step: 0, weights: vec![0.0; WEIGHTS] }
    }

    /// Makes a step and gives its loss and the squared length of the weights after it.
    fn train(&mut self, seed: u64) -> [(&'static str, f64); 2] {
        self.step += 1;
        let mut truth = Dice(seed);
        let truth: Vec<f64> = (0..WEIGHTS).map(|_| truth.unit()).collect();
        let mut rows = Dice(seed ^ self.step.cast_unsigned().wrapping_mul(0x2545_f491_4f6c_dd1d));
        let mut loss = 0.0;
        for _ in 0..BATCH {
            let row: Vec<f64> = (0..WEIGHTS).map(|_| rows.unit()).collect();
            let error: f64 = (0..WEIGHTS).map(|i| row[i] * (self.weights[i] - truth[i])).sum();
            loss += error * error / BATCH as f64;
            for (weight, x) in self.weights.iter_mut().zip(&row) {
                *weight -= RATE * error * x;
            }
        }
        [("loss", loss), ("size", self.weights.iter().map(|weight| weight * weight).sum())]
    }

    fn bytes(&self) -> Vec<u8> {
        let weights = self.weights.iter().flat_map(|weight| weight.to_le_bytes());
        self.step.to_le_bytes().into_iter().chain(weights).collect()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (step, weights) = bytes.split_first_chunk()?;
        let weights = weights
            .chunks_exact(8)
            .map(|bytes| Some(f64::from_le_bytes(bytes.try_into().ok()?)))
            .collect::<Option<Vec<_>>>()?;
        (weights.len() == WEIGHTS).then_some(Self { step: i64::from_le_bytes(*step), weights })
    }

    pub fn digest(&self) -> String {
        digest(&self.bytes())
    }
}

impl Training {
    /// Every metric by name and step, and the model in the end.
    pub fn expected(&self) -> (BTreeMap<(&'static str, i64), f64>, Model) {
        let mut model = Model::new();
        let mut series = BTreeMap::new();
        for step in 1..=self.steps {
            series.extend(model.train(self.seed).map(|(name, value)| ((name, step), value)));
        }
        (series, model)
    }
}

/// A sampling; the run whose weights it takes stands beside it in the payload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sampling {
    /// `RUN@latest`.
    pub run: String,
    pub seed: u64,
    pub rows: i64,
    pub chunk_rows: i64,
    pub out: PathBuf,
}

impl Sampling {
    pub fn file(&self, chunk: i32) -> PathBuf {
        self.out.join(format!("chunk-{chunk:03}"))
    }

    pub fn chunk_count(&self) -> i64 {
        (self.rows - 1) / self.chunk_rows + 1
    }

    /// What the file of a chunk holds.
    pub fn content(&self, model: &Model, rows: Range<i64>) -> Vec<u8> {
        let number = |row: i64| {
            let mut dice = Dice(self.seed ^ row.cast_unsigned());
            model.weights.iter().map(|weight| weight * dice.unit()).sum::<f64>()
        };
        rows.flat_map(|row| number(row).to_le_bytes()).collect()
    }

    /// What an evaluation of it finds.
    pub fn score(&self, model: &Model) -> f64 {
        mean(&self.content(model, 0..self.rows))
    }
}

fn mean(content: &[u8]) -> f64 {
    let values: Vec<f64> = content
        .chunks_exact(8)
        .map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// An evaluation of a sampling.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scoring {
    pub sampling: Sampling,
}

pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The one file of a checkpoint's folder.
pub fn weights(folder: &str) -> PathBuf {
    Path::new(folder).join("weights")
}

/// Not a test: the programs `trainer`, `sampler` and `evaluator` of the workers.
#[test]
fn act_as_program() {
    let Some(attempt) = Attempt::from_env().unwrap() else { return };
    let ended = match attempt.job().kind {
        JobKind::Train => train(&attempt),
        JobKind::Sample => sample(&attempt),
        JobKind::Evaluate => score(&attempt),
        JobKind::Ingest | JobKind::Try => unreachable!(),
    };
    let (ending, status) = match ended {
        Ok(None) => (Ending::Succeeded, 0),
        Ok(Some(Stop::Stale)) => {
            eprintln!("error: stale");
            std::process::exit(1)
        }
        Ok(Some(_)) => (Ending::Stopped, i32::from(STOPPED)),
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(1)
        }
    };
    if let Err(error) = attempt.finish(ending) {
        eprintln!("error: {error}");
        std::process::exit(1)
    }
    std::process::exit(status)
}

fn train(attempt: &Attempt) -> Result<Option<Stop>> {
    let run = attempt.run()?;
    let training: Training = serde_json::from_value(run.config)?;
    // Of this attempt alone, so that what a stale one still does to files harms no other.
    let place = Path::new(&run.uri).join(format!("attempt-{}", attempt.number()));
    let mut model = match attempt.resume_point()? {
        Some(checkpoint) => {
            let bytes = fs::read(weights(&checkpoint.uri))?;
            if digest(&bytes) != checkpoint.digest {
                return Err("the checkpoint is not what was registered".into());
            }
            Model::read(&bytes).ok_or("the checkpoint is damaged")?
        }
        None => Model::new(),
    };
    attempt.resumed_at(model.step)?;
    attempt.run_facts(RunFacts {
        device: "cpu".into(),
        libtorch: "none".into(),
        git_revision: None,
    })?;
    let mut written = model.step;
    while model.step < training.steps {
        if let Some(stop) = attempt.stop_requested() {
            if stop != Stop::Stale && written < model.step {
                checkpoint(attempt, &training, &place, &model)?;
            }
            return Ok(Some(stop));
        }
        let metrics = model.train(training.seed);
        std::thread::sleep(PACE);
        attempt.metrics(model.step, &metrics);
        attempt.progress(model.step, training.steps, "steps");
        if model.step % training.checkpoint_every == 0 || model.step == training.steps {
            checkpoint(attempt, &training, &place, &model)?;
            written = model.step;
        }
    }
    Ok(None)
}

/// Writes a checkpoint beside, syncs, renames and registers it; then removes what need not stay.
fn checkpoint(attempt: &Attempt, training: &Training, place: &Path, model: &Model) -> Result<()> {
    let name = format!("step-{:05}", model.step);
    let (beside, folder) = (place.join(format!(".{name}")), place.join(name));
    let bytes = model.bytes();
    fs::create_dir_all(&beside)?;
    write(&beside.join("weights"), &bytes)?;
    fs::rename(&beside, &folder)?;
    File::open(place)?.sync_all()?;
    attempt.checkpoint(&CheckpointRecord {
        step: model.step,
        kind: match model.step == training.steps {
            true => CheckpointKind::Final,
            false => CheckpointKind::Regular,
        },
        uri: folder.to_string_lossy().into_owned(),
        bytes: i64::try_from(bytes.len())?,
        digest: digest(&bytes),
        metrics: BTreeMap::new(),
    })?;
    for gone in attempt.retire_checkpoints(&Retention { keep_last: 2, keep_every: 0 })? {
        match fs::remove_dir_all(&gone.uri) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => attempt.checkpoint_gone(gone.step)?,
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sample(attempt: &Attempt) -> Result<Option<Stop>> {
    let job = attempt.sample_job()?;
    let sampling: Sampling = serde_json::from_value(job.payload)?;
    let (_, checkpoint) = attempt.checkpoint_of(job.id, &sampling.run.parse::<RunRef>()?)?;
    let model = Model::read(&fs::read(weights(&checkpoint.uri))?).ok_or("damaged weights")?;
    fs::create_dir_all(&sampling.out)?;
    attempt.create_chunks(job.id, sampling.rows, sampling.chunk_rows)?;
    while let Some(chunk) = attempt.claim_chunk(job.id)? {
        for row in chunk.rows.clone() {
            if let Some(stop) = attempt.stop_requested() {
                return Ok(Some(stop));
            }
            std::thread::sleep(PACE);
            attempt.progress(row, sampling.rows, "rows");
        }
        let content = sampling.content(&model, chunk.rows);
        let file = sampling.file(chunk.number);
        let beside = file.with_extension(attempt.number().to_string());
        write(&beside, &content)?;
        fs::rename(&beside, &file)?;
        let bytes = i64::try_from(content.len())?;
        let uri = file.to_string_lossy();
        attempt.finish_chunk(job.id, chunk.number, &uri, bytes, &digest(&content))?;
    }
    Ok(None)
}

fn score(attempt: &Attempt) -> Result<Option<Stop>> {
    let Scoring { sampling } = serde_json::from_value(attempt.job().payload.clone())?;
    let mut content = Vec::new();
    for chunk in 0..sampling.chunk_count() {
        content.extend(fs::read(sampling.file(i32::try_from(chunk)?))?);
        std::thread::sleep(PACE);
        attempt.progress(chunk + 1, sampling.chunk_count(), "chunks");
    }
    if let Some(stop) = attempt.stop_requested() {
        return Ok(Some(stop));
    }
    attempt.evaluation(&NewEvaluation {
        run_id: attempt.job().run_id,
        step: None,
        label: format!("attempt-{}", attempt.number()),
        task: None,
        outputs_uri: sampling.out.to_string_lossy().into_owned(),
        reference_uri: None,
        scores: serde_json::json!({ "mean": mean(&content) }),
    })?;
    Ok(None)
}
