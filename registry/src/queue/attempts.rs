//! Attempts as the database knows them: their logs, their ends, and those whose lease ran out. Owns
//! `attempts` from its opening by a claim on, and what the end of one makes of its job.

use std::time::Duration;

use serde::Serialize;
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::queue::fence::{Fence, Idle};
use crate::queue::gangs::TOO_FEW_HOSTS;
use crate::queue::jobs::select_jobs;
use crate::queue::state::{Event, Next, next};
use crate::{Database, Error, Job, JobState, Lease, Result, StopRequest};

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
pub struct Tail {
    /// Its last lines.
    pub text: String,
    /// Bytes of the whole log up to the end of `text`.
    pub bytes: i64,
}

/// How an attempt ended, with what is known about it.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// The exit status of its process, where that ended by itself.
    pub exit_status: Option<i32>,
    /// The signal that ended its process.
    pub signal: Option<i32>,
    /// Why, in one line.
    pub reason: Option<String>,
    /// The end of its log, where it has one.
    pub log: Option<Tail>,
    /// Another try may help.
    pub again: bool,
    /// When stopped without a wish: set it aside instead of queueing it again.
    pub hold: bool,
    /// Stopped though nobody asked: the next attempt waits as after a first failure, so that a program that always
    /// does so is not started without an end; where too few hosts came several times in a row, as after as many
    /// failures.
    pub by_itself: bool,
}

impl Ended {
    /// This end; another try may help, and nothing else is known.
    pub fn new(outcome: Outcome, reason: Option<String>) -> Self {
        Self {
            outcome,
            exit_status: None,
            signal: None,
            reason,
            log: None,
            again: true,
            hold: false,
            by_itself: false,
        }
    }

    /// Whether it carries texts from outside.
    pub fn has_texts(&self) -> bool {
        self.log.is_some() || self.reason.as_deref().is_some_and(|reason| !reason.is_ascii())
    }

    /// Leaves out what a database may not take: the log, and of the reason what is not ASCII.
    pub fn drop_texts(&mut self) {
        self.log = None;
        let plain = |c: char| if c.is_ascii() && c != '\0' { c } else { '?' };
        self.reason = self.reason.take().map(|reason| reason.chars().map(plain).collect());
    }
}

/// What became of a job whose attempt ended.
#[derive(Clone, Debug)]
pub struct After {
    /// The job, by its short id.
    pub short: String,
    /// Its name.
    pub name: String,
    /// Its state now.
    pub state: JobState,
    /// Seconds before it is tried again, where it is queued.
    pub wait: Duration,
}

/// What a worker finds at a look at the queue, before it claims.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The jobs that were taken back from lost workers.
    pub taken_back: Vec<After>,
    /// A gang waits for hosts: there may be a seat to claim.
    pub gang_assembles: bool,
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
    /// Ranks on its host, once they are known.
    pub ranks: Option<i32>,
    /// Ranks in all.
    pub world: Option<i32>,
}

/// An attempt of a job that has ended, and its log.
#[derive(Clone, Debug)]
pub struct EndedAttempt {
    /// The job.
    pub job: Uuid,
    /// Its short id.
    pub short: String,
    /// The number of the attempt.
    pub number: i32,
    /// The file of its log on the host of the attempt, unless that was removed.
    pub log_path: Option<String>,
}

