//! `show`: everything about a job, and about the run that it makes.

mod job;
mod outlook;
mod run;

use registry::{
    AcceptedChange, AttemptRow, Blocking, Checkpoint, Database, Error, Evaluation, Holder, Job,
    JobState, Lease, RecordedData, Run, SampleJob, Sweep, WorkerRow,
};
use serde::Serialize;
use serde_json::Value;

use super::watch::Watch;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler show palette
  scheduler show palette --config")]
pub struct Arguments {
    /// The job or run
    id: String,
    /// Print only the configuration with every default written out, JSON; of a job that makes no
    /// run what it was told to do
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    config: bool,
    #[command(flatten)]
    watch: Watch,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Everything that is told.
#[derive(Serialize)]
struct Story {
    #[serde(flatten)]
    job: Option<JobStory>,
    run: Option<RunStory>,
}

#[derive(Serialize)]
struct JobStory {
    job: Job,
    /// What becomes of it, in words.
    outlook: String,
    /// What it waits for, and what waits for it.
    after: Vec<Job>,
    before: Vec<Job>,
    sweep: Option<Sweep>,
    holder: Option<Holder>,
    attempts: Vec<AttemptRow>,
    /// What it draws, where it is a sample job.
    sampling: Option<SampleJob>,
    /// The scores that it recorded.
    evaluations: Vec<Evaluation>,
    /// The run that it is about, where it does not make it.
    about: Option<Run>,
}

#[derive(Serialize)]
struct RunStory {
    run: Run,
    datasets: Vec<RecordedData>,
    data_changes: Vec<AcceptedChange>,
    checkpoints: Vec<Checkpoint>,
    /// The step of the checkpoint that `@best` names.
    best: Option<i64>,
    samplings: Vec<SampleJob>,
    evaluations: Vec<Evaluation>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.config || arguments.json {
        let db = Blocking::open()?;
        return if arguments.config {
            terminal::print_json(&db.wait(config(&db, &arguments.id))?)
        } else {
            terminal::print_json(&db.wait(tell(&db, &arguments.id))?)
        };
    }
    arguments.watch.print(async |db| Ok(text(&tell(db, &arguments.id).await?)))
}

/// What goes by this name: a job, or else a run that no job makes.
async fn find(db: &Database, name: &str) -> Result<(Option<Job>, Option<Run>), Error> {
    match db.find_job(name).await {
        Ok(job) => {
            let run = match job.run_id {
                Some(run) if run == job.id => Some(db.run(run).await?),
                _ => None,
            };
            Ok((Some(job), run))
        }
        Err(Error::NotFound { .. }) => match db.find_run(name).await {
            Ok(run) => Ok((None, Some(run))),
            Err(Error::NotFound { name, .. }) => {
                let list = "jobs` or `scheduler runs";
                Err(Error::NotFound { what: "job or run", name, list })
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    }
}

async fn config(db: &Database, name: &str) -> Result<Value, Error> {
    Ok(match find(db, name).await? {
        (_, Some(run)) => run.config,
        (Some(job), None) => job.payload,
        (None, None) => Value::Null,
    })
}

async fn tell(db: &Database, name: &str) -> Result<Story, Error> {
    let (job, run) = find(db, name).await?;
    let job = match job {
        Some(job) => Some(tell_job(db, job).await?),
        None => None,
    };
    let run = match run {
        Some(run) => Some(tell_run(db, run).await?),
        None => None,
    };
    Ok(Story { job, run })
}

async fn tell_job(db: &Database, job: Job) -> Result<JobStory, Error> {
    let after = db.parents(job.id).await?;
    let attempts = db.attempts(job.id).await?;
    let sweep = match job.sweep_id {
        Some(sweep) => Some(db.sweep(sweep).await?),
        None => None,
    };
    let workers: Vec<WorkerRow> = match job.state {
        JobState::Queued => db.workers(false, &Lease::from_env()?).await?,
        _ => Vec::new(),
    };
    let bad = outlook::is_badly_configured(&attempts);
    let outlook = outlook::outlook(&job, bad, &after, sweep.as_ref(), &workers);
    let samplings = db.sample_jobs(job.id).await?;
    Ok(JobStory {
        outlook,
        after,
        attempts,
        sweep,
        before: db.children(job.id).await?,
        holder: db.holder(job.id).await?,
        sampling: samplings.into_iter().find(|sampling| sampling.job_id == job.id),
        evaluations: db.evaluations_by(job.id).await?,
        about: match job.run_id {
            Some(run) if run != job.id => Some(db.run(run).await?),
            _ => None,
        },
        job,
    })
}

async fn tell_run(db: &Database, run: Run) -> Result<RunStory, Error> {
    let checkpoints = db.checkpoints(run.id).await?;
    Ok(RunStory {
        datasets: db.run_datasets(run.id).await?,
        data_changes: db.accepted_changes(run.id).await?,
        best: run.best(&checkpoints).map(|checkpoint| checkpoint.step),
        samplings: db.sample_jobs(run.id).await?,
        evaluations: db.evaluations(run.id).await?,
        checkpoints,
        run,
    })
}

fn text(story: &Story) -> String {
    let parts = [story.job.as_ref().map(job::text), story.run.as_ref().map(run::text)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

/// Lines with a label before each.
#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    /// A line of the story, where there is something to tell.
    fn add(&mut self, label: &str, text: impl AsRef<str>) {
        let text = text.as_ref();
        if !text.is_empty() {
            self.0.push(format!("{label:<12} {text}"));
        }
    }

    fn text(self) -> String {
        self.0.join("\n")
    }
}

/// What a sample job draws, where to, how far it is.
fn sampling(sampling: &SampleJob) -> String {
    let step = sampling.step.map(|step| format!(" at step {step}")).unwrap_or_default();
    let chunks = match sampling.chunks {
        registry::Progress { total: 0, .. } => String::new(),
        chunks => format!(", {} of {} chunks done", chunks.done, chunks.total),
    };
    format!("{}{step}{chunks}: {}", sampling.task, sampling.output_uri)
}

fn evaluation(evaluation: &Evaluation) -> String {
    let task = evaluation.task.as_deref().unwrap_or("all tasks");
    let step = evaluation.step.map(|step| format!(" at step {step}")).unwrap_or_default();
    format!("{} ({task}){step}: {}", evaluation.label, super::numbers(&evaluation.scores))
}

/// A run in one line.
fn run_line(run: &Run) -> String {
    let state = super::run_state(run);
    format!("{} {} ({state}, step {} of {})", run.short, run.name, run.last_step, run.total_steps)
}
