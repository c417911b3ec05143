//! The sampling job that a row of a table needs, queued as `sampler submit` queues one.

use anyhow::{Context, Result, bail};
use clap::Parser;
use contracts::sampling::destination::{Unfinished, job_to_be, refuse_taken};
use contracts::sampling::{SamplingArguments, Wanted, Weights, WeightsOf};
use contracts::{Origin, Trained};
use registry::{Blocking, JobFilter, JobKind, JobOptions, NewJob, NewSampling, Run, RunRef};
use storage::{Place, Store};
use terminal::Usage;

use super::key;
use crate::pictures::Set;
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

/// A request's sampling as far as it shows before a dataset is opened or made.
struct Asked {
    sampling: SamplingArguments,
    of_profile: JobOptions,
    run: Run,
    named: RunRef,
    dataset: Place,
    out: Place,
    key: String,
}

impl Asked {
    fn of(
        request: &Request,
        listed: &[String],
        options: &JobOptions,
        db: &Blocking,
    ) -> Result<Self> {
        let Work::Run { run, outputs } = &request.work else { bail!("nothing is to be sampled") };
        let out = Place::folder(outputs)?;
        let dataset: Place = request.set.parse().map_err(Usage::of)?;
        let listing = |why: &str| Usage::new(format!("the profile's `sampler`: {why}"));
        let Arguments { sampling, options: of_profile } =
            Arguments::try_parse_from(listed).map_err(|error| listing(&first_line(&error)))?;
        if of_profile.key().is_some() {
            return Err(listing("--key is made of where the outputs go").into());
        }
        let own = format!("evaluation {out}");
        let key = key(options, &own);
        check_out(&out, &key, &own, db)?;
        sampling.check(&[request.task])?;
        let named: RunRef = run.parse().map_err(Usage::new)?;
        let run = db.wait(db.find_run(&named.run))?;
        Ok(Self { sampling, of_profile, run, named, dataset, out, key })
    }
}

/// Checks what [`prepare`] would refuse, and writes nothing.
///
/// # Errors
/// As [`prepare`].
pub fn check(
    request: &Request,
    listed: &[String],
    options: &JobOptions,
    db: &Blocking,
) -> Result<()> {
    let asked = Asked::of(request, listed, options, db)?;
    let trained = Trained::of(&asked.run.config);
    let name = format!("run {}", asked.run.name);
    if !asked.sampling.any_task() {
        trained.check_task(&name, request.task.task())?;
    }
    Set::open(&request.set)?;
    Ok(asked.sampling.check_selection(&asked.dataset)?)
}

/// The sampling job of a request; `listed` is what the profile's `sampler` says, `options` what
/// `evaluator submit` says of all its jobs, which goes before. The same outputs are sampled once: the job
/// has a key.
///
/// # Errors
/// When the profile says what is no argument, and when run, dataset or task cannot be used.
pub fn prepare(
    request: &Request,
    listed: &[String],
    options: &JobOptions,
    db: &Blocking,
) -> Result<NewSampling> {
    let Asked { sampling, of_profile, run, named, dataset, out, key } =
        Asked::of(request, listed, options, db)?;
    let tasks = [request.task];
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
    let job = sampling.job(wanted, &|_| {})?;
    let name = storage::names::with_end(&storage::names::fitted(&run.name), "-samples");
    let new = NewJob::new(JobKind::Sample, name, job.payload()?);
    let mut new = options.clone().apply(db, of_profile.apply(db, new)?)?;
    new.submit_key = Some(key);
    new.key_says_all = true;
    new.after.extend(db.wait(db.training_before(&run, &named, sampling.now))?);
    Ok(NewSampling {
        run_id: Some(run.id),
        step: None,
        dataset_uri: job.dataset.to_string(),
        task: job.tasks(),
        output_uri: job.out.to_string(),
        shares: sampling.shares(&job),
        job: new,
    })
}

/// Refuses a place with the outputs of another job than that of this
/// `key`, or that another job is going to write to. `own` is the key without that of the submission.
fn check_out(out: &Place, key: &str, own: &str, db: &Blocking) -> Result<()> {
    const OTHER: &str = "choose another `out` in the profile";
    let context = || Usage::new(format!("{out} cannot be used"));
    let jobs = db.wait(db.jobs(JobFilter::unfinished(JobKind::Sample)))?;
    let jobs = jobs.iter().map(|job| Unfinished {
        id: &job.short,
        state: job.state.name(),
        key: job.submit_key.as_deref(),
        payload: &job.payload,
    });
    let again = |key: &str| {
        Some(match key.strip_suffix(own)?.trim_end() {
            "" => "leave --key out".to_owned(),
            key => format!("say --key \"{key}\""),
        })
    };
    refuse_taken(out, Some(key), jobs, again, OTHER)?;
    let store = Store::open(out).with_context(context)?;
    if let Some(job) = job_to_be(&store, db.is_private()).with_context(context)? {
        let holder = job.parse().map(|id| db.wait(db.job(id)));
        let is_this =
            matches!(&holder, Ok(Ok(holder)) if holder.submit_key.as_deref() == Some(key));
        return match is_this {
            true => Ok(()),
            false => Err(Origin::of_another(out, &job, OTHER).into()),
        };
    }
    Ok(())
}

/// clap's message without its usage and tips.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
