//! `show`: everything about a job, and about the run that it makes.

mod config;
mod course;
mod job;
pub mod outlook;
mod run;

use anyhow::Context;
use registry::{
    AcceptedChange, AttemptRow, Blocking, Checkpoint, Database, Error, Evaluation, Holder, Job,
    JobState, Kind, Lease, RecordedData, Run, RunOrigin, RunningGang, SampleJob, SeatRow, Several,
    Sweep, WorkerRow,
};
use serde::Serialize;
use time::OffsetDateTime;

pub use job::its_ranks;

use super::watch::Watch;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler show palette
  scheduler show palette --config")]
pub struct Arguments {
    /// The job or run
    id: String,
    /// Print only the configuration with every default written out, as the TOML that `trainer submit` takes
    /// (with --json as JSON); of a job that makes no run what it was told to do
    #[arg(long, conflicts_with = "watch")]
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
    /// The hosts of the attempt that runs, where there are several.
    gang: Option<RunningGang>,
    /// Other hosts that took part in them.
    seats: Vec<SeatRow>,
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
    /// The checkpoint of another run that it began with.
    origin: Option<RunOrigin>,
    /// What is wrong with its course.
    warning: Option<String>,
    datasets: Vec<RecordedData>,
    data_changes: Vec<AcceptedChange>,
    checkpoints: Vec<Checkpoint>,
    /// The step of the checkpoint that `@best` names.
    best: Option<i64>,
    samplings: Vec<SampleJob>,
    evaluations: Vec<Evaluation>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.config {
        let db = Blocking::open()?;
        return config(&db, arguments);
    }
    if arguments.json {
        let db = Blocking::open()?;
        return terminal::print_json(&db.wait(tell(&db, &arguments.id))?);
    }
    arguments.watch.print(async |db| Ok(text(&tell(db, &arguments.id).await?)))
}

/// What goes by this name: a job, or a run that no job makes.
async fn find(db: &Database, name: &str) -> Result<(Option<Job>, Option<Run>), Error> {
    let found = db.find_among(name, &[Kind::Job, Kind::Run], Several::Newest).await;
    let target = match found {
        Ok(target) => target,
        Err(error @ Error::NotFound { .. }) => {
            return Err(match db.find_among(name, &[Kind::Sweep], Several::Newest).await {
                Ok(_) => Error::Invalid(format!(
                    "`{name}` is a sweep: `scheduler sweep {name}` shows its runs side by side"
                )),
                Err(_) => error,
            });
        }
        Err(error) => return Err(error),
    };
    if target.kind == Kind::Run {
        return Ok((None, Some(db.run(target.id).await?)));
    }
    let job = db.job(target.id).await?;
    let run = match job.run_id {
        Some(run) if run == job.id => Some(db.run(run).await?),
        _ => None,
    };
    Ok((Some(job), run))
}

fn config(db: &Blocking, arguments: &Arguments) -> anyhow::Result<()> {
    match db.wait(find(db, &arguments.id))? {
        (_, Some(run)) if arguments.json => terminal::print_json(&run.config),
        (_, Some(run)) => {
            terminal::print(&config::of_run(&run, db.wait(db.origin(run.id))?.as_ref())?)
        }
        (Some(job), None) if arguments.json => terminal::print_json(&job.payload),
        (Some(job), None) => {
            let text = config::text(&job.payload);
            let text = text.with_context(|| format!("what job {} does is no TOML", job.short))?;
            terminal::print(&format!("# What job {} {} does.\n{text}", job.short, job.name))
        }
        (None, None) => Ok(()),
    }
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
    let gang = match job.state {
        JobState::Running if job.hosts_most > 1 => {
            let mut gangs = db.gangs().await?.into_iter();
            gangs.find(|gang| (gang.id, gang.attempt) == (job.id, job.attempt))
        }
        _ => None,
    };
    let mut outlook = outlook::outlook(&job, bad, &after, sweep.as_ref(), &workers);
    if let Some(gang) = gang.as_ref().filter(|gang| gang.assembling) {
        outlook = format!("{}; {outlook}", gang.text());
    }
    let samplings = db.sample_jobs(job.id).await?;
    Ok(JobStory {
        outlook,
        gang,
        after,
        attempts,
        seats: db.seats(job.id).await?,
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
        origin: db.origin(run.id).await?,
        warning: course::warning(db, &run).await?,
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

    /// What people wrote on it.
    fn marks(&mut self, note: Option<&str>, archived_at: Option<OffsetDateTime>) {
        // Further lines stand under the first, so that none looks like a line of ours.
        let lines = note.unwrap_or_default().lines();
        let lines: Vec<String> = lines.map(|line| line.replace(char::is_control, " ")).collect();
        self.add("note", lines.join("\n             "));
        self.add("archived", archived_at.map(terminal::moment).unwrap_or_default());
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

/// Scores, one a row.
fn scores(evaluations: &[Evaluation]) -> Option<String> {
    let headings = ["scores", "task", "step", "outputs", "score", "value"];
    let mut table = terminal::Table::new(&headings).cut(&["scores", "task"]).omit(&["outputs"]);
    for row in evaluations.iter().flat_map(registry::compare::scores) {
        table.row([
            row.label,
            row.task,
            row.step.map_or_else(|| "-".to_owned(), |step| step.to_string()),
            row.outputs.map_or_else(|| "-".to_owned(), |outputs| outputs.to_string()),
            row.score,
            row.level.text(),
        ]);
    }
    (!table.is_empty()).then(|| table.text(terminal::width()))
}

/// A run in one line.
fn run_line(run: &Run) -> String {
    let state = super::run_state(run);
    format!("{} {} ({state}, step {} of {})", run.short, run.name, run.last_step, run.total_steps)
}
