//! `show`: everything about a job, and about the run that it makes.

use std::time::Duration;

use scheduler::{
    AttemptRow, Blocking, Checkpoint, Chunk, ChunkState, Database, Error, Evaluation, Job, Run,
    RunDataset, Sampling,
};
use serde::Serialize;

#[derive(clap::Args)]
pub struct Arguments {
    /// The job or run
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Story {
    job: Option<Job>,
    after: Vec<Job>,
    attempts: Vec<AttemptRow>,
    chunks: Vec<Chunk>,
    run: Option<RunStory>,
}

#[derive(Serialize)]
struct RunStory {
    run: Run,
    datasets: Vec<RunDataset>,
    checkpoints: Vec<Checkpoint>,
    samplings: Vec<Sampling>,
    evaluations: Vec<Evaluation>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let story = db.wait(tell(&db, &arguments.id))?;
    if arguments.json { terminal::print_json(&story) } else { print(&story) }
}

async fn tell(db: &Database, name: &str) -> Result<Story, Error> {
    let job = match db.find_job(name).await {
        Ok(job) => Some(job),
        Err(Error::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    let run = match &job {
        Some(job) if job.run_id == Some(job.id) => Some(db.run(job.id).await?),
        Some(_) => None,
        None => Some(db.find_run(name).await.map_err(|error| match error {
            Error::NotFound { name, .. } => {
                Error::NotFound { what: "job or run", name, list: "jobs` or `scheduler runs" }
            }
            error => error,
        })?),
    };
    let (mut after, mut attempts, mut chunks) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(job) = &job {
        after = db.parents(job.id).await?;
        attempts = db.attempts(job.id).await?;
        chunks = db.chunks(job.id).await?;
    }
    let run = match run {
        None => None,
        Some(run) => Some(RunStory {
            datasets: db.run_datasets(run.id).await?,
            checkpoints: db.checkpoints(run.id).await?,
            samplings: db.samplings(run.id).await?,
            evaluations: db.evaluations(run.id).await?,
            run,
        }),
    };
    Ok(Story { job, after, attempts, chunks, run })
}

/// A line of the story, where there is something to tell.
fn line(label: &str, text: impl AsRef<str>) -> anyhow::Result<()> {
    let text = text.as_ref();
    if text.is_empty() { Ok(()) } else { terminal::print(&format!("{label:<12} {text}")) }
}

fn print(story: &Story) -> anyhow::Result<()> {
    if let Some(job) = &story.job {
        print_job(job, story)?;
    }
    if let Some(run) = &story.run {
        if story.job.is_some() {
            terminal::print("")?;
        }
        print_run(run)?;
    }
    Ok(())
}

fn print_job(job: &Job, story: &Story) -> anyhow::Result<()> {
    line("job", format!("{} {} ({}) of {}", job.short, job.name, job.kind, job.owner))?;
    let remark = super::jobs::remark(job);
    let separator = if remark.is_empty() { "" } else { ": " };
    line("state", format!("{}{separator}{remark}", job.state))?;
    line("progress", super::fraction(job.progress_done, job.progress_total))?;
    line("tags", job.tags.join(", "))?;
    line("queued", format!("{} ({})", super::moment(job.created_at), super::ago(job.created_at)))?;
    line("priority", job.priority.to_string())?;
    line("gpus", if job.gpus > 0 { job.gpus.to_string() } else { String::new() })?;
    line("tries", format!("{} of {} used", job.attempts_used, job.max_attempts))?;
    let after = story.after.iter().map(|job| format!("{} {} ({})", job.short, job.name, job.state));
    line("after", after.collect::<Vec<_>>().join(", "))?;
    let done = story.chunks.iter().filter(|chunk| chunk.state == ChunkState::Done).count();
    if !story.chunks.is_empty() {
        line("chunks", format!("{done} of {} done", story.chunks.len()))?;
    }
    for attempt in &story.attempts {
        let took = match attempt.ended_at {
            Some(end) => Duration::try_from(end - attempt.started_at).unwrap_or_default(),
            None => Duration::ZERO,
        };
        let state = match attempt.outcome {
            None => "running".to_owned(),
            Some(outcome) => {
                format!(
                    "{} after {}",
                    format!("{outcome:?}").to_lowercase(),
                    terminal::duration(took)
                )
            }
        };
        let reason = attempt.reason.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        let from = match attempt.resumed_at {
            Some(step) if step > 0 => format!(", from step {step}"),
            _ => String::new(),
        };
        line(
            &format!("attempt {}", attempt.number),
            format!("{state} on {}{from}{reason}", attempt.host),
        )?;
        line("  log", attempt.log_path.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

fn print_run(story: &RunStory) -> anyhow::Result<()> {
    let run = &story.run;
    line("run", format!("{} {} of experiment {}", run.short, run.name, run.experiment))?;
    line("steps", format!("{} of {}", run.last_step, run.total_steps))?;
    line("first", super::numbers(&run.initial))?;
    line("latest", super::numbers(&run.latest))?;
    line("seed", run.seed.to_string())?;
    line("config", format!("sha256 {}", run.config_digest))?;
    line("revision", run.git_revision.as_deref().unwrap_or_default())?;
    line("host", run.host.as_deref().unwrap_or_default())?;
    line("device", run.device.as_deref().unwrap_or_default())?;
    line("libtorch", run.libtorch.as_deref().unwrap_or_default())?;
    line("folder", &run.uri)?;
    for dataset in &story.datasets {
        line("dataset", format!("{} ({} images) {}", dataset.name, dataset.rows, dataset.uri))?;
    }
    for checkpoint in &story.checkpoints {
        let size = terminal::bytes(u64::try_from(checkpoint.bytes).unwrap_or(0));
        line("checkpoint", format!("step {}, {size}, {}", checkpoint.step, checkpoint.uri))?;
    }
    for sampling in &story.samplings {
        let step = sampling.step.map(|step| format!(" at step {step}")).unwrap_or_default();
        line("samples", format!("{}{step}: {}", sampling.task, sampling.output_uri))?;
    }
    for evaluation in &story.evaluations {
        let task = evaluation.task.as_deref().unwrap_or("all tasks");
        line(
            "evaluation",
            format!("{} ({task}): {}", evaluation.label, super::numbers(&evaluation.scores)),
        )?;
    }
    Ok(())
}
