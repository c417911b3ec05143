//! The queue and the machines as the page and the API show them, made once for all who look.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use registry::{Job, JobFilter, JobState, NewestSample, WorkerRow, WorkerState, waiting, why_not};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{Answer, Room, format};

/// Waiting jobs on a page.
pub const PAGE: i64 = 100;
/// Running and paused jobs that are listed.
const MOST: i64 = 200;
/// Minutes of a stretch of the charts.
pub const STRETCH: i32 = 15;

/// A job that waits for its turn.
#[derive(Clone, Serialize, ToSchema)]
pub struct Waiting {
    /// Its place, from 1 on, in the order in which workers look at the queue.
    pub position: i64,
    #[serde(flatten)]
    pub job: Brief,
    /// Why it does not run, in a sentence.
    pub why: String,
    /// What to do about it, where no worker can do it.
    pub remedy: Option<String>,
}

/// A job that runs or is set aside.
#[derive(Clone, Serialize, ToSchema)]
pub struct Other {
    #[serde(flatten)]
    pub job: Brief,
    /// The worker that has it.
    pub worker: Option<String>,
    /// What it was asked to do at its next checkpoint: `pause`, `cancel`, `yield`.
    pub asked: Option<String>,
    /// Steps, images or rows that are done.
    pub done: Option<i64>,
    /// Of so many.
    pub total: Option<i64>,
    /// What it says of itself.
    pub message: Option<String>,
    /// Why it is paused, where that is known.
    pub reason: Option<String>,
}

/// What a job is and asks for.
#[derive(Clone, Serialize, ToSchema)]
pub struct Brief {
    /// The id that people type.
    pub id: String,
    pub name: String,
    pub owner: String,
    /// `train`, `sample`, `evaluate` or `ingest`.
    pub kind: &'static str,
    pub priority: i32,
    /// The fewest GPUs that it starts with.
    pub gpus: i32,
    /// Hosts that it runs on at once.
    pub hosts: i32,
    /// Labels that its worker must carry.
    #[schema(value_type = Object)]
    pub labels: Value,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
}

/// The queue.
#[derive(Clone, Serialize, ToSchema)]
pub struct Queue {
    /// Jobs that wait, in all.
    pub waiting_total: i64,
    /// Jobs that are set aside, in all.
    pub paused_total: i64,
    /// Jobs that run, in all.
    pub running_total: i64,
    /// A page of those that wait.
    pub waiting: Vec<Waiting>,
    /// The one behind this page.
    pub next: Option<String>,
    pub running: Vec<Other>,
    pub paused: Vec<Other>,
}

/// All workers with the same labels.
#[derive(Clone, Serialize, ToSchema)]
pub struct Group {
    /// Their labels, `gpu=h100 zone=a`; empty where they carry none.
    pub labels: String,
    pub workers: Vec<Machine>,
    /// The last day, a quarter of an hour each; stretches without a sample are left out.
    pub day: Vec<Stretch>,
}

/// A worker.
#[derive(Clone, Serialize, ToSchema)]
pub struct Machine {
    pub name: String,
    pub host: String,
    /// `alive`, `ailing` or `lost`.
    pub state: &'static str,
    /// What is wrong with it.
    pub ails: Option<String>,
    /// Seconds since it was seen.
    pub unseen: f64,
    pub slots: i32,
    /// Ids of the jobs that it has.
    pub jobs: Vec<String>,
    /// What its GPUs are.
    pub gpus: Vec<String>,
    /// Its newest sample, where that is not older than five minutes.
    pub sample: Option<Sample>,
}

/// How busy a worker and its host were.
#[derive(Clone, Serialize, ToSchema)]
pub struct Sample {
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub slots_busy: i32,
    /// Share of the processors, 0 to 1.
    pub cpu: Option<f32>,
    /// Bytes.
    pub memory_used: Option<i64>,
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes, on the file system of the worker's home.
    pub disk_left: Option<i64>,
    /// Bytes.
    pub disk: Option<i64>,
    /// Share of the time that each GPU was busy; null where the driver does not say.
    pub gpu_use: Vec<Option<f32>>,
    /// Bytes of each.
    pub gpu_memory_used: Vec<Option<i64>>,
}

