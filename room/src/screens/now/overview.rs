//! Everything that the page shows, asked once for all pages.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use home::Home;
use registry::{Job, JobFilter, JobKind, JobState, Run, Uuid, WorkerRow, WorkerState};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::disks::{self, Disk};
use super::doctor::{Doctor, Report};
use crate::{Answer, Room};

/// Cards of jobs that run, at most; the rest is counted.
const CARDS: i64 = 48;
/// Failures that are remembered for the page.
const FAILURES: i64 = 50;
/// Points of a sketch.
const POINTS: u16 = 64;

/// What goes on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Overview {
    /// Jobs that run, the newest first; at most 48 of them.
    pub running: Vec<Card>,
    /// Jobs that run, in all.
    pub running_count: i64,
    /// Jobs that wait.
    pub queued_count: i64,
    /// Jobs that are set aside.
    pub paused_count: i64,
    /// The jobs that failed last, the latest first; at most 50.
    pub failed: Vec<Failure>,
    /// GPUs that jobs have.
    pub gpus_busy: i64,
    /// GPUs of the workers that live.
    pub gpus_all: i64,
    /// Workers that live.
    pub workers: usize,
    /// Workers that were not seen for longer than a lease and have not ended.
    pub workers_lost: usize,
    /// The disks that this server sees.
    pub disks: Vec<Disk>,
    /// What the doctor found last, on this server's host.
    pub doctor: Report,
}

/// A job that runs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Card {
    /// Its short id.
    pub short: String,
    /// Whether it trains a run, whose short id is the job's.
    pub trains: bool,
    /// What it does.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// Steps, or whatever its progress counts.
    pub done: Option<i64>,
    /// How many in all.
    pub total: Option<i64>,
    /// What it says of its progress.
    pub message: Option<String>,
    /// The newest loss, where it trains; none where that is not finite.
    pub loss: Option<f64>,
    /// The newest loss is not finite.
    pub loss_lost: bool,
    /// Recorded points of the loss, at most 64, evenly spaced in steps.
    pub sketch: Vec<(i64, Option<f64>)>,
    /// The newest preview, by its digest.
    pub picture: Option<String>,
    /// Seconds that are left at the rate of now.
    pub left: Option<f64>,
    /// Seconds since its worker was seen.
    pub unseen: Option<f64>,
    /// Its worker was not seen for longer than a lease.
    pub lost: bool,
    /// Its worker.
    pub worker: Option<String>,
    /// The host of that.
    pub host: Option<String>,
    /// What it was asked: `pause`, `cancel`, `yield`.
    pub asked: Option<&'static str>,
    /// Why its last attempt ended, where this is another.
    pub tried: Option<String>,
    /// When it began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
}

/// A job that failed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Failure {
    /// Its short id.
    pub short: String,
    /// Whether it trains a run.
    pub trains: bool,
    /// What it does.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// Why, in one line.
    pub reason: String,
    /// When.
    #[serde(with = "time::serde::rfc3339::option")]
    pub at: Option<OffsetDateTime>,
}

/// Asks for all of it.
pub async fn make(room: &Arc<Room>) -> Answer<Overview> {
    let db = &room.database;
    let lease = &room.lease;
    let filter =
        JobFilter { states: vec![JobState::Running], limit: Some(CARDS), ..JobFilter::default() };
    let (jobs, counts, workers, failed, gpus_busy) = tokio::try_join!(
        db.jobs(filter),
        db.open_jobs(),
        db.workers(false, lease),
        db.failures(FAILURES),
        db.busy_gpus(),
    )?;
    let ids: Vec<Uuid> =
        jobs.iter().filter(|job| job.run_id == Some(job.id)).map(|job| job.id).collect();
    let (runs, sketches, pictures) = tokio::try_join!(
        db.runs_by_id(&ids),
        db.sketches(&ids, "loss", POINTS),
        db.newest_pictures(&ids),
    )?;
    let runs: HashMap<Uuid, Run> = runs.into_iter().map(|run| (run.id, run)).collect();
    let folders = Home::from_env().map(|home| home.path().to_owned()).into_iter();
    let local = runs.values().map(|run| PathBuf::from(&run.uri)).filter(|path| path.is_absolute());
    let disks = disks::look(folders.chain(local).collect()).await;
    let mut sketches = sketches;
    let running = jobs
        .iter()
        .map(|job| {
            let worker = workers.iter().find(|worker| Some(worker.id) == job.worker_id);
            let sketch = sketches.remove(&job.id).unwrap_or_default();
            let picture = pictures.iter().find(|picture| picture.run_id == job.id);
            Card {
                picture: picture.map(|picture| picture.digest.clone()),
                ..card(job, runs.get(&job.id), sketch, worker)
            }
        })
        .collect();
    let (queued_count, running_count, paused_count) = counts;
    let alive =
        |worker: &&WorkerRow| matches!(worker.state, WorkerState::Alive | WorkerState::Ailing);
    Ok(Overview {
        running,
        running_count,
        queued_count,
        paused_count,
        failed: failed.iter().map(failure).collect(),
        gpus_busy,
        gpus_all: gpus(workers.iter().filter(alive)),
        workers: workers.iter().filter(alive).count(),
        workers_lost: workers.iter().filter(|one| one.state == WorkerState::Lost).count(),
        disks,
        doctor: Doctor::report(room),
    })
}

