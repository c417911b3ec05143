//! Claiming a job, ending its attempt, taking back what was lost. Owns `attempts`, `workers` and
//! the lease columns of `jobs`. A claim opens an attempt; exactly one attempt of a job is open
//! while it runs. No transaction is open while a job works.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::constraint;
use crate::fence::Fence;
use crate::jobs::select_jobs;
use crate::state::{Event, Next, next};
use crate::{Database, Error, Job, JobKind, JobState, Result, StopRequest};

/// The constraint that keeps a sweep within its limit.
const SWEEP_FULL: &str = "sweeps_running_check";

/// How long claims last and failures wait.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// A claim that is not renewed for so long is lost.
    pub length: Duration,
    /// What the first failure waits for its next try, give or take a half; each further one twice
    /// that, ten minutes at most.
    pub retry_delay: Duration,
}

impl Lease {
    /// 30 and 10 seconds, or `PALETTE_LEASE_SECONDS` and `PALETTE_RETRY_SECONDS`.
    ///
    /// # Errors
    /// When one of them is no number, or the lease is under a tenth of a second.
    pub fn from_env() -> Result<Self> {
        let length = seconds("PALETTE_LEASE_SECONDS", 30.0, 0.1)?;
        Ok(Self { length, retry_delay: seconds("PALETTE_RETRY_SECONDS", 10.0, 0.0)? })
    }

    /// The time to wait after the `failures`-th failure, with jitter so that what failed together
    /// is not tried together.
    fn back_off(&self, failures: i32) -> f64 {
        let doublings = failures.saturating_sub(1).clamp(0, 16);
        let delay = self.retry_delay.as_secs_f64() * f64::from(1 << doublings);
        delay.min(600.0) * (0.5 + rand::random::<f64>())
    }
}

fn seconds(variable: &str, default: f64, least: f64) -> Result<Duration> {
    let Ok(text) = std::env::var(variable) else { return Ok(Duration::from_secs_f64(default)) };
    match text.parse::<f64>() {
        Ok(value) if (least..=86_400.0).contains(&value) => Ok(Duration::from_secs_f64(value)),
        _ => Err(Error::Invalid(format!(
            "{variable} is `{text}`: a number of seconds, {least} to 86400"
        ))),
    }
}

/// One start of a process that claims jobs.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerInfo {
    /// New at every start.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// Where it runs.
    pub host: String,
    /// Its process there.
    pub pid: i32,
    /// Jobs at a time.
    pub slots: i32,
    /// GPUs that it hands out.
    pub gpus: i32,
    /// Their models.
    pub gpu_names: Vec<String>,
    /// What its jobs may ask for when it has nothing else to do.
    pub offers: Resources,
    /// How long it will work, where that is limited.
    pub ends_in: Option<Duration>,
}

impl WorkerInfo {
    /// This process.
    pub fn this_process(name: Option<String>, slots: i32, gpus: i32) -> Self {
        let host = host();
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let name = name.unwrap_or_else(|| format!("{host}-{pid}"));
        let (gpu_names, offers, ends_in) = (Vec::new(), Resources::default(), None);
        Self { id: Uuid::new_v4(), name, host, pid, slots, gpus, gpu_names, offers, ends_in }
    }
}

/// What this host calls itself.
pub fn host() -> String {
    nix::sys::utsname::uname()
        .ok()
        .and_then(|system| system.nodename().to_str().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// What a job may ask of its worker.
#[derive(Clone, Debug, Serialize)]
pub struct Resources {
    /// Kinds whose program is there.
    pub kinds: Vec<JobKind>,
    /// GPUs.
    pub gpus: i32,
    /// Bytes of the smallest of them.
    pub gpu_memory: i64,
    /// Labels, a JSON object of texts.
    pub labels: Value,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            gpus: 0,
            gpu_memory: 0,
            labels: Value::Object(Default::default()),
        }
    }
}

impl Resources {
    pub(crate) fn kind_names(&self) -> Vec<String> {
        self.kinds.iter().map(|kind| kind.name().to_owned()).collect()
    }
}

/// A job that was claimed.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The job; `attempt` is the number of the attempt that was opened.
    pub job: Job,
    /// The right to write.
    pub fence: Fence,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "attempt_outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// It did the job.
    Succeeded,
    /// It stopped because it was asked to; does not count as a try.
    Stopped,
    /// It failed.
    Failed,
    /// Its lease ran out.
    Lost,
}

/// The end of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Its last lines.
    pub text: String,
    /// Bytes of the whole log up to the end of `text`.
    pub bytes: i64,
}

/// How an attempt ended, with what is known about it.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub outcome: Outcome,
    pub exit_status: Option<i32>,
    pub signal: Option<i32>,
    pub reason: Option<String>,
    pub log: Option<Tail>,
    /// Another try may help.
    pub again: bool,
    /// When stopped without a wish: set it aside instead of queueing it again.
    pub hold: bool,
}

