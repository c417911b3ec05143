//! `sampler submit`: a dataset, a run and a task become a queued job.

mod selection;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use pipeline::degrade::Evaluation;
use pipeline::masks::{MaskOptions, MaskSet};
use scheduler::{
    At, Blocking, JobKind, JobOptions, JobState, NewJob, NewSampling, Run, RunRef, Uuid,
};
use serde::Serialize;
use terminal::Usage;

use super::{MaskReading, Numbers, Process};
use crate::job::{GivenCheckpoint, GivenMasks, SamplingJob};
use crate::network;

#[derive(Args)]
pub struct Submit {
    /// Whose weights: RUN (id or name), RUN@best, RUN@latest or RUN@STEP. While the run is not
    /// there yet or still trains, the job waits for its end.
    #[arg(long, required_unless_present = "checkpoint")]
    run: Option<RunRef>,
    /// The weights of this checkpoint in place of a run's: a folder or an address.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["run", "now"])]
    checkpoint: Option<String>,
    /// Dataset to sample, or a folder of pictures, which becomes a dataset beside the outputs.
    #[arg(long, value_name = "URI|DIR")]
    dataset: String,
    /// Only the images of a list, in its order: a name a line, as `pipeline cut` takes it.
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Only these rows of the dataset, or of the list; the last one not included: 0..5000.
    #[arg(long, value_name = "FROM..TO")]
    rows: Option<String>,
    /// Task with its degradation, such as colorization, inpainting:center,
    /// inpainting:free-form-20-30, uncropping:right-half, jpeg:10, jpeg:10:jpeg-encoder; may be
    /// repeated.
    #[arg(long = "task", value_name = "TASK", required = true)]
    tasks: Vec<Evaluation>,
    /// Masks in place of the drawn ones, for tasks with a hole: an .npz archive (mask i for row i of
    /// the dataset; KEY is the array, such as `10-20% freeform`), a .parquet file of `pipeline
    /// masks`, a folder of pictures matched by key or file name, or one picture for all.
    #[arg(long, value_name = "PATH[#KEY]")]
    masks: Option<String>,
    #[command(flatten)]
    mask_reading: MaskReading,
    /// Where the outputs go.
    #[arg(long, value_name = "URI")]
    out: String,
    /// Only so many images, spread evenly over the dataset.
    #[arg(long)]
    count: Option<u64>,
    /// Outputs for each input.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    samples: u32,
    /// Seed of masks and noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    process: Process,
    #[command(flatten)]
    numbers: Numbers,
    /// How many workers may take part at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    workers: u32,
    /// Images of the dataset in a chunk, which one worker makes and which becomes a shard of the
    /// output [default: 256, fewer where there are more workers than that gives chunks for].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    chunk: Option<u32>,
    /// Also for tasks that the network was not trained for.
    #[arg(long)]
    any_task: bool,
    /// Also write every output as a PNG file.
    #[arg(long)]
    png: bool,
    /// Use the checkpoints that there are, even if the run still trains.
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    options: JobOptions,
    /// Print the job as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Queued {
    job: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
    dataset: String,
    images: u64,
    chunks: u64,
    state: String,
    out: String,
    existed: bool,
}