/// A card of the machine counts once, however many workers hand it out.
fn gpus<'a>(workers: impl Iterator<Item = &'a WorkerRow>) -> i64 {
    let (mut known, mut unnamed) = (HashSet::new(), 0);
    for worker in workers {
        known.extend(worker.gpu_uuids.iter());
        unnamed += i64::from(worker.gpus).saturating_sub_unsigned(worker.gpu_uuids.len() as u64);
    }
    i64::try_from(known.len()).unwrap_or(i64::MAX).saturating_add(unnamed.max(0))
}

fn card(job: &Job, run: Option<&Run>, sketch: Vec<(i64, f64)>, worker: Option<&WorkerRow>) -> Card {
    let (done, total) = match run {
        Some(run) => (Some(run.last_step), Some(run.total_steps)),
        None => (job.progress_done, job.progress_total),
    };
    let loss = run.and_then(|run| run.latest.get("loss"));
    Card {
        short: job.short.clone(),
        trains: job.run_id == Some(job.id),
        kind: job.kind.name(),
        name: job.name.clone(),
        owner: job.owner.clone(),
        done,
        total,
        message: job.progress_message.clone(),
        loss: loss.and_then(serde_json::Value::as_f64),
        loss_lost: loss.is_some_and(serde_json::Value::is_null),
        sketch: sketch
            .into_iter()
            .map(|(step, value)| (step, value.is_finite().then_some(value)))
            .collect(),
        picture: None,
        left: left(job, run),
        unseen: worker.map(|worker| worker.unseen),
        lost: worker.is_some_and(|worker| worker.state == WorkerState::Lost),
        worker: worker.map(|worker| worker.name.clone()),
        host: worker.map(|worker| worker.host.clone()),
        asked: job.stop_requested.map(asked),
        tried: job.reason.clone().filter(|_| job.attempts_used > 0),
        since: job.started_at,
    }
}

pub fn asked(request: registry::StopRequest) -> &'static str {
    match request {
        registry::StopRequest::Pause => "pause",
        registry::StopRequest::Cancel => "cancel",
        registry::StopRequest::Yield => "yield",
    }
}

/// Seconds that are left: of a run at the images a second that it recorded last, of another job at its rate since it
/// began.
pub fn left(job: &Job, run: Option<&Run>) -> Option<f64> {
    if job.state != JobState::Running {
        return None;
    }
    if let Some(run) = run {
        let rate = run.latest.get("images_per_second")?.as_f64().filter(|rate| *rate > 0.0)?;
        let batch = run.config.pointer("/train/batch_size")?.as_f64()?;
        let steps = (run.total_steps - run.last_step).max(0) as f64;
        return Some(steps * batch / rate).filter(|left| left.is_finite());
    }
    // Of what an earlier attempt did it is not known when.
    if job.attempt != 1 || job.kind == JobKind::Train {
        return None;
    }
    let (done, total) = (job.progress_done?, job.progress_total?);
    let spent = (OffsetDateTime::now_utc() - job.started_at?).as_seconds_f64();
    (done > 0 && total >= done && spent > 0.0).then(|| spent / done as f64 * (total - done) as f64)
}

fn failure(job: &Job) -> Failure {
    Failure {
        short: job.short.clone(),
        trains: job.run_id == Some(job.id),
        kind: job.kind.name(),
        name: job.name.clone(),
        owner: job.owner.clone(),
        reason: job.reason.clone().unwrap_or_else(|| "it is not known why".to_owned()),
        at: job.ended_at,
    }
}