/// A stretch of the day.
#[derive(Clone, Serialize, ToSchema)]
pub struct Stretch {
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Share of the slots that had a job, 0 to 1.
    pub busy: Option<f64>,
    /// Mean share of the time that GPUs were busy.
    pub gpu_use: Option<f64>,
    /// Mean share of the memory of GPUs that was used.
    pub gpu_memory: Option<f64>,
    /// Mean share of the processors that was busy.
    pub cpu: Option<f64>,
}

/// What an owner's jobs took in the last seven days.
#[derive(Clone, Serialize, ToSchema)]
pub struct Owner {
    pub owner: String,
    pub hours: f64,
    pub gpu_hours: f64,
    pub jobs: i64,
}

/// The machines.
#[derive(Clone, Serialize, ToSchema)]
pub struct Machines {
    pub groups: Vec<Group>,
    pub owners: Vec<Owner>,
}

impl Brief {
    fn of(job: &Job) -> Self {
        Self {
            id: job.short.clone(),
            name: job.name.clone(),
            owner: job.owner.clone(),
            kind: job.kind.name(),
            priority: job.priority,
            gpus: job.gpus,
            hosts: job.hosts,
            labels: job.labels.clone(),
            created_at: job.created_at,
            started_at: job.started_at,
        }
    }

    /// The page of the job.
    pub fn address(&self) -> String {
        let folder = if self.kind == "train" { "runs" } else { "jobs" };
        format!("/{folder}/{}", self.id)
    }
}

/// The workers that there are, for both halves of the page.
async fn workers(room: &Room) -> Answer<Arc<Vec<WorkerRow>>> {
    let make = async { Ok(room.database.workers(false, &room.lease).await?) };
    room.shared.get("queue/workers", Duration::from_secs(2), make).await
}

/// The queue from the job at `first` on, counted from 0.
pub async fn queue(room: &Room, first: i64) -> Answer<Arc<Queue>> {
    let key = format!("queue/jobs/{first}");
    room.shared.get(&key, Duration::from_millis(1500), make_queue(room, first)).await
}

async fn make_queue(room: &Room, first: i64) -> Answer<Queue> {
    let database = &room.database;
    let workers = workers(room).await?;
    let (waiting_total, running_total, paused_total) = database.open_jobs().await?;
    let mut jobs = database.queue(first, PAGE + 1).await?;
    let next = (jobs.len() as i64 > PAGE).then(|| jobs.pop()).flatten().map(|job| job.short);
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    let awaited = database.awaited(&ids).await?;
    let mut sweeps = BTreeMap::new();
    for id in jobs.iter().filter_map(|job| job.sweep_id) {
        if let Entry::Vacant(sweep) = sweeps.entry(id) {
            sweep.insert(database.sweep(id).await?);
        }
    }
    let offers = database.offers(room.lease.length).await?;
    let waiting = jobs
        .iter()
        .zip(first + 1..)
        .map(|(job, position)| {
            let parents: Vec<String> = awaited
                .iter()
                .filter(|parent| parent.job == job.id)
                .map(|parent| format!("{} {}", parent.short, parent.name))
                .collect();
            let sweep = job.sweep_id.and_then(|id| sweeps.get(&id));
            let mut why = waiting(job, &parents, sweep, &workers, format::span);
            let mut remedy = None;
            if let Some((reason, what)) = why_not(&wants(job), &offers, format::bytes)
                && !offers.is_empty()
            {
                why = match parents.is_empty() {
                    true => reason,
                    false => format!("{why}; {reason}"),
                };
                remedy = Some(what);
            }
            if let Some(reason) = &job.reason {
                why = format!("{reason}; {why}");
            }
            Waiting { position, job: Brief::of(job), why, remedy }
        })
        .collect();
    let holder = |job: &Job| {
        let mut all = workers.iter();
        all.find(|worker| worker.jobs.contains(&job.short)).map(|worker| worker.name.clone())
    };
    let other = |job: Job| Other {
        worker: holder(&job),
        job: Brief::of(&job),
        asked: job
            .stop_requested
            .and_then(|asked| serde_json::to_value(asked).ok()?.as_str().map(str::to_owned)),
        done: job.progress_done,
        total: job.progress_total,
        message: job.progress_message,
        reason: job.reason,
    };
    let in_state = |state| JobFilter {
        states: vec![state],
        archived: None,
        limit: Some(MOST),
        ..JobFilter::default()
    };
    let running = database.jobs(in_state(JobState::Running)).await?;
    let paused = database.jobs(in_state(JobState::Paused)).await?;
    Ok(Queue {
        waiting_total,
        paused_total,
        running_total,
        waiting,
        next,
        running: running.into_iter().map(other).collect(),
        paused: paused.into_iter().map(other).collect(),
    })
}

