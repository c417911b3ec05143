//! The sampling job that a row of a table needs, queued as `sampler submit` queues one.

use anyhow::{Result, bail};
use clap::Parser;
use contracts::Trained;
use contracts::sampling::{SamplingArguments, Wanted, Weights, WeightsOf};
use registry::{Blocking, JobKind, JobOptions, NewJob, NewSampling, RunRef, Uuid};
use storage::Place;
use terminal::Usage;

use super::key;
use crate::protocol::{Request, Work};

/// What the list `sampler` of a profile may say: how a dataset is sampled, and options of the job.
#[derive(Parser)]
#[command(name = "sampler", no_binary_name = true, disable_help_flag = true)]
struct Arguments {
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    options: JobOptions,
}

/// Queues the sampling job of a request; `listed` is what the profile's `sampler` says, `options` what
/// `evaluator submit` says of all its jobs, which goes before. The same outputs are sampled once: the job
/// has a key.
///
/// # Errors
/// When the profile says what is no argument, and when run, dataset or task cannot be used.
pub fn submit(
    request: &Request,
    listed: &[String],
    options: &JobOptions,
    db: &Blocking,
) -> Result<Uuid> {
    let Work::Run { run, outputs } = &request.work else { bail!("nothing is to be sampled") };
    let out = Place::folder(outputs)?;
    let dataset: Place = request.set.parse().map_err(Usage::of)?;
    let told = |why: &str| Usage::new(format!("the profile's `sampler`: {why}"));
    let Arguments { sampling, options: of_profile } =
        Arguments::try_parse_from(listed).map_err(|error| told(&first_line(&error)))?;
    if of_profile.key().is_some() {
        return Err(told("--key is made of where the outputs go").into());
    }
    let own = format!("evaluation {out}");
    let tasks = [request.task];
    let told = |error: contracts::Error| Usage::when(error.is_wrong_use(), error);
    sampling.check(&tasks).map_err(told)?;
    let named: RunRef = run.parse().map_err(Usage::new)?;
    let run = db.wait(db.find_run(&named.run))?;
    let wanted = Wanted {
        weights: Weights {
            of: WeightsOf::Run(RunRef { run: run.id.to_string(), at: named.at }.to_string()),
            name: format!("run {}", run.name),
            trained: Trained::of(&run.config),
        },
        dataset: &dataset,
        tasks: &tasks,
        samples: request.samples,
        out,
    };
    let job = sampling.job(wanted, &|_| {}).map_err(told)?;
    let new =
        NewJob::new(JobKind::Sample, format!("{}-samples", run.name), job.payload().map_err(told)?);
    let mut new = options.clone().apply(db, of_profile.apply(db, new)?)?;
    new.submit_key = Some(key(&new, &own));
    new.after.extend(db.wait(db.training_before(&run, &named, sampling.now))?);
    let made = db.wait(db.submit_sampling(NewSampling {
        run_id: Some(run.id),
        step: None,
        dataset_uri: job.dataset.to_string(),
        task: job.tasks(),
        output_uri: job.out.to_string(),
        shares: sampling.shares(&job),
        job: new,
    }))?;
    Ok(made.job.id)
}

/// clap's message without its usage and tips.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
