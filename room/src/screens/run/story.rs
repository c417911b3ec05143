//! Everything that a page tells of a run, or of a job, as the API gives it.

use std::collections::BTreeMap;
use std::sync::Arc;

use registry::{
    AttemptRow, BAD_CONFIGURATION, Checkpoint, CheckpointKind, Evaluation, Job, JobState, Outcome,
    RunCheckpoints, RunOrigin, SampleJob, SeatRow, Sweep, Uuid, WorkerRow,
};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::buttons::{Button, buttons};
use crate::screens::now::overview::{asked, left};
use crate::{Answer, Room};

/// Jobs of a list, at most.
const MOST: usize = 100;

/// Another job or run.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Neighbour {
    /// Its short id.
    pub short: String,
    /// Its name.
    pub name: String,
    /// It trains a run.
    pub trains: bool,
    /// `train`, `sample`, `evaluate`, `ingest`.
    pub kind: &'static str,
    /// The state of its job; `imported` where none makes it.
    pub state: &'static str,
    /// The step of the checkpoint between the two, where there is one.
    pub step: Option<i64>,
}

/// A job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct JobStory {
    /// Its id.
    pub id: Uuid,
    /// The first eight digits.
    pub short: String,
    /// `train`, `sample`, `evaluate`, `ingest`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// What somebody wrote on it.
    pub note: Option<String>,
    /// Since when lists leave it out.
    #[serde(with = "time::serde::rfc3339::option")]
    pub archived_at: Option<OffsetDateTime>,
    /// `queued`, `running`, `paused`, `succeeded`, `failed`, `cancelled`.
    pub state: &'static str,
    /// What becomes of it, in words.
    pub outlook: String,
    /// What a running one was asked: `pause`, `cancel`, `yield`.
    pub asked: Option<&'static str>,
    /// Higher goes first.
    pub priority: i32,
    /// What it takes, in words.
    pub needs: String,
    /// What it was told to do; of a run that is its configuration instead.
    pub payload: Option<Value>,
    /// What its progress counts.
    pub done: Option<i64>,
    /// How many in all.
    pub total: Option<i64>,
    /// What it says of its progress.
    pub message: Option<String>,
    /// Seconds that are left at the rate of now.
    pub left: Option<f64>,
    /// Seconds since its worker was seen.
    pub unseen: Option<f64>,
    /// When it was queued.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it began first.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// Tries that it has used.
    pub attempts_used: i32,
    /// Tries that it has.
    pub attempts_most: i32,
    /// The sweep that it belongs to, by its short id.
    pub sweep: Option<String>,
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// What it waits for.
    pub after: Vec<Neighbour>,
    /// What waits for it.
    pub before: Vec<Neighbour>,
    /// The run that it is about, where it does not make it.
    pub about: Option<Neighbour>,
    /// What it draws.
    pub sampling: Option<Sampling>,
    /// The scores that it recorded.
    pub scores: Vec<Scores>,
    /// What can be done with it.
    pub buttons: Vec<Button>,
}

/// An attempt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: i32,
    /// The worker.
    pub worker: String,
    /// Where that runs.
    pub host: String,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// How: `succeeded`, `stopped`, `failed`, `lost`.
    pub outcome: Option<&'static str>,
    /// Why, in one line.
    pub reason: Option<String>,
    /// The status of its process.
    pub exit_status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The GPUs that it was given.
    pub gpus: Vec<String>,
    /// The step that it went on from; 0 from scratch.
    pub resumed_at: Option<i64>,
    /// Processes on its host.
    pub ranks: Option<i32>,
    /// Processes in all.
    pub world: Option<i32>,
    /// The other hosts of it.
    pub seats: Vec<OtherHost>,
    /// The file of its log, on its host.
    pub log_path: Option<String>,
}

/// Another host of an attempt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OtherHost {
    /// Its number, from 1.
    pub number: i32,
    /// Its name.
    pub host: String,
    /// The worker there.
    pub worker: Option<String>,
    /// Its first rank.
    pub first: Option<i64>,
    /// How many.
    pub ranks: Option<i32>,
    /// Why they were lost, or what is wrong with them.
    pub reason: Option<String>,
    /// When it left.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
}