impl Ended {
    pub fn new(outcome: Outcome, reason: Option<String>) -> Self {
        let (exit_status, signal, log) = (None, None, None);
        Self { outcome, exit_status, signal, reason, log, again: true, hold: false }
    }
}

/// What became of a job whose attempt ended.
#[derive(Clone, Debug)]
pub(crate) struct After {
    pub short: String,
    pub name: String,
    pub state: JobState,
    /// Seconds before it is tried again, where it is queued.
    pub wait: Duration,
}

/// A row of `attempts`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, described in migrations/")]
pub struct AttemptRow {
    pub number: i32,
    pub worker: String,
    pub host: String,
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    pub outcome: Option<Outcome>,
    pub exit_status: Option<i32>,
    pub signal: Option<i32>,
    pub reason: Option<String>,
    pub log_path: Option<String>,
    pub log_tail: Option<String>,
    pub log_bytes: i64,
    pub gpus: Option<String>,
    pub resumed_at: Option<i64>,
}

impl Database {
    /// Makes a worker known.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn register_worker(&self, worker: &WorkerInfo) -> Result<()> {
        sqlx::query!(
            "insert into workers (id, name, host, pid, slots, gpus, gpu_names, gpu_memory, labels,
                 kinds, version, ends_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
                 now() + make_interval(secs => $12))",
            worker.id,
            worker.name,
            worker.host,
            worker.pid,
            worker.slots,
            worker.gpus,
            &worker.gpu_names,
            worker.offers.gpu_memory,
            worker.offers.labels,
            &worker.offers.kind_names(),
            env!("CARGO_PKG_VERSION"),
            worker.ends_in.map(|span| span.as_secs_f64()),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Notes that a worker ended in order.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_worker(&self, worker: Uuid) -> Result<()> {
        sqlx::query!("update workers set ended_at = now() where id = $1", worker)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Claims the best job that fits: highest priority, then oldest, parents succeeded, time come,
    /// room in its sweep. Any number of workers may ask at once; each job goes to one of them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn claim(
        &self,
        worker: &WorkerInfo,
        resources: &Resources,
        lease: &Lease,
    ) -> Result<Option<Claimed>> {
        loop {
            match self.try_claim(worker, resources, lease).await {
                // Another worker took the last place of a sweep at the same moment: look again.
                Err(Error::Database(error)) if constraint(&error) == Some(SWEEP_FULL) => {}
                result => return result,
            }
        }
    }

