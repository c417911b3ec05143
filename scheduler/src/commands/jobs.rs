//! `jobs`: the queue.

use registry::{
    Blocking, Database, Job, JobFilter, JobKind, JobState, Lease, RunningGang, StopRequest,
    WorkerRow,
};
use serde::Serialize;
use time::OffsetDateTime;

use super::filter::Filter;
use super::watch::Watch;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler jobs --state queued,running --watch
  scheduler jobs --mine --since 2d --kind train")]
pub struct Arguments {
    /// Only of these kinds: train, sample, evaluate, ingest; a list with commas, or repeated
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<JobKind>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    watch: Watch,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub fn list(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.json {
        let db = Blocking::open()?;
        let filter = db.wait(arguments.filter.of(&db, &arguments.kinds))?;
        let jobs = db.wait(db.jobs(filter))?;
        let gangs = gangs(&jobs, async || db.gangs().await);
        let gangs = db.wait(gangs)?;
        let listed: Vec<Listed> =
            jobs.iter().map(|job| Listed { job, gang: of(job, &gangs) }).collect();
        return terminal::print_json(&listed);
    }
    arguments.watch.print(async |db| {
        let filter = arguments.filter.of(db, &arguments.kinds).await?;
        let head = if arguments.watch.is_on() {
            header(db, &filter).await? + "\n\n"
        } else {
            String::new()
        };
        let jobs = db.jobs(filter).await?;
        if jobs.is_empty() {
            return Ok(head + &arguments.filter.nothing("jobs", arguments.kinds.is_empty()));
        }
        let gangs = gangs(&jobs, async || db.gangs().await).await?;
        let waits = |job: &Job| job.state == JobState::Queued && job.hosts > 1;
        let workers = match jobs.iter().any(waits) {
            true => db.workers(false, &Lease::from_env()?).await?,
            false => Vec::new(),
        };
        Ok(head
            + &table(&jobs, &gangs, &workers).text(terminal::width())
            + &arguments.filter.more(jobs.len()))
    })
}

/// A job with its gang, where it runs on several hosts.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    job: &'a Job,
    gang: Option<&'a RunningGang>,
}

/// The gangs, asked for where one of the jobs has one.
async fn gangs(
    jobs: &[Job],
    ask: impl AsyncFnOnce() -> registry::Result<Vec<RunningGang>>,
) -> registry::Result<Vec<RunningGang>> {
    match jobs.iter().any(|job| job.state == JobState::Running && job.hosts_most > 1) {
        true => ask().await,
        false => Ok(Vec::new()),
    }
}

/// The gang of a job.
fn of<'a>(job: &Job, gangs: &'a [RunningGang]) -> Option<&'a RunningGang> {
    gangs.iter().find(|gang| (gang.id, gang.attempt) == (job.id, job.attempt))
}

/// How many there are in each state, and when that was.
async fn header(db: &Database, filter: &JobFilter) -> registry::Result<String> {
    let counts = db.count_jobs(filter).await?;
    let mut parts: Vec<String> =
        counts.iter().map(|(state, count)| terminal::states(&format!("{count} {state}"))).collect();
    parts.push(terminal::moment(OffsetDateTime::now_utc()));
    Ok(parts.join("  "))
}

fn table(jobs: &[Job], gangs: &[RunningGang], workers: &[WorkerRow]) -> terminal::Table {
    let mut table = terminal::Table::new(&[
        "job", "kind", "name", "owner", "state", "progress", "tries", "queued", "remark",
    ])
    .cut(&["remark", "name"])
    .omit(&["tries", "owner", "queued", "kind", "remark", "progress"]);
    for job in jobs {
        table.row([
            job.short.clone(),
            job.kind.to_string(),
            job.name.clone(),
            job.owner.clone(),
            job.state.to_string(),
            super::fraction(job.progress_done, job.progress_total),
            format!("{}/{}", job.attempts_used, job.max_attempts),
            super::ago(job.created_at),
            remark(job, of(job, gangs), workers),
        ]);
    }
    table
}

/// What else there is to say about a job's state.
fn remark(job: &Job, gang: Option<&RunningGang>, workers: &[WorkerRow]) -> String {
    if let (JobState::Running, Some(asked)) = (job.state, job.stop_requested) {
        return wish(asked).to_owned();
    }
    let mut parts: Vec<String> = job.reason.clone().into_iter().collect();
    if job.state == JobState::Queued
        && let Some(wait) = super::until(job.run_after)
    {
        let when = if job.attempts_used > 0 { "again in" } else { "not for" };
        parts.push(format!("{when} {wait}"));
    }
    parts.extend(gang.map(RunningGang::text));
    if job.state == JobState::Queued {
        parts.extend(registry::short_of_hosts(job, workers));
    }
    if job.state == JobState::Running && job.reason.is_none() {
        parts.extend(job.progress_message.clone());
    }
    if job.archived_at.is_some() {
        parts.push("archived".to_owned());
    }
    parts.join("; ")
}

/// What a running job was asked to do.
pub fn wish(asked: StopRequest) -> &'static str {
    match asked {
        StopRequest::Yield => "asked to give way",
        StopRequest::Pause => "asked to pause",
        StopRequest::Cancel => "asked to end",
    }
}