/// A run.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunStory {
    /// Its id; that of the job that makes it.
    pub id: Uuid,
    /// The first eight digits.
    pub short: String,
    /// Its name.
    pub name: String,
    /// The experiment that it belongs to.
    pub experiment: String,
    /// Whose it is.
    pub owner: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// What somebody wrote on it.
    pub note: Option<String>,
    /// Since when lists leave it out.
    #[serde(with = "time::serde::rfc3339::option")]
    pub archived_at: Option<OffsetDateTime>,
    /// Steps that it has made.
    pub last_step: i64,
    /// Steps to make.
    pub total_steps: i64,
    /// The configuration with every default written out.
    pub config: Value,
    /// Its sha256.
    pub config_digest: String,
    /// The seed of everything random in it.
    pub seed: i64,
    /// The folder of its checkpoints.
    pub uri: String,
    /// The revision of the code.
    pub git_revision: Option<String>,
    /// Where it is made.
    pub host: Option<String>,
    /// On what.
    pub device: Option<String>,
    /// With which libtorch.
    pub libtorch: Option<String>,
    /// The newest value of each metric; null where it is not finite.
    pub latest: Value,
    /// The first value of each metric.
    pub initial: Value,
    /// When it was queued.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Recorded points of the loss, at most 64, evenly spaced in steps.
    pub sketch: Vec<(i64, Option<f64>)>,
    /// What is wrong with its course.
    pub warning: Option<String>,
    /// The job that makes it; none where it was imported.
    pub job: Option<JobStory>,
    /// The run whose checkpoint it began with.
    pub parent: Option<Neighbour>,
    /// The runs that began with a checkpoint of it.
    pub forks: Vec<Neighbour>,
    /// What it reads.
    pub datasets: Vec<Dataset>,
    /// Changes of data that it went on over.
    pub data_changes: Vec<DataChange>,
    /// Its kept checkpoints, by step.
    pub checkpoints: Vec<CheckpointStory>,
    /// Steps of checkpoints that are set aside: damaged, or left behind.
    pub set_aside: Vec<i64>,
    /// What is drawn with it.
    pub samplings: Vec<Sampling>,
    /// Its scores.
    pub scores: Vec<Scores>,
    /// Other runs of the same name, newest first, by their short ids.
    pub namesakes: Vec<String>,
    /// What can be done with it.
    pub buttons: Vec<Button>,
}

/// A dataset of a run.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Dataset {
    /// What for: `train`, `validation`, `preview`.
    pub role: &'static str,
    /// Its name.
    pub name: String,
    /// Where.
    pub uri: String,
    /// Its images.
    pub rows: i64,
    /// The sha256 of its manifest.
    pub manifest_digest: String,
}

/// Other data that a run went on over.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DataChange {
    /// From this step on.
    pub step: i64,
    /// Where.
    pub uri: String,
    /// Who accepted it.
    pub accepted_by: String,
}

/// A checkpoint.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CheckpointStory {
    /// Its step.
    pub step: i64,
    /// Its size.
    pub bytes: i64,
    /// Its folder.
    pub uri: String,
    /// Its digest.
    pub digest: String,
    /// The attempt that wrote it.
    pub attempt: i32,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// The value of the metric by which the best is chosen.
    pub metric: Option<f64>,
    /// Who needs it; nobody where `scheduler gc` or the run's own retention may remove it.
    pub needed: Vec<String>,
}

/// What is drawn with a run.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Sampling {
    /// The job.
    pub short: String,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: &'static str,
    /// The step of the checkpoint, once that is known.
    pub step: Option<i64>,
    /// The task.
    pub task: String,
    /// What is drawn over.
    pub dataset_uri: String,
    /// Where the outputs are.
    pub output_uri: String,
    /// Chunks that are done.
    pub done: i64,
    /// Chunks in all.
    pub total: i64,
}

/// Scores of outputs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Scores {
    /// The row of a table.
    pub label: String,
    /// The task.
    pub task: Option<String>,
    /// The step of the checkpoint.
    pub step: Option<i64>,
    /// What was scored.
    pub outputs_uri: String,
    /// What with.
    pub reference_uri: Option<String>,
    /// Each score: a number, or the object that was recorded.
    pub scores: BTreeMap<String, Value>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Everything of a job.
