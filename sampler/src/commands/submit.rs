//! `sampler submit`: a dataset, a run and a task become a queued job.

use anyhow::Context;
use clap::Args;
use pipeline::Dataset;
use pipeline::degrade::Evaluation;
use pipeline::masks::{MaskOptions, MaskSet};
use scheduler::{At, JobKind, JobOptions, JobState, NewJob, NewSampling, RunRef};
use serde::Serialize;
use terminal::Usage;

use super::{MaskReading, Process};
use crate::job::{GivenMasks, SamplingJob};

#[derive(Args)]
pub struct Submit {
    /// Whose weights: RUN (id or name), RUN@best, RUN@latest or RUN@STEP. While the run is not
    /// there yet or still trains, the job waits for its end.
    #[arg(long)]
    run: RunRef,
    /// Dataset to sample.
    #[arg(long, value_name = "URI")]
    dataset: String,
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
    /// Images that go through the network at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Images of the dataset in a shard of the output.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    chunk: u32,
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
    run: String,
    state: String,
    out: String,
    existed: bool,
}

impl Submit {
    pub fn run(self) -> anyhow::Result<()> {
        let sampling = self.process.config()?;
        let dataset = Dataset::open(&self.dataset)
            .with_context(|| Usage::new(format!("--dataset {} cannot be used", self.dataset)))?;
        if dataset.is_empty() || self.count == Some(0) {
            return Err(
                Usage::new(format!("--dataset {}: no image to sample", self.dataset)).into()
            );
        }
        let masks = self.given_masks()?;
        let out = absolute(&self.out)?;
        let db = scheduler::Blocking::open()?;
        let run = db.wait(db.find_run(&self.run.run))?;
        let name = format!("{}-samples", run.name);
        let job = SamplingJob {
            // The id, so that a newer run of the same name does not take its place.
            run: RunRef { run: run.id.to_string(), at: self.run.at }.to_string(),
            dataset: absolute(&self.dataset)?,
            dataset_digest: dataset.digest().to_owned(),
            evaluations: self.tasks.clone(),
            masks,
            count: self.count.unwrap_or(u64::MAX).min(dataset.len()),
            samples: self.samples,
            seed: self.seed,
            sampling,
            batch: self.batch as usize,
            chunk: u64::from(self.chunk),
            out: out.clone(),
            png: self.png,
        };
        let new = NewJob::new(JobKind::Sample, &name, serde_json::to_value(&job)?);
        let mut new = self.options.apply(&db, new)?;
        // A run's job has the run's id.
        let training = db.wait(db.job(run.id))?;
        let there = db.wait(db.checkpoint(&self.run)).is_ok();
        let settled = there && (self.now || matches!(self.run.at, At::Step(_)));
        if training.state != JobState::Succeeded && !settled {
            new.after.push(training.id);
        }
        let made = db.wait(db.submit_sampling(NewSampling {
            run_id: Some(run.id),
            step: None,
            dataset_uri: job.dataset.clone(),
            task: self.tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            output_uri: out.clone(),
            job: new,
        }))?;
        let queued = Queued {
            job: scheduler::short(&made.job.id),
            run: scheduler::short(&run.id),
            state: made.job.state.to_string(),
            out,
            existed: made.existed,
        };
        if self.json {
            return terminal::print_json(&queued);
        }
        let how = if queued.existed { "was submitted before" } else { "submitted" };
        let Queued { job, run, state, out, .. } = &queued;
        terminal::print(&format!("job {job} (samples of run {run}) {how}, {state}; outputs: {out}"))
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

/// A local path as seen from anywhere.
fn absolute(uri: &str) -> anyhow::Result<String> {
    if uri.contains("://") {
        return Ok(uri.to_owned());
    }
    let path = std::path::absolute(uri).with_context(|| format!("`{uri}` is no path"))?;
    Ok(path.to_string_lossy().into_owned())
}