impl Database {
    /// The attempts that a host made of jobs that ended before then, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ended_attempts(
        &self,
        host: &str,
        ended_before: OffsetDateTime,
    ) -> Result<Vec<EndedAttempt>> {
        let rows = sqlx::query_as!(
            EndedAttempt,
            r#"select job_id as job, short, number, log_path
               from attempts join jobs on jobs.id = job_id
               where host = $1 and attempts.ended_at is not null
                 and state in ('succeeded', 'failed', 'cancelled') and jobs.ended_at < $2
               order by jobs.created_at, jobs.id, number"#,
            host,
            ended_before,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Notes where an attempt writes its log, and the UUIDs of the GPUs that it was given, with commas;
    /// empty where it was given none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn note_start(&self, fence: Fence, log: &str, gpus: &str) -> Result<()> {
        let noted = sqlx::query!(
            "update attempts set log_path = $3, gpus = $4
             where job_id = $1 and number = $2 and ended_at is null",
            fence.job,
            fence.number,
            log,
            gpus,
        );
        self.on_line(async |connection| {
            noted.execute(connection).await?;
            Ok(())
        })
        .await
    }

    /// Keeps the end of the log of an attempt that goes on.
    pub async fn keep_log(&self, fence: Fence, tail: &Tail) -> Result<()> {
        let kept = sqlx::query!(
            "update attempts set log_tail = $3, log_bytes = $4
             where job_id = $1 and number = $2 and ended_at is null",
            fence.job,
            fence.number,
            tail.text,
            tail.bytes,
        );
        self.on_line(async |connection| {
            kept.execute(connection).await?;
            Ok(())
        })
        .await
    }

    /// Ends an attempt and moves its job on.
    pub async fn finish(&self, fence: Fence, ended: &Ended, lease: &Lease) -> Result<After> {
        if ended.outcome == Outcome::Succeeded {
            return self.succeed(fence, ended).await;
        }
        self.on_line(async |connection| {
            let mut tx = connection.begin().await?;
            let job = select_jobs!(
                "jobs where id = $1 and attempt = $2 and lease_expires_at is not null for update",
                fence.job,
                fence.number,
            )
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| fence.stale())?;
            let after = end_attempt(&mut tx, &job, ended, lease).await?;
            tx.commit().await?;
            Ok(after)
        })
        .await
    }

    /// Ends an attempt that did the job, in one statement: whatever was asked of it meanwhile, the
    /// job is done.
    async fn succeed(&self, fence: Fence, ended: &Ended) -> Result<After> {
        let done = sqlx::query!(
            "with done as (
                 update jobs
                 set state = 'succeeded', reason = null, worker_id = null,
                     lease_expires_at = null, stop_requested = null, yields_to = null,
                     ended_at = now()
                 where id = $1 and attempt = $2 and lease_expires_at is not null
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
        );
        let row =
            self.on_line(async |connection| Ok(done.fetch_optional(connection).await?)).await?;
        let row = row.ok_or_else(|| fence.stale())?;
        Ok(After {
            short: row.short,
            name: row.name,
            state: JobState::Succeeded,
            wait: Duration::ZERO,
        })
    }

    /// Takes back the jobs whose lease ran out: their attempts are lost. Any worker does this, but not to those that
    /// it holds itself: of them it knows more.
    pub async fn reclaim(&self, lease: &Lease, held: &[Uuid]) -> Result<Vec<After>> {
        Ok(self.look(lease, held).await?.taken_back)
    }

    /// [`Database::reclaim`], which learns on its way whether a gang assembles.
    pub async fn look(&self, lease: &Lease, held: &[Uuid]) -> Result<Look> {
        let mut look = Look::default();
        while let Some(after) = self
            .on_line(async |connection| {
                // Nearly always there is none: one round trip says so.
                let found = sqlx::query!(
                    r#"select exists (
                           select from jobs where state = 'running' and lease_expires_at < now()
                             and id <> all($1)) as "lost!",
                           exists (select from gangs where assembling) as "assembling!""#,
                    held,
                );
                let found = found.fetch_one(&mut *connection).await?;
                look.gang_assembles = found.assembling;
                if !found.lost {
                    return Ok(None);
                }
                let mut tx = connection.begin().await?;
                let job = select_jobs!(
                    "jobs where state = 'running' and lease_expires_at < now() and id <> all($1)
                     order by lease_expires_at limit 1 for update skip locked",
                    held,
                )
                .fetch_optional(&mut *tx)
                .await?;
                // Another worker has them.
                let Some(job) = job else {
                    tx.rollback().await?;
                    return Ok(None);
                };
                let reason = "its worker was lost (the lease ran out)";
                let ended = Ended::new(Outcome::Lost, Some(reason.to_owned()));
                let after = end_attempt(&mut tx, &job, &ended, lease).await?;
                tx.commit().await?;
                Ok(Some(after))
            })
            .await?
        {
            look.taken_back.push(after);
        }
        Ok(look)
    }

    /// The attempts of a job, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn attempts(&self, job: Uuid) -> Result<Vec<AttemptRow>> {
        let rows = sqlx::query_as!(
            AttemptRow,
            r#"select number, workers.name as worker, attempts.host, attempts.started_at,
                   attempts.ended_at, outcome as "outcome: Outcome", exit_status, signal,
                   attempts.reason, log_path, log_tail, log_bytes, attempts.gpus, resumed_at,
                   coalesce(gangs.ranks, alone.ranks) as ranks,
                   coalesce(gangs.world, alone.ranks) as world
               from attempts
               join workers on workers.id = worker_id
               join jobs on jobs.id = attempts.job_id
               left join gangs on gangs.job_id = jobs.id and gangs.attempt = number
               cross join lateral (
                   select case
                       when jobs.kind <> 'train' or jobs.hosts_most > 1 or attempts.gpus is null then null
                       when attempts.gpus <> '' then cardinality(string_to_array(attempts.gpus, ','))
                       else jobs.ranks end as ranks) as alone
               where attempts.job_id = $1 order by number"#,
            job,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}

impl Idle {
    /// Notes that the log of an attempt of the job was removed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_log(&mut self, number: i32) -> Result<()> {
        sqlx::query!(
            "update attempts set log_path = null where job_id = $1 and number = $2",
            self.job,
            number,
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }
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
    let wait = match state {
        JobState::Queued if counts => lease.back_off(used),
        JobState::Queued if ended.by_itself && asked.is_none() => {
            lease.back_off(1 + gatherings_in_vain(tx, job, ended).await?)
        }
        _ => 0.0,
    };
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

/// Of an attempt for which too few hosts came, how many before it ended so, one after another.
async fn gatherings_in_vain(tx: &mut PgConnection, job: &Job, ended: &Ended) -> Result<i32> {
    if !ended.reason.as_ref().is_some_and(|reason| reason.starts_with(TOO_FEW_HOSTS)) {
        return Ok(0);
    }
    let before = sqlx::query_scalar!(
        r#"select $2 - 1 - coalesce(max(number), 0) as "before!" from attempts
           where job_id = $1 and number < $2 and not coalesce(starts_with(reason, $3), false)"#,
        job.id,
        job.attempt,
        TOO_FEW_HOSTS,
    );
    Ok(before.fetch_one(tx).await?)
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
