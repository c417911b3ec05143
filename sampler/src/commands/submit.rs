//! `sampler submit`: a dataset, a run and a task become a queued job.

use std::cell::OnceCell;

use anyhow::Context;
use clap::Args;
use contracts::sampling::destination::{Unfinished, job_to_be, refuse_taken};
use contracts::sampling::{GivenCheckpoint, SamplingArguments, Wanted, Weights, WeightsOf};
use contracts::{Origin, SamplingJob, Trained};
use diffusion::checkpoint::LAST;
use pipeline::degrade::Evaluation;
use pipeline::ingest::Event;
use registry::{
    Blocking, CheckpointName, JobFilter, JobKind, JobOptions, Named, NewJob, NewSampling, Run,
    RunRef, Uuid,
};
use serde::Serialize;
use storage::{Place, Store};
use terminal::{Progress, Usage};

use crate::network;

/// How to write to another place.
const OTHER: &str = "choose another --out";

#[derive(Args)]
#[command(after_help = "\
Examples:
  sampler submit --run palette@best --dataset data/val --task colorization --out outputs/palette
  sampler submit --run palette --dataset data/val --task jpeg:5 --task jpeg:10 --out outputs/jpeg")]
pub struct Submit {
    /// Whose weights: RUN (id or name), RUN@best, RUN@latest or RUN@STEP. While the run is not
    /// there yet or still trains, the job waits for its end.
    #[arg(long, required_unless_present = "checkpoint")]
    run: Option<RunRef>,
    /// The weights of this checkpoint: the folder or address of a run or of one of its steps, what
    /// `trainer import` made, a file of `trainer export`; or a run, as --run takes it.
    #[arg(long, value_name = "CHECKPOINT", conflicts_with_all = ["run", "now"])]
    checkpoint: Option<CheckpointName>,
    /// Dataset to sample, or a folder of pictures, which becomes a dataset beside the outputs.
    #[arg(long, value_name = "URI|DIR")]
    dataset: Place,
    /// Task with its degradation, such as colorization, inpainting:center,
    /// inpainting:free-form-20-30, uncropping:right-half, jpeg:10, jpeg:10:jpeg-encoder; may be
    /// repeated.
    #[arg(long = "task", value_name = "TASK", required = true)]
    tasks: Vec<Evaluation>,
    /// Where the outputs go.
    #[arg(long, value_name = "URI")]
    out: Place,
    /// Outputs for each input.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    samples: u32,
    #[command(flatten)]
    sampling: SamplingArguments,
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
    pub fn run(mut self) -> anyhow::Result<()> {
        self.sampling.check(&self.tasks)?;
        let db = Blocking::open()?;
        self.check_out(&db)?;
        let given = match self.checkpoint.as_ref().map(|name| name.named(LAST)).transpose()? {
            Some(Named::Place(place)) => Some(given_checkpoint(&place)?),
            // The job waits for a run and keeps its checkpoint.
            Some(Named::Run(run)) => {
                self.run = Some(run);
                None
            }
            None => None,
        };
        self.check_taken(&db)?;
        let run = self.run.as_ref().map(|run| db.wait(db.find_run(&run.run))).transpose();
        let run = match &self.checkpoint {
            Some(name) => run.with_context(|| {
                Usage::new(format!("--checkpoint {name}: no file or folder here"))
            })?,
            None => run?,
        };
        let wanted = Wanted {
            weights: self.weights(run.as_ref(), given)?,
            dataset: &self.dataset,
            tasks: &self.tasks,
            samples: self.samples,
            out: self.out.clone(),
        };
        let reading = Reading::default();
        let job = self.sampling.job(wanted, &|event| reading.tell(event))?;
        reading.finish();
        let made = self.queue(&db, run.as_ref(), &job)?;
        let queued = Queued {
            job: registry::short(&made.job.id),
            run: run.as_ref().map(|run| registry::short(&run.id)),
            checkpoint: job.checkpoint.as_ref().map(|given| given.uri.to_string()),
            dataset: job.dataset.to_string(),
            images: job.count,
            chunks: job.chunks(),
            state: made.job.state.to_string(),
            out: job.out.to_string(),
            existed: made.existed,
        };
        if self.json { terminal::print_json(&queued) } else { queued.print() }
    }

    fn weights(
        &self,
        run: Option<&Run>,
        given: Option<(GivenCheckpoint, Trained)>,
    ) -> anyhow::Result<Weights> {
        Ok(match (run, &self.run, given) {
            (Some(run), Some(named), _) => Weights {
                of: WeightsOf::Run(RunRef { run: run.id.to_string(), at: named.at }.to_string()),
                name: format!("run {}", run.name),
                trained: Trained::of(&run.config),
            },
            (_, _, Some((given, trained))) => {
                Weights { name: given.uri.to_string(), of: WeightsOf::Checkpoint(given), trained }
            }
            _ => return Err(Usage::new("give --run or --checkpoint").into()),
        })
    }

