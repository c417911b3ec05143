//! Sample jobs and their chunks. Owns `samplings` and `chunks`. A chunk is taken by an attempt and
//! done once its output is on disk; one whose taker is not running any more is free again.
//!
//! Where a sample job is to have several workers at once it has shares: jobs that take chunks of it
//! as long as it is queued or running, and are done when no chunk is free. The job itself does the
//! same, waits for what the shares have taken, and ends the work. So it needs none of them.

use std::ops::Range;

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::queue::fence::Fence;
use crate::queue::jobs::{insert_job, new_id, with_submit_key};
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

/// Where a chunk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "chunk_state", rename_all = "lowercase")]
pub enum ChunkState {
    /// Nobody has it.
    Waiting,
    /// An attempt works on it.
    Taken,
    /// Its output is on disk.
    Done,
}

/// A range of rows of a sample job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chunk {
    /// Its number, from 0.
    pub number: i32,
    /// Its rows.
    pub rows: Range<i64>,
    /// Where it stands.
    pub state: ChunkState,
    /// Its output, once it is done.
    pub output_uri: Option<String>,
    /// The size of its output.
    pub bytes: Option<i64>,
    /// The sha256 of its output, in hex.
    pub digest: Option<String>,
}

/// How far the chunks of a sample job are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Rows whose outputs are on disk.
    pub rows_done: i64,
    /// Chunks that are not done.
    pub chunks_left: i64,
    /// Attempts that work on chunks now.
    pub workers: i64,
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
    /// Those of [`Database::submit`]; a checkpoint that retires.
    pub async fn submit_sampling(&self, new: NewSampling) -> Result<Submitted> {
        let mut tx = self.pool.begin().await?;
        if let Some(job) =
            with_submit_key(&mut tx, new.job.kind, new.job.submit_key.as_deref()).await?
        {
            return Ok(Submitted { job, existed: true });
        }
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
    /// Those of the database.
    pub async fn training_before(
        &self,
        run: &Run,
        named: &RunRef,
        now: bool,
    ) -> Result<Option<Uuid>> {
        // A run's job has the run's id.
        let training = self.job(run.id).await?;
        let there = self.checkpoint(named).await.is_ok();
        let settled = there && (now || matches!(named.at, At::Step(_)));
        Ok((training.state != JobState::Succeeded && !settled).then_some(training.id))
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

    /// The chunks of a sample job, by number.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn chunks(&self, job: Uuid) -> Result<Vec<Chunk>> {
        let rows = sqlx::query!(
            r#"select number, first_row, end_row, state as "state: ChunkState",
                   output_uri, bytes, digest
               from chunks where job_id = $1 order by number"#,
            job,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Chunk {
                number: row.number,
                rows: row.first_row..row.end_row,
                state: row.state,
                output_uri: row.output_uri,
                bytes: row.bytes,
                digest: row.digest,
            })
            .collect())
    }

    /// Cuts `rows` rows of `of` into chunks of `chunk_rows`, the last one shorter. Chunks that are
    /// there stay as they are. Gives their number.
    pub(crate) async fn create_chunks(
        &self,
        fence: Fence,
        of: Uuid,
        rows: i64,
        chunk_rows: i64,
    ) -> Result<i64> {
        const MOST: i64 = 1_000_000;
        if rows < 1 || chunk_rows < 1 || (rows - 1) / chunk_rows >= MOST {
            return Err(Error::Invalid(format!(
                "cannot cut {rows} rows into chunks of {chunk_rows}: 1 to {MOST} chunks"
            )));
        }
        let mut tx = self.fenced(fence).await?;
        sqlx::query!(
            "insert into chunks (job_id, number, first_row, end_row)
             select $1, (first / $3)::integer, first, least(first + $3, $2)
             from generate_series(0::bigint, $2::bigint - 1, $3::bigint) as first
             on conflict do nothing",
            of,
            rows,
            chunk_rows,
        )
        .execute(&mut *tx)
        .await?;
        let cut = sqlx::query_scalar!(
            r#"select count(*) as "count!" from chunks where job_id = $1
               and first_row = number * $3::bigint and end_row = least(first_row + $3, $2::bigint)"#,
            of,
            rows,
            chunk_rows,
        )
        .fetch_one(&mut *tx)
        .await?;
        if cut != (rows - 1) / chunk_rows + 1 {
            return Err(Error::Invalid(
                "the chunks of this job were cut for other rows: submit another job".into(),
            ));
        }
        tx.commit().await?;
        Ok(cut)
    }

    /// Takes the first chunk of `of` that nobody works on; none where `of` is neither queued nor
    /// running. `mine` are those that this attempt knows
    /// to have: one that it has without knowing was given to it in an answer that was lost, and is
    /// given again.
    pub(crate) async fn claim_chunk(
        &self,
        fence: Fence,
        of: Uuid,
        mine: &[i32],
    ) -> Result<Option<Chunk>> {
        let mut tx = self.fenced(fence).await?;
        let row = sqlx::query!(
            "update chunks set state = 'taken', taken_by = $2, taken_attempt = $3
             where job_id = $1 and number = (
                 select number from chunks
                 where job_id = $1
                   and exists (select from jobs where id = $1 and state in ('queued', 'running'))
                   and (state = 'waiting' or (state = 'taken' and (not exists (
                     select from jobs
                     where jobs.id = chunks.taken_by and jobs.attempt = chunks.taken_attempt
                       and jobs.state = 'running')
                   or (taken_by = $2 and taken_attempt = $3 and number <> all($4)))))
                 order by number
                 limit 1
                 for update skip locked)
             returning number, first_row, end_row",
            of,
            fence.job,
            fence.number,
            mine,
        )
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(row.map(|row| Chunk {
            number: row.number,
            rows: row.first_row..row.end_row,
            state: ChunkState::Taken,
            output_uri: None,
            bytes: None,
            digest: None,
        }))
    }

    /// How far the chunks of a sample job are.
    pub(crate) async fn tally(&self, of: Uuid) -> Result<Tally> {
        let row = sqlx::query!(
            r#"select
                   coalesce(sum(end_row - first_row) filter (where state = 'done'), 0)::bigint
                       as "rows_done!",
                   count(*) filter (where state <> 'done') as "chunks_left!",
                   count(distinct taken_by) filter (where state = 'taken') as "workers!"
               from chunks where job_id = $1"#,
            of,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Tally { rows_done: row.rows_done, chunks_left: row.chunks_left, workers: row.workers })
    }

    /// Marks a chunk done whose output is on disk.
    pub(crate) async fn finish_chunk(
        &self,
        fence: Fence,
        of: Uuid,
        number: i32,
        output_uri: &str,
        bytes: i64,
        digest: &str,
    ) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        let done = sqlx::query!(
            "update chunks
             set state = 'done', output_uri = $5, bytes = $6, digest = $7, done_at = now()
             where job_id = $1 and number = $2 and taken_by = $3 and taken_attempt = $4",
            of,
            number,
            fence.job,
            fence.number,
            output_uri,
            bytes,
            digest,
        )
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(fence.stale());
        }
        tx.commit().await?;
        Ok(())
    }
}