impl Submit {
    pub fn run(self) -> anyhow::Result<()> {
        let sampling = self.process.config()?;
        let out = absolute(&self.out)?;
        let masks = self.given_masks()?;
        let dataset =
            selection::select(&self.dataset, self.list.as_deref(), self.rows.as_deref(), &out)?;
        if dataset.is_empty() || self.count == Some(0) {
            return Err(
                Usage::new(format!("--dataset {}: no image to sample", self.dataset)).into()
            );
        }
        let given = self.checkpoint.as_deref().map(given_checkpoint).transpose()?;
        let db = scheduler::Blocking::open()?;
        let run = self.run.as_ref().map(|run| db.wait(db.find_run(&run.run))).transpose()?;
        let count = self.count.unwrap_or(u64::MAX).min(dataset.len());
        let chunk = u64::from(self.chunk.unwrap_or_else(|| fair_chunk(count, self.workers)));
        let job = SamplingJob {
            // The id, so that a newer run of the same name does not take its place.
            run: run
                .as_ref()
                .zip(self.run.as_ref())
                .map(|(run, named)| RunRef { run: run.id.to_string(), at: named.at }.to_string()),
            checkpoint: given.as_ref().map(|(given, _)| given.clone()),
            dataset: absolute(dataset.store().uri())?,
            dataset_digest: dataset.digest().to_owned(),
            evaluations: self.tasks.clone(),
            masks,
            count,
            samples: self.samples,
            seed: self.seed,
            sampling,
            batch: self.numbers.batch.map(|batch| batch as usize),
            precision: self.numbers.precision,
            any_task: self.any_task,
            chunk,
            out: out.clone(),
            png: self.png,
        };
        match (&run, &given) {
            (Some(run), _) => job.check_tasks(&format!("run {}", run.name), &run.config)?,
            (None, Some((given, experiment))) => job.check_tasks(&given.uri, experiment)?,
            (None, None) => {}
        }
        let weights = run.as_ref().map_or_else(|| "checkpoint".to_owned(), |run| run.name.clone());
        let new =
            NewJob::new(JobKind::Sample, format!("{weights}-samples"), serde_json::to_value(&job)?);
        let mut new = self.options.clone().apply(&db, new)?;
        if let Some(training) = self.training(&db, run.as_ref())? {
            new.after.push(training);
        }
        let chunks = count.div_ceil(chunk);
        let made = db.wait(db.submit_sampling(NewSampling {
            run_id: run.as_ref().map(|run| run.id),
            step: None,
            dataset_uri: job.dataset.clone(),
            task: self.tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            output_uri: out.clone(),
            shares: u32::try_from(chunks.min(u64::from(self.workers)))?.saturating_sub(1),
            job: new,
        }))?;
        let queued = Queued {
            job: scheduler::short(&made.job.id),
            run: run.as_ref().map(|run| scheduler::short(&run.id)),
            checkpoint: given.map(|(given, _)| given.uri),
            dataset: job.dataset,
            images: count,
            chunks,
            state: made.job.state.to_string(),
            out,
            existed: made.existed,
        };
        if self.json {
            return terminal::print_json(&queued);
        }
        let how = if queued.existed { "was submitted before" } else { "submitted" };
        let Queued { job, run, state, out, .. } = &queued;
        let of = match (run, &queued.checkpoint) {
            (Some(run), _) => format!("run {run}"),
            (None, Some(uri)) => uri.clone(),
            (None, None) => String::new(),
        };
        terminal::print(&format!(
            "job {job} ({count} images in {chunks} chunks, samples of {of}) {how}, {state}; outputs: {out}"
        ))
    }

    /// The training to wait for: that of a run which has not ended, unless the checkpoint that is
    /// asked for is there and will not change.
    fn training(&self, db: &Blocking, run: Option<&Run>) -> anyhow::Result<Option<Uuid>> {
        let (Some(run), Some(named)) = (run, &self.run) else { return Ok(None) };
        // A run's job has the run's id.
        let training = db.wait(db.job(run.id))?;
        let there = db.wait(db.checkpoint(named)).is_ok();
        let settled = there && (self.now || matches!(named.at, At::Step(_)));
        Ok((training.state != JobState::Succeeded && !settled).then_some(training.id))
    }

    /// The masks that were asked for, opened once, so that a mistake shows before anything is queued.
    fn given_masks(&self) -> anyhow::Result<Option<GivenMasks>> {
        let Some(place) = &self.masks else { return Ok(None) };
        if let Some(whole) = self.tasks.iter().find(|task| !task.task().has_hole()) {
            return Err(
                Usage::new(format!("--masks: {whole} has no hole; leave out either")).into()
            );
        }
        let options: MaskOptions = self.mask_reading.into();
        MaskSet::open(place, options)
            .map_err(|error| Usage::new(format!("--masks {place} cannot be used: {error}")))?;
        Ok(Some(GivenMasks { place: absolute(place)?, options }))
    }
}

/// Images in a chunk, so that each worker gets some.
fn fair_chunk(images: u64, workers: u32) -> u32 {
    const MOST: u64 = 256;
    const EACH: u64 = 4;
    let fair = match workers {
        1 => MOST,
        workers => images.div_ceil(EACH * u64::from(workers)),
    };
    fair.clamp(1, MOST) as u32
}

/// A checkpoint by its place, with its experiment; opened once, so that a mistake shows before
/// anything is queued.
fn given_checkpoint(uri: &str) -> anyhow::Result<(GivenCheckpoint, serde_json::Value)> {
    let checkpoint = network::open(uri)
        .with_context(|| Usage::new(format!("--checkpoint {uri} cannot be used")))?;
    let digest = checkpoint.digest().to_owned();
    let given = GivenCheckpoint { uri: absolute(uri)?, digest };
    Ok((given, checkpoint.metadata().experiment.clone()))
}

/// A local path as seen from anywhere.
pub(super) fn absolute(uri: &str) -> anyhow::Result<String> {
    if uri.contains("://") {
        return Ok(uri.to_owned());
    }
    let path = std::path::absolute(uri).with_context(|| format!("`{uri}` is no path"))?;
    Ok(path.to_string_lossy().into_owned())
}