/// What one job asks for, as the doctor judges it.
fn wants(job: &Job) -> registry::Wants {
    registry::Wants {
        kind: job.kind,
        gpus: job.gpus,
        gpu_memory: job.gpu_memory,
        labels: job.labels.clone(),
        count: 1,
        oldest: job.short.clone(),
    }
}

/// The machines and who used them.
pub async fn machines(room: &Room) -> Answer<Arc<Machines>> {
    room.shared.get("queue/machines", Duration::from_secs(5), make_machines(room)).await
}

async fn make_machines(room: &Room) -> Answer<Machines> {
    let workers = workers(room).await?;
    let samples = room.database.newest_samples(300.0).await?;
    let day = async { Ok(room.database.busy_day(STRETCH).await?) };
    let day = room.shared.get("queue/day", Duration::from_secs(60), day).await?;
    let owners = async { Ok(room.database.owner_hours(7).await?) };
    let owners = room.shared.get("queue/owners", Duration::from_secs(60), owners).await?;
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for worker in workers.iter() {
        let sample = samples.iter().find(|sample| sample.worker_id == worker.id);
        group(&mut groups, &worker.labels).workers.push(machine(worker, sample));
    }
    for stretch in day.iter() {
        let share = |part: f64, of: f64| (of > 0.0).then(|| (part / of).clamp(0.0, 1.0));
        let part = stretch.gpu_memory_used.zip(stretch.gpu_memory);
        group(&mut groups, &stretch.labels).day.push(Stretch {
            at: stretch.at,
            busy: share(stretch.slots_busy, stretch.slots),
            gpu_use: stretch.gpu_use,
            gpu_memory: part.and_then(|(used, all)| share(used, all)),
            cpu: stretch.cpu,
        });
    }
    let owners = owners
        .iter()
        .map(|row| Owner {
            owner: row.owner.clone(),
            hours: row.hours,
            gpu_hours: row.gpu_hours,
            jobs: row.jobs,
        })
        .collect();
    Ok(Machines { groups: groups.into_values().collect(), owners })
}

fn group<'a>(groups: &'a mut BTreeMap<String, Group>, labels: &Value) -> &'a mut Group {
    let labels = shown(labels);
    let new = || Group { labels: labels.clone(), workers: Vec::new(), day: Vec::new() };
    groups.entry(labels.clone()).or_insert_with(new)
}

fn machine(worker: &WorkerRow, sample: Option<&NewestSample>) -> Machine {
    Machine {
        name: worker.name.clone(),
        host: worker.host.clone(),
        state: worker.state.name(),
        ails: worker.ails.clone().filter(|_| worker.state == WorkerState::Ailing),
        unseen: worker.unseen,
        slots: worker.slots,
        jobs: worker.jobs.clone(),
        gpus: worker.gpu_names.clone(),
        sample: sample.map(|sample| Sample {
            at: sample.at,
            slots_busy: sample.slots_busy,
            cpu: sample.cpu,
            memory_used: sample.memory_used,
            memory: sample.memory,
            disk_left: sample.disk_left,
            disk: sample.disk,
            gpu_use: sample.gpu_use.clone(),
            gpu_memory_used: sample.gpu_memory_used.clone(),
        }),
    }
}

/// Labels as they are given: `KEY=VALUE`, with spaces between.
pub fn shown(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten().map(|(key, value)| match value.as_str() {
        Some(value) => format!("{key}={value}"),
        None => format!("{key}={value}"),
    });
    pairs.collect::<Vec<_>>().join(" ")
}
