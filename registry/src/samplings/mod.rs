//! Sample jobs. Owns `samplings`; the work of a job is cut into [`chunks`].
//!
//! Where a sample job is to have several workers at once it has shares: jobs that take chunks of it
//! as long as it is queued or running, and are done when no chunk is free. The job itself does the
//! same, waits for what the shares have taken, and ends the work. So it needs none of them.

pub(crate) mod chunks;
pub(crate) mod output;

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::queue::jobs::{insert_job, new_id, with_submit_key};
use crate::queue::request;
use crate::{At, Database, Error, Job, JobState, NewJob, Result, Run, RunRef, Submitted};

/// A sample job to queue.
#[derive(Clone, Debug)]
pub struct NewSampling {
    /// The run whose weights draw, where there is one.
    pub run_id: Option<Uuid>,
    /// The step of its checkpoint, which then stays until the job has ended. Where it is left out
    /// it is that of the payload's `run`, if that is written `RUN@STEP`; otherwise it is not known
    /// before an attempt chooses ([`crate::Attempt::checkpoint_of`]).
    pub step: Option<i64>,
    /// What is drawn over.
    pub dataset_uri: String,
    /// The task, as the tools write it.
    pub task: String,
    /// Where the outputs go.
    pub output_uri: String,
    /// How many other workers may take part: so many shares are queued behind the job, as it is but
    /// for their names and payloads.
    pub shares: u32,
    /// The job; its `run_id` is set to that of the sampling.
    pub job: NewJob,
}

/// The key of a share's payload under which the job stands that it is a share of.
const SHARE_OF: &str = "share_of";

impl Job {
    /// The sample job that this one is a share of.
    pub fn share_of(&self) -> Option<Uuid> {
        self.payload.get(SHARE_OF)?.as_str()?.parse().ok()
    }
}

/// A row of `samplings`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, as in NewSampling")]
pub struct Sampling {
    pub job_id: Uuid,
    pub run_id: Option<Uuid>,
    pub step: Option<i64>,
    pub dataset_uri: String,
    pub task: String,
    pub output_uri: String,
}

/// The step that the payload of a sample job names; none for `@best` and `@latest`.
fn named_step(payload: &Value) -> Option<i64> {
    match payload.get("run")?.as_str()?.parse::<RunRef>().ok()?.at {
        At::Step(step) => Some(step),
        At::Best | At::Latest => None,
    }
}

/// How far a sample job is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Progress {
    /// Chunks whose output is on disk.
    pub done: i64,
    /// Chunks in all; 0 before its first attempt has cut them.
    pub total: i64,
}

/// A sample job: what it draws, where to, and how far it is.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns of jobs and samplings, described in migrations/")]
pub struct SampleJob {
    pub job_id: Uuid,
    pub short: String,
    pub name: String,
    pub state: JobState,
    pub run_id: Option<Uuid>,
    pub step: Option<i64>,
    pub dataset_uri: String,
    pub task: String,
    pub output_uri: String,
    pub chunks: Progress,
}

impl Database {
    /// Queues a sample job, in one transaction with what it draws.
    ///
    /// # Errors
    /// Those of [`Database::submit`]; a checkpoint that retires; a place that another sample job which has
    /// not ended writes to.
    pub async fn submit_sampling(&self, new: NewSampling) -> Result<Submitted> {
        let mut tx = self.pool.begin().await?;
        let mut request = request::of_job(&new.job);
        request.insert("shares".into(), new.shares.into());
        if let Some(job) = with_submit_key(&mut tx, &new.job, request).await? {
            return Ok(Submitted { job, existed: true });
        }
        output::reserve(&mut tx, None, &new.output_uri).await?;
        let job = NewJob { run_id: new.run_id.or(new.job.run_id), ..new.job };
        let share = NewJob { submit_key: None, ..job.clone() };
        let id = new_id(&mut tx).await?;
        let job = insert_job(&mut tx, id, job).await?;
        let step = new.step.or_else(|| named_step(&job.payload));
        // From here to the commit nothing of the run retires: see `retire_checkpoints`.
        sqlx::query!("select from runs where id = $1 for key share", new.run_id)
            .fetch_optional(&mut *tx)
            .await?;
        let retiring = sqlx::query_scalar!(
            "select uri from checkpoints where run_id = $1 and step = $2 and state = 'retiring'",
            new.run_id,
            step,
        )
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(uri) = retiring {
            return Err(Error::Invalid(format!(
                "{uri} is being removed to make room: choose another checkpoint of the run"
            )));
        }
        sqlx::query!(
            "insert into samplings (job_id, run_id, step, dataset_uri, task, output_uri)
             values ($1, $2, $3, $4, $5, $6)",
            job.id,
            new.run_id,
            step,
            new.dataset_uri,
            new.task,
            new.output_uri,
        )
        .execute(&mut *tx)
        .await?;
        for number in 1..=new.shares {
            let name = format!("{}-share-{number}", job.name);
            let payload = json!({ SHARE_OF: job.id });
            let id = new_id(&mut tx).await?;
            insert_job(&mut tx, id, NewJob { name, payload, ..share.clone() }).await?;
        }
        tx.commit().await?;
        Ok(Submitted { job, existed: false })
    }