    /// Refuses a place that holds anything but the outputs of the job that `--key` names, or that this user cannot
    /// write to, where it is this user who will.
    fn check_out(&self, db: &Blocking) -> anyhow::Result<()> {
        let context = || Usage::new(format!("--out {} cannot be used", self.out));
        let store = Store::open(&self.out).with_context(context)?;
        match job_to_be(&store, db.is_private()).with_context(context)? {
            Some(job) if !self.is_again(db, &job) => {
                Err(Origin::of_another(&self.out, &job, OTHER).into())
            }
            _ => Ok(()),
        }
    }

    /// Whether this was submitted before by the same key, as this job.
    fn is_again(&self, db: &Blocking, job: &str) -> bool {
        let (Some(key), Ok(id)) = (self.options.key(), job.parse::<Uuid>()) else {
            return false;
        };
        db.wait(db.job(id)).is_ok_and(|job| job.submit_key.as_deref() == Some(key))
    }

    /// Refuses the place of a job that has not ended, unless that is the job that `--key` names.
    fn check_taken(&self, db: &Blocking) -> anyhow::Result<()> {
        let jobs = db.wait(db.jobs(JobFilter::unfinished(JobKind::Sample)))?;
        let jobs = jobs.iter().map(|job| Unfinished {
            id: &job.short,
            state: job.state.name(),
            key: job.submit_key.as_deref(),
            payload: &job.payload,
        });
        let again = |key: &str| Some(format!("say --key \"{key}\""));
        Ok(refuse_taken(&self.out, self.options.key(), jobs, again, OTHER)?)
    }

    fn queue(
        &self,
        db: &Blocking,
        run: Option<&Run>,
        job: &SamplingJob,
    ) -> anyhow::Result<registry::Submitted> {
        let weights = run.map_or("checkpoint", |run| run.name.as_str());
        let name = storage::names::with_end(&storage::names::fitted(weights), "-samples");
        let new = NewJob::new(JobKind::Sample, name, job.payload()?);
        let mut new = self.options.clone().apply(db, new)?;
        if let (Some(run), Some(named)) = (run, &self.run) {
            new.after.extend(db.wait(db.training_before(run, named, self.sampling.now))?);
        }
        Ok(db.wait(db.submit_sampling(NewSampling {
            run_id: run.map(|run| run.id),
            step: None,
            dataset_uri: job.dataset.to_string(),
            task: job.tasks(),
            output_uri: job.out.to_string(),
            shares: self.sampling.shares(job),
            job: new,
        }))?)
    }
}

impl Queued {
    fn print(&self) -> anyhow::Result<()> {
        let how = if self.existed { "was submitted before" } else { "submitted" };
        let Self { job, run, images, chunks, state, out, .. } = self;
        let of = match (run, &self.checkpoint) {
            (Some(run), _) => format!("run {run}"),
            (None, Some(uri)) => uri.clone(),
            (None, None) => String::new(),
        };
        let counted = |count: u64, what: &str| match count {
            1 => format!("1 {what}"),
            count => format!("{count} {what}s"),
        };
        terminal::print(&format!(
            "job {job} ({images} in {chunks}, samples of {of}) {how}, {state}; outputs: {out}",
            images = counted(*images, "image"),
            chunks = counted(*chunks, "chunk"),
        ))
    }
}

/// A checkpoint by its place, and how it was trained; opened once, so that a mistake shows before
/// anything is queued.
fn given_checkpoint(place: &Place) -> anyhow::Result<(GivenCheckpoint, Trained)> {
    let checkpoint = network::open(place)
        .with_context(|| Usage::new(format!("--checkpoint {place} cannot be used")))?;
    let digest = checkpoint.digest().to_owned();
    let given = GivenCheckpoint { uri: place.clone(), digest };
    Ok((given, Trained::of(&checkpoint.metadata().experiment)))
}

/// How far a folder of pictures is read.
#[derive(Default)]
struct Reading(OnceCell<Progress>);

impl Reading {
    fn tell(&self, event: Event) {
        if let Event::Progress { bytes, total, .. } = event {
            self.0.get_or_init(|| Progress::bytes("reading pictures", Some(total))).set(bytes);
        }
    }

    fn finish(&self) {
        if let Some(progress) = self.0.get() {
            progress.finish();
        }
    }
}