pub async fn job(room: &Arc<Room>, job: Job) -> Answer<JobStory> {
    let db = &room.database;
    let (attempts, seats, after, before, samplings, evaluations, workers) = tokio::try_join!(
        db.attempts(job.id),
        db.seats(job.id),
        db.parents(job.id),
        db.children(job.id),
        db.sample_jobs(job.id),
        db.evaluations_by(job.id),
        db.workers(false, &room.lease),
    )?;
    let trains = job.run_id == Some(job.id);
    let about = match job.run_id {
        Some(run) if !trains => Some(db.run(run).await?),
        _ => None,
    };
    let run = match trains {
        true => Some(db.run(job.id).await?),
        false => None,
    };
    let sweep = match job.sweep_id {
        Some(sweep) if job.state == JobState::Queued => Some(db.sweep(sweep).await?),
        _ => None,
    };
    let worker = workers.iter().find(|worker| Some(worker.id) == job.worker_id);
    let (done, total) = match &run {
        Some(run) => (Some(run.last_step), Some(run.total_steps)),
        None => (job.progress_done, job.progress_total),
    };
    Ok(JobStory {
        outlook: outlook(&job, &attempts, &after, sweep.as_ref(), &workers),
        buttons: buttons(&job, true),
        left: left(&job, run.as_ref()),
        unseen: worker.map(|worker| worker.unseen),
        attempts: attempts.into_iter().map(|row| attempt(row, &seats)).collect(),
        after: after.iter().take(MOST).map(neighbour).collect(),
        before: before.iter().take(MOST).map(neighbour).collect(),
        about: about.map(|run| Neighbour {
            short: run.short,
            name: run.name,
            trains: true,
            kind: "train",
            state: run.state.map_or("imported", JobState::name),
            step: None,
        }),
        sampling: samplings.into_iter().find(|one| one.job_id == job.id).map(sampling),
        scores: evaluations.into_iter().map(scores).collect(),
        needs: needs(&job),
        payload: (!trains).then(|| job.payload.clone()),
        id: job.id,
        short: job.short,
        kind: job.kind.name(),
        name: job.name,
        owner: job.owner,
        tags: job.tags,
        note: job.note,
        archived_at: job.archived_at,
        state: job.state.name(),
        asked: job.stop_requested.map(asked),
        priority: job.priority,
        done,
        total,
        message: job.progress_message,
        created_at: job.created_at,
        started_at: job.started_at,
        ended_at: job.ended_at,
        attempts_used: job.attempts_used,
        attempts_most: job.max_attempts,
        sweep: job.sweep_id.map(|id| registry::short(&id)),
    })
}

/// Everything of a run.
pub async fn run(room: &Arc<Room>, id: Uuid) -> Answer<RunStory> {
    let db = &room.database;
    let run = db.run(id).await?;
    let job = match run.state {
        Some(_) => Some(self::job(room, db.job(id).await?).await?),
        None => None,
    };
    let done = run.state == Some(JobState::Succeeded);
    let ids = [id];
    let (standing, aside, origin, forks, datasets, changes) = tokio::try_join!(
        db.run_checkpoints(id),
        db.set_aside(id),
        db.origin(id),
        db.forked_runs(id),
        db.run_datasets(id),
        db.accepted_changes(id),
    )?;
    let (samplings, evaluations, namesakes, mut sketches, finding) = tokio::try_join!(
        db.sample_jobs(id),
        db.evaluations(id),
        db.runs_called(&run.name),
        db.sketches(&ids, "loss", 64),
        db.finding(id, run.total_steps, done),
    )?;
    let parent = match origin {
        Some(RunOrigin { run, step, .. }) => {
            let parent = db.run(run).await?;
            Some(Neighbour {
                short: parent.short,
                name: parent.name,
                trains: true,
                kind: "train",
                state: parent.state.map_or("imported", JobState::name),
                step: Some(step),
            })
        }
        None => None,
    };
    let config = run.config.get("train");
    let checkpoints = checkpoints(&standing, &samplings, config);
    let buttons = match &job {
        Some(job) => job.buttons.clone(),
        None => Vec::new(),
    };
    Ok(RunStory {
        sketch: sketches
            .remove(&id)
            .unwrap_or_default()
            .into_iter()
            .map(|(step, value)| (step, value.is_finite().then_some(value)))
            .collect(),
        warning: finding.map(|finding| finding.to_string()),
        job,
        parent,
        forks: forks
            .into_iter()
            .map(|fork| Neighbour {
                short: fork.short,
                name: fork.name,
                trains: true,
                kind: "train",
                state: fork.state.map_or("imported", JobState::name),
                step: Some(fork.step),
            })
            .collect(),
        datasets: datasets
            .into_iter()
            .map(|recorded| Dataset {
                role: role(recorded.dataset.role),
                name: recorded.dataset.name,
                uri: recorded.dataset.uri,
                rows: recorded.dataset.rows,
                manifest_digest: recorded.dataset.manifest_digest,
            })
            .collect(),
        data_changes: changes
            .into_iter()
            .map(|change| DataChange {
                step: change.step,
                uri: change.uri,
                accepted_by: change.accepted_by,
            })
            .collect(),
        checkpoints,
        set_aside: aside,
        samplings: samplings.into_iter().take(MOST).map(sampling).collect(),
        scores: evaluations.into_iter().map(scores).collect(),
        namesakes: namesakes.into_iter().filter(|short| *short != run.short).collect(),
        buttons,
        id: run.id,
        short: run.short,
        name: run.name,
        experiment: run.experiment,
        owner: run.owner,
        tags: run.tags,
        note: run.note,
        archived_at: run.archived_at,
        last_step: run.last_step,
        total_steps: run.total_steps,
        config: run.config,
        config_digest: run.config_digest,
        seed: run.seed,
        uri: run.uri,
        git_revision: run.git_revision,
        host: run.host,
        device: run.device,
        libtorch: run.libtorch,
        latest: run.latest,
        initial: run.initial,
        created_at: run.created_at,
    })
}