    async fn try_claim(
        &self,
        worker: &WorkerInfo,
        resources: &Resources,
        lease: &Lease,
    ) -> Result<Option<Claimed>> {
        let row = select_jobs!(
            with "with candidate as (
                 select id from jobs
                 where state = 'queued' and run_after <= now()
                   and kind = any($4::text[]::job_kind[])
                   and gpus <= $5 and (gpus = 0 or gpu_memory <= $6) and labels <@ $7
                   and not exists (
                       select from dependencies join jobs parent on parent.id = parent_id
                       where job_id = jobs.id and parent.state <> 'succeeded')
                   and (sweep_id is null or not exists (
                       select from sweeps where sweeps.id = sweep_id and running >= at_most))
                 order by priority desc, created_at, id
                 limit 1
                 for update skip locked
             ), claimed as (
                 update jobs
                 set state = 'running', attempt = attempt + 1, worker_id = $1, reason = null,
                     lease_expires_at = now() + make_interval(secs => $3),
                     started_at = coalesce(started_at, now()), ended_at = null
                 from candidate where jobs.id = candidate.id
                 returning jobs.*
             ), opened as (
                 insert into attempts (job_id, number, worker_id, host)
                 select id, attempt, $1, $2 from claimed
             ) "
            "claimed",
            worker.id,
            worker.host,
            lease.length.as_secs_f64(),
            &resources.kind_names(),
            resources.gpus,
            resources.gpu_memory,
            resources.labels,
        );
        Ok(row.fetch_optional(&self.pool).await?.map(claimed))
    }

    /// Claims this job, whatever it needs, where it is queued or set aside and its parents have
    /// succeeded: somebody runs it in the foreground.
    ///
    /// # Errors
    /// When it is in another state or waits for a parent.
    pub async fn claim_job(
        &self,
        worker: &WorkerInfo,
        job: Uuid,
        lease: &Lease,
    ) -> Result<Claimed> {
        let row = select_jobs!(
            with "with claimed as (
                 update jobs
                 set state = 'running', attempt = attempt + 1, worker_id = $1, reason = null,
                     lease_expires_at = now() + make_interval(secs => $3),
                     started_at = coalesce(started_at, now()), ended_at = null
                 where id = $4 and state in ('queued', 'paused') and not exists (
                     select from dependencies join jobs parent on parent.id = parent_id
                     where job_id = jobs.id and parent.state <> 'succeeded')
                 returning jobs.*
             ), opened as (
                 insert into attempts (job_id, number, worker_id, host)
                 select id, attempt, $1, $2 from claimed
             ) "
            "claimed",
            worker.id,
            worker.host,
            lease.length.as_secs_f64(),
            job,
        );
        let row =
            row.fetch_optional(&self.pool).await.map_err(|error| match constraint(&error) {
                Some(SWEEP_FULL) => Error::Invalid(
                    "as many jobs of its sweep run as may at once: wait, or raise the limit".into(),
                ),
                _ => error.into(),
            })?;
        if let Some(row) = row {
            return Ok(claimed(row));
        }
        let job = self.job(job).await?;
        match next(job.state, job.stop_requested, Event::Claim) {
            Err(refused) if job.state != JobState::Paused => {
                Err(Error::Refused { job: job.short, refused })
            }
            _ => Err(Error::Invalid(format!(
                "job {0} waits for another job (see `scheduler show {0}`)",
                job.short
            ))),
        }
    }

    /// Notes where an attempt writes its log, and the GPUs that it was given.
    pub(crate) async fn note_start(
        &self,
        fence: Fence,
        log: &str,
        gpus: Option<&str>,
    ) -> Result<()> {
        sqlx::query!(
            "update attempts set log_path = $3, gpus = $4
             where job_id = $1 and number = $2 and ended_at is null",
            fence.job,
            fence.number,
            log,
            gpus,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Keeps the end of the log of an attempt that goes on.
    pub(crate) async fn keep_log(&self, fence: Fence, tail: &Tail) -> Result<()> {
        sqlx::query!(
            "update attempts set log_tail = $3, log_bytes = $4
             where job_id = $1 and number = $2 and ended_at is null",
            fence.job,
            fence.number,
            tail.text,
            tail.bytes,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Ends an attempt and moves its job on.
    pub(crate) async fn finish(&self, fence: Fence, ended: &Ended, lease: &Lease) -> Result<After> {
        if ended.outcome == Outcome::Succeeded {
            return self.succeed(fence, ended).await;
        }
        let mut tx = self.pool.begin().await?;
        let job = select_jobs!(
            "jobs where id = $1 and attempt = $2 and state = 'running' for update",
            fence.job,
            fence.number,
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| fence.stale())?;
        let after = end_attempt(&mut tx, &job, ended, lease).await?;
        tx.commit().await?;
        Ok(after)
    }

    /// Ends an attempt that did the job, in one statement: whatever was asked of it meanwhile, the
    /// job is done.
    async fn succeed(&self, fence: Fence, ended: &Ended) -> Result<After> {
        let row = sqlx::query!(
            "with done as (
                 update jobs
                 set state = 'succeeded', reason = null, worker_id = null,
                     lease_expires_at = null, stop_requested = null, yields_to = null,
                     ended_at = now()
                 where id = $1 and attempt = $2 and state = 'running'
                 returning id, attempt, short, name
             )
             update attempts
             set ended_at = now(), outcome = 'succeeded', exit_status = $3, log_tail = $4,
                 log_bytes = $5
             from done where job_id = done.id and number = done.attempt
             returning done.short, done.name",
            fence.job,
            fence.number,
            ended.exit_status,
            ended.log.as_ref().map(|log| log.text.as_str()),
            ended.log.as_ref().map_or(0, |log| log.bytes),
        )
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| fence.stale())?;
        Ok(After {
            short: row.short,
            name: row.name,
            state: JobState::Succeeded,
            wait: Duration::ZERO,
        })
    }

    /// Takes back the jobs whose lease ran out: their attempts are lost. Any worker does this.
    pub(crate) async fn reclaim(&self, lease: &Lease) -> Result<Vec<After>> {
        let mut all = Vec::new();
        loop {
            let mut tx = self.pool.begin().await?;
            let job = select_jobs!(
                "jobs where state = 'running' and lease_expires_at < now()
                 order by lease_expires_at limit 1 for update skip locked"
            )
            .fetch_optional(&mut *tx)
            .await?;
            let Some(job) = job else { return Ok(all) };
            let reason = "its worker was lost (the lease ran out)";
            let ended = Ended::new(Outcome::Lost, Some(reason.to_owned()));
            all.push(end_attempt(&mut tx, &job, &ended, lease).await?);
            tx.commit().await?;
        }
    }

    /// The attempts of a job, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn attempts(&self, job: Uuid) -> Result<Vec<AttemptRow>> {
        let rows = sqlx::query_as!(
            AttemptRow,
            r#"select number, workers.name as worker, attempts.host, attempts.started_at,
                   attempts.ended_at, outcome as "outcome: Outcome", exit_status, signal, reason,
                   log_path, log_tail, log_bytes, attempts.gpus, resumed_at
               from attempts join workers on workers.id = worker_id
               where job_id = $1 order by number"#,
            job,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Counts what is queued or running and could come to a worker with these resources: not what
    /// is set aside or does not fit, nor what waits for such a job.
    pub(crate) async fn could_do(&self, resources: &Resources) -> Result<i64> {
        Ok(sqlx::query_scalar!(
            r#"with recursive out_of_reach as (
                 select id from jobs
                 where state = 'paused' or (state in ('queued', 'running') and not (
                     kind = any($1::text[]::job_kind[]) and gpus <= $2
                     and (gpus = 0 or gpu_memory <= $3) and labels <@ $4))
                 union
                 select job_id from dependencies join out_of_reach on parent_id = out_of_reach.id
             )
             select count(*) as "count!" from jobs
             where state in ('queued', 'running') and id not in (select id from out_of_reach)"#,
            &resources.kind_names(),
            resources.gpus,
            resources.gpu_memory,
            resources.labels,
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Counts the jobs in the states queued, running, paused.
    pub(crate) async fn open_jobs(&self) -> Result<(i64, i64, i64)> {
        let row = sqlx::query!(
            r#"select count(*) filter (where state = 'queued') as "queued!",
                   count(*) filter (where state = 'running') as "running!",
                   count(*) filter (where state = 'paused') as "paused!"
               from jobs where state in ('queued', 'running', 'paused')"#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok((row.queued, row.running, row.paused))
    }
}

fn claimed(job: Job) -> Claimed {
    let fence = Fence { job: job.id, number: job.attempt };
    Claimed { job, fence }
}

/// Writes the end of an attempt of a job whose row is locked.
async fn end_attempt(
    tx: &mut PgConnection,
    job: &Job,
    ended: &Ended,
    lease: &Lease,
) -> Result<After> {
    let counts = matches!(ended.outcome, Outcome::Failed | Outcome::Lost);
    let used = job.attempts_used + i32::from(counts);
    let again = ended.again && used < job.max_attempts;
    let event = match ended.outcome {
        Outcome::Succeeded => Event::Succeed,
        Outcome::Stopped => Event::Stop,
        Outcome::Failed => Event::Fail { again },
        Outcome::Lost => Event::Lose { again },
    };
    let asked = job.stop_requested.or(ended.hold.then_some(StopRequest::Pause));
    let state = match next(job.state, asked, event) {
        Ok(Next::State(state)) => state,
        Ok(Next::Ask(_) | Next::TakeBack) => job.state,
        Err(refused) => return Err(Error::Refused { job: job.short.clone(), refused }),
    };
    let wait = if counts && state == JobState::Queued { lease.back_off(used) } else { 0.0 };
    let reason = match state {
        JobState::Succeeded => None,
        JobState::Cancelled => Some("cancelled while it ran"),
        _ => ended.reason.as_deref(),
    };
    sqlx::query!(
        "update attempts
         set ended_at = now(), outcome = $3, exit_status = $4, signal = $5, reason = $6,
             log_tail = $7, log_bytes = $8
         where job_id = $1 and number = $2",
        job.id,
        job.attempt,
        ended.outcome as Outcome,
        ended.exit_status,
        ended.signal,
        ended.reason,
        ended.log.as_ref().map(|log| log.text.as_str()),
        ended.log.as_ref().map_or(0, |log| log.bytes),
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "update jobs
         set state = $2, reason = $3, attempts_used = $4, worker_id = null,
             lease_expires_at = null, stop_requested = null, yields_to = null,
             run_after = greatest(run_after, now() + make_interval(secs => $5)),
             ended_at = case when $6 then now() end
         where id = $1",
        job.id,
        state as JobState,
        reason,
        used,
        wait,
        state.is_final(),
    )
    .execute(&mut *tx)
    .await?;
    if matches!(state, JobState::Failed | JobState::Cancelled) {
        cancel_descendants(tx, job.id, &format!("job {} {state}", job.short)).await?;
    }
    let (short, name) = (job.short.clone(), job.name.clone());
    Ok(After { short, name, state, wait: Duration::from_secs_f64(wait) })
}

/// Cancels everything that waits, directly or not, for a job that will not succeed.
pub(crate) async fn cancel_descendants(
    tx: &mut PgConnection,
    job: Uuid,
    reason: &str,
) -> Result<()> {
    sqlx::query!(
        "with recursive doomed as (
             select job_id from dependencies where parent_id = $1
             union
             select dependencies.job_id from dependencies
             join doomed on dependencies.parent_id = doomed.job_id
         )
         update jobs set state = 'cancelled', reason = $2, ended_at = now()
         where id in (select job_id from doomed) and state in ('queued', 'paused')",
        job,
        reason,
    )
    .execute(tx)
    .await?;
    Ok(())
}
