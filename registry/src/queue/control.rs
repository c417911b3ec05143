//! What users ask of a job: cancel, pause, resume, retry, another priority.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::checkpoints::take_back;
use crate::find::Named;
use crate::queue::attempts::cancel_descendants;
use crate::queue::jobs::{lock_parents, select_jobs};
use crate::queue::state::{Event, Next, next};
use crate::runs::data;
use crate::samplings::output::reserve_again;
use crate::{Database, Error, Job, JobState, Result, StopRequest};

/// How a run goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct GoOn<'a> {
    /// Who lets it go on over data that is not what was recorded.
    pub accepted_by: Option<&'a str>,
    /// From the checkpoint of this step, 0 for its beginning, and not from the newest one.
    pub from: Option<i64>,
}

impl Database {
    /// Ends a job; a running one at its next checkpoint. What waits for it is cancelled too.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn cancel(&self, job: Uuid) -> Result<Job> {
        self.ask(job, Event::Cancel).await
    }

    /// Ends a job at once: an attempt that runs is killed and writes nothing more.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn cancel_now(&self, job: Uuid) -> Result<Job> {
        self.ask(job, Event::Force).await
    }

    /// Changes the priority of a job that has not ended.
    ///
    /// # Errors
    /// When it has.
    pub async fn set_priority(&self, job: Uuid, priority: i32) -> Result<Job> {
        let changed = sqlx::query!(
            "update jobs set priority = $2
             where id = $1 and state in ('queued', 'running', 'paused')",
            job,
            priority,
        )
        .execute(&self.pool)
        .await?;
        let job = self.job(job).await?;
        match changed.rows_affected() {
            0 => Err(Error::Failed(format!(
                "job {} is {}: it needs no priority",
                job.short, job.state
            ))),
            _ => Ok(job),
        }
    }

    /// Sets a job aside; a running one at its next checkpoint.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn pause(&self, job: Uuid) -> Result<Job> {
        self.ask(job, Event::Pause).await
    }

    /// Queues a paused job again.
    ///
    /// # Errors
    /// When it is not paused.
    pub async fn resume(&self, job: Uuid) -> Result<Job> {
        self.ask(job, Event::Resume).await
    }

    /// [`Database::resume`] of a run's job, from where and over what is said.
    ///
    /// # Errors
    /// When it is not paused, trains no run, or has no checkpoint of the step.
    pub async fn resume_as(&self, job: Uuid, how: GoOn<'_>) -> Result<Job> {
        self.ask_as(job, Event::Resume, how).await
    }

    /// [`Database::retry`] of a run's job, from where and over what is said.
    ///
    /// # Errors
    /// Those of [`Database::retry`]; when it trains no run, or has no checkpoint of the step.
    pub async fn retry_as(&self, job: Uuid, how: GoOn<'_>) -> Result<Job> {
        self.ask_as(job, Event::Retry, how).await
    }

    /// Gives a failed or cancelled job new tries, at once; one that waits for its next try need not
    /// wait longer. One that has not begun waits for its moment still.
    ///
    /// # Errors
    /// When it has not failed, or waits for a job that has, or another sample job writes to its place now.
    pub async fn retry(&self, job: Uuid) -> Result<Job> {
        self.ask(job, Event::Retry).await
    }

    async fn ask(&self, id: Uuid, event: Event) -> Result<Job> {
        self.ask_as(id, event, GoOn::default()).await
    }

    async fn ask_as(&self, id: Uuid, event: Event, how: GoOn<'_>) -> Result<Job> {
        let mut tx = self.pool.begin().await?;
        match step_of(&mut tx, id, event).await {
            Ok(_) => {}
            Err(error) => {
                // Now, and not some time after: whoever looks for work passes over a locked row.
                tx.rollback().await?;
                return Err(error);
            }
        }
        let job = select_jobs!("jobs where id = $1", id).fetch_one(&mut *tx).await?;
        if let Some(user) = how.accepted_by {
            data::accept(&mut tx, &job, user).await?;
        }
        if let Some(step) = how.from {
            let run = job.run_id.ok_or_else(|| {
                Error::Invalid(format!("job {} trains no run: it has no steps", job.short))
            })?;
            take_back(&mut tx, run, step).await?;
        }
        tx.commit().await?;
        Ok(job)
    }
}

/// Lets an event happen to a job, whose row is locked from here on; gives the job as it was.
///
/// # Errors
/// When the event does not fit its state.
pub(crate) async fn step_of(tx: &mut PgConnection, id: Uuid, event: Event) -> Result<Job> {
    if event == Event::Retry {
        // Before the row is locked, as a submission does it.
        reserve_again(tx, id).await?;
    }
    if matches!(event, Event::Retry | Event::Extend) {
        let parents =
            sqlx::query_scalar!("select parent_id from dependencies where job_id = $1", id)
                .fetch_all(&mut *tx)
                .await?;
        lock_parents(tx, &parents).await?;
    }
    let job = select_jobs!("jobs where id = $1 for update", id)
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Job::not_found(&id.to_string()))?;
    match next(job.state, job.stop_requested, event) {
        Err(refused) => return Err(Error::Refused { job: job.short, refused }),
        Ok(Next::State(state)) => {
            sqlx::query!(
                "update jobs
                 set state = $2, reason = case when $3 then 'cancelled' end,
                     worker_id = null, lease_expires_at = null, stop_requested = null,
                     yields_to = null, ended_at = case when $3 then now() end,
                     run_after = case when $4 and attempt > 0 then now() else run_after end,
                     attempts_used = case when $4 then 0 else attempts_used end
                 where id = $1",
                id,
                state as JobState,
                state == JobState::Cancelled,
                matches!(event, Event::Retry | Event::Extend),
            )
            .execute(&mut *tx)
            .await?;
            if job.state == JobState::Running {
                drop_attempt(tx, &job).await?;
            }
            if state == JobState::Cancelled {
                let reason = format!("job {} {state}", job.short);
                cancel_descendants(tx, id, &reason).await?;
            }
        }
        Ok(Next::Ask(request)) => {
            sqlx::query!(
                "update jobs set stop_requested = $2 where id = $1",
                id,
                request as StopRequest,
            )
            .execute(&mut *tx)
            .await?;
        }
        Ok(Next::TakeBack) => {
            sqlx::query!("update jobs set stop_requested = null where id = $1", id)
                .execute(&mut *tx)
                .await?;
        }
    }
    Ok(job)
}

/// Ends the attempt of a job that was taken away from it, and wakes whoever has it.
async fn drop_attempt(tx: &mut PgConnection, job: &Job) -> Result<()> {
    sqlx::query!("select end_by_force($1, $2)", job.id, job.attempt).execute(&mut *tx).await?;
    sqlx::query!("select pg_notify('stops', $1)", job.id.to_string()).execute(tx).await?;
    Ok(())
}