fn role(role: registry::DataRole) -> &'static str {
    match role {
        registry::DataRole::Train => "train",
        registry::DataRole::Validation => "validation",
        registry::DataRole::Preview => "preview",
    }
}

fn neighbour(job: &Job) -> Neighbour {
    Neighbour {
        short: job.short.clone(),
        name: job.name.clone(),
        trains: job.run_id == Some(job.id),
        kind: job.kind.name(),
        state: job.state.name(),
        step: None,
    }
}

fn sampling(row: SampleJob) -> Sampling {
    Sampling {
        short: row.short,
        name: row.name,
        state: row.state.name(),
        step: row.step,
        task: row.task,
        dataset_uri: row.dataset_uri,
        output_uri: row.output_uri,
        done: row.chunks.done,
        total: row.chunks.total,
    }
}

fn scores(row: Evaluation) -> Scores {
    let scores = match row.scores {
        Value::Object(scores) => scores.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    Scores {
        label: row.label,
        task: row.task,
        step: row.step,
        outputs_uri: row.outputs_uri,
        reference_uri: row.reference_uri,
        scores,
        created_at: row.created_at,
    }
}

fn attempt(row: AttemptRow, seats: &[SeatRow]) -> Attempt {
    let its = seats.iter().filter(|seat| seat.attempt == row.number);
    let gpus = row.gpus.unwrap_or_default();
    Attempt {
        number: row.number,
        worker: row.worker,
        host: row.host,
        started_at: row.started_at,
        ended_at: row.ended_at,
        outcome: row.outcome.map(|outcome| match outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Stopped => "stopped",
            Outcome::Failed => "failed",
            Outcome::Lost => "lost",
        }),
        reason: row.reason,
        exit_status: row.exit_status,
        signal: row.signal,
        gpus: gpus.split(',').filter(|gpu| !gpu.is_empty()).map(str::to_owned).collect(),
        resumed_at: row.resumed_at,
        ranks: row.ranks,
        world: row.world,
        seats: its
            .map(|seat| OtherHost {
                number: seat.number,
                host: seat.host.clone().unwrap_or_default(),
                worker: seat.worker.clone(),
                first: seat.first,
                ranks: seat.ranks,
                reason: seat.reason.clone(),
                ended_at: seat.ended_at,
            })
            .collect(),
        log_path: row.log_path,
    }
}

