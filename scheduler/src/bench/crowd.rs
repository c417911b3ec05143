//! A long queue of which a worker can do nothing: one half asks for a GPU, the other waits for the first. What a
//! worker asks over and over, and what people ask, over such a queue.

use std::path::Path;
use std::time::{Duration, Instant};

use registry::{
    Ended, Error, JobFilter, JobKind, Lease, NewJob, Outcome, Resources, Result, Scratch,
    WorkerInfo,
};
use serde::Serialize;
use serde_json::json;

use super::Milliseconds;
use super::history::time;

/// Times over a long queue.
#[derive(Clone, Debug, Serialize)]
pub struct Crowd {
    /// Jobs that are queued.
    pub jobs: i64,
    /// Each question to the database.
    pub queries: Vec<(&'static str, Milliseconds)>,
    /// Each command from its start to its end.
    pub commands: Vec<(String, Milliseconds)>,
}

/// Measures over a queue of so many jobs; `program` is `scheduler`.
///
/// # Errors
/// Those of the database; a command that fails.
pub async fn crowd(scratch: &Scratch, program: &Path, jobs: i64, rounds: usize) -> Result<Crowd> {
    scratch.crowd(jobs).await?;
    let database = scratch.client().await?;
    let lease = Lease { length: Duration::from_secs(30), retry_delay: Duration::ZERO };
    let resources = Resources { kinds: JobKind::ALL.to_vec(), ..Resources::default() };
    let worker = WorkerInfo::this_process(None, 1);
    database.register_worker(&worker).await?;
    let (mut nothing, mut one, mut could, mut list) = (vec![], vec![], vec![], vec![]);
    for round in 0..rounds {
        let began = Instant::now();
        let found = database.claim(&worker, &resources, &lease).await?;
        nothing.push(began.elapsed());
        if found.is_some() {
            return Err(Error::Failed("a job was claimed that nobody can do".into()));
        }
        let began = Instant::now();
        database.could_do(&resources).await?;
        could.push(began.elapsed());
        database.submit(NewJob::new(JobKind::Ingest, format!("fits-{round}"), json!({}))).await?;
        let began = Instant::now();
        let claimed = database.claim(&worker, &resources, &lease).await?;
        one.push(began.elapsed());
        let claimed = claimed.ok_or_else(|| Error::Failed("no job was claimed".into()))?;
        let done = Ended::new(Outcome::Succeeded, None);
        database.finish(claimed.fence, &done, &lease).await?;
        let began = Instant::now();
        database.jobs(JobFilter { limit: Some(50), ..JobFilter::default() }).await?;
        list.push(began.elapsed());
    }
    let mut commands = Vec::new();
    for arguments in [vec!["jobs"], vec!["worker", "--drain"]] {
        let spans = (0..rounds).map(|_| time(program, &arguments, database.url()));
        commands.push((arguments.join(" "), Milliseconds::of(spans.collect::<Result<_>>()?)));
    }
    let queries = [
        ("a claim that finds nothing", nothing),
        ("a claim of the last job", one),
        ("whether anything could come", could),
        ("a list of 50", list),
    ];
    let queries = queries.map(|(what, spans)| (what, Milliseconds::of(spans))).to_vec();
    Ok(Crowd { jobs, queries, commands })
}