    /// The training that a sample job waits for: that of a run which has not ended, unless the
    /// checkpoint that is asked for is there and will not change, or with `now` is there.
    ///
    /// # Errors
    /// Where the run will never have the checkpoint: it has ended without, or makes fewer steps.
    pub async fn training_before(
        &self,
        run: &Run,
        named: &RunRef,
        now: bool,
    ) -> Result<Option<Uuid>> {
        let state = self.run(run.id).await?.state;
        let found = self.checkpoint(named).await;
        let there = found.is_ok();
        // An imported run has no job, and what it has.
        if matches!(state, None | Some(JobState::Succeeded)) {
            found?;
            return Ok(None);
        }
        if let At::Step(step) = named.at
            && step > run.total_steps
            && !there
        {
            return Err(Error::Invalid(format!(
                "run {} makes {} steps: it will have no checkpoint of step {step} (`trainer extend {} \
                 --steps {step}` lets it make more)",
                run.short, run.total_steps, run.short
            )));
        }
        let settled = there && (now || matches!(named.at, At::Step(_)));
        // A run's job has the run's id.
        Ok((!settled).then_some(run.id))
    }

    /// The newest sample jobs, at most `most`, with what they draw; shares are left out.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn newest_sample_jobs(&self, most: i64) -> Result<Vec<SampleJob>> {
        let rows = sqlx::query!(
            r#"select job_id, short, name, state as "state: JobState", samplings.run_id, step,
                   dataset_uri, task, output_uri, done as "done!", total as "total!"
               from samplings
               join jobs on jobs.id = job_id
               cross join lateral (
                   select count(*) as total, count(*) filter (where chunks.state = 'done') as done
                   from chunks where chunks.job_id = jobs.id
               ) chunks
               order by jobs.created_at desc, job_id limit $1"#,
            most,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| SampleJob {
                job_id: row.job_id,
                short: row.short,
                name: row.name,
                state: row.state,
                run_id: row.run_id,
                step: row.step,
                dataset_uri: row.dataset_uri,
                task: row.task,
                output_uri: row.output_uri,
                chunks: Progress { done: row.done, total: row.total },
            })
            .collect())
    }

    /// What was or is drawn with the weights of a run.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn samplings(&self, run: Uuid) -> Result<Vec<Sampling>> {
        let rows = sqlx::query_as!(
            Sampling,
            "select job_id, samplings.run_id, step, dataset_uri, task, output_uri
             from samplings join jobs on jobs.id = job_id
             where samplings.run_id = $1 order by jobs.created_at",
            run,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The sample jobs that draw with a run's weights, and the job of this id where that is one; in
    /// order of their creation.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sample_jobs(&self, id: Uuid) -> Result<Vec<SampleJob>> {
        let rows = sqlx::query!(
            r#"select job_id, short, name, state as "state: JobState", samplings.run_id, step,
                   dataset_uri, task, output_uri, done as "done!", total as "total!"
               from samplings
               join jobs on jobs.id = job_id
               cross join lateral (
                   select count(*) as total, count(*) filter (where chunks.state = 'done') as done
                   from chunks where chunks.job_id = jobs.id
               ) chunks
               where samplings.run_id = $1 or job_id = $1
               order by jobs.created_at, job_id"#,
            id,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| SampleJob {
                job_id: row.job_id,
                short: row.short,
                name: row.name,
                state: row.state,
                run_id: row.run_id,
                step: row.step,
                dataset_uri: row.dataset_uri,
                task: row.task,
                output_uri: row.output_uri,
                chunks: Progress { done: row.done, total: row.total },
            })
            .collect())
    }
}