/// Each checkpoint with who needs it: the end of the run, the best, the newest, what retention keeps, jobs that name it.
fn checkpoints(
    standing: &RunCheckpoints,
    samplings: &[SampleJob],
    train: Option<&Value>,
) -> Vec<CheckpointStory> {
    let all = &standing.kept;
    let metric = &standing.best_metric;
    let value = |one: &Checkpoint| one.metrics.get(metric).and_then(Value::as_f64);
    let best = all
        .iter()
        .rev()
        .filter_map(|one| Some((value(one)?, one.step)))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, step)| step);
    let number = |key: &str| train.and_then(|train| train.pointer(key)).and_then(Value::as_i64);
    let keep_last = number("/checkpoint/keep_last").unwrap_or(0);
    let keep_every = number("/checkpoint/keep_every").unwrap_or(0);
    let count = all.len();
    all.iter()
        .enumerate()
        .map(|(at, one)| {
            let mut needed = Vec::new();
            match one.kind {
                CheckpointKind::Final => needed.push("end of the run".to_owned()),
                CheckpointKind::Imported => needed.push("imported".to_owned()),
                CheckpointKind::Regular => {}
            }
            if Some(one.step) == best {
                needed.push(format!("best by {metric}"));
            }
            if at + 1 == count {
                needed.push("newest".to_owned());
            }
            if one.step == 0 {
                needed.push("beginning".to_owned());
            }
            for job in samplings.iter().filter(|job| !job.state.is_final()) {
                if job.step == Some(one.step) {
                    needed.push(format!("sampling {}", job.short));
                } else if job.step.is_none() && (Some(one.step) == best || at + 1 == count) {
                    needed.push(format!("sampling {} may choose it", job.short));
                }
            }
            if needed.is_empty() {
                if keep_last == 0 {
                    needed.push("all are kept (keep_last = 0)".to_owned());
                } else if keep_every > 0 && one.step % keep_every == 0 {
                    needed.push(format!("every {keep_every} steps"));
                } else if i64::try_from(count - at).is_ok_and(|newest| newest <= keep_last) {
                    needed.push(format!("one of the newest {keep_last}"));
                }
            }
            CheckpointStory {
                step: one.step,
                bytes: one.bytes,
                uri: one.uri.clone(),
                digest: one.digest.clone(),
                attempt: one.attempt,
                created_at: one.created_at,
                metric: value(one),
                needed,
            }
        })
        .collect()
}

/// What it takes, in words.
fn needs(job: &Job) -> String {
    let mut parts = Vec::new();
    let range = |least: i32, most: i32| {
        if least == most { most.to_string() } else { format!("{least} to {most}") }
    };
    match job.gpus_most {
        0 => parts.push("no GPU".to_owned()),
        most => parts.push(format!("{} GPUs", range(job.gpus, most))),
    }
    if job.gpu_memory > 0 {
        let bytes = u64::try_from(job.gpu_memory).unwrap_or(0);
        parts.push(format!("each with {}", crate::format::bytes(bytes)));
    }
    if job.hosts_most > 1 {
        parts.push(format!("on {} hosts", range(job.hosts, job.hosts_most)));
    }
    if job.ranks > 1 {
        parts.push(format!("{} processes on each", job.ranks));
    }
    for (key, value) in job.labels.as_object().into_iter().flatten() {
        parts.push(format!("label {key}={}", value.as_str().unwrap_or_default()));
    }
    parts.join(", ")
}

/// What becomes of it, in words.
fn outlook(
    job: &Job,
    attempts: &[AttemptRow],
    after: &[Job],
    sweep: Option<&Sweep>,
    workers: &[WorkerRow],
) -> String {
    let why = job.reason.as_deref();
    let badly = attempts.last().is_some_and(|last| {
        last.outcome == Some(Outcome::Failed)
            && last.exit_status == Some(i32::from(BAD_CONFIGURATION))
    });
    match job.state {
        JobState::Succeeded => String::new(),
        JobState::Running => {
            let tries = format!("try {} of {}", job.attempts_used + 1, job.max_attempts);
            match job.stop_requested.map(asked) {
                Some("pause") => {
                    format!("{tries}, is asked to pause; it writes a checkpoint first")
                }
                Some("cancel") => format!("{tries}, is asked to end; it writes a checkpoint first"),
                Some(_) => format!("{tries}, is asked to give way; it writes a checkpoint first"),
                None => tries,
            }
        }
        JobState::Paused => match why {
            Some(why) => format!("{why}; resume queues it again"),
            None => "set aside; resume queues it again".to_owned(),
        },
        JobState::Cancelled => why.filter(|why| *why != "cancelled").unwrap_or("").to_owned(),
        JobState::Failed => {
            let why = why.unwrap_or("it is not known why");
            match (badly, job.attempts_used >= job.max_attempts) {
                (true, _) => format!("{why} (not tried again: a bad configuration)"),
                (_, true) => {
                    format!("{why} ({} of {} tries used)", job.attempts_used, job.max_attempts)
                }
                _ => format!("{why} (not tried again)"),
            }
        }
        JobState::Queued => {
            let open = after.iter().filter(|parent| parent.state != JobState::Succeeded);
            let parents: Vec<String> =
                open.map(|parent| format!("{} {}", parent.short, parent.name)).collect();
            let waits = registry::waiting(job, &parents, sweep, workers, crate::format::span);
            why.map_or_else(|| waits.clone(), |why| format!("{why}; {waits}"))
        }
    }
}
