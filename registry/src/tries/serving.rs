//! Making tries: the job that does it, and what its attempts write. Every write is fenced by the attempt and counts
//! only while the try is the attempt's: one that was cancelled, removed or given to another is left alone, which the
//! methods say by `false`.

use serde_json::json;
use uuid::Uuid;

use super::{NewTryPicture, Try, TryPart, TryPicture, insert_picture, lock, select_tries};
use crate::queue::fence::Fence;
use crate::queue::jobs::{insert_job, new_id, select_jobs};
use crate::{Database, GpuCount, Job, JobKind, NewJob, Result};

/// As often a try is begun; what ended the process each time will do so again.
const MOST_CLAIMS: i32 = 3;

/// How the job that makes tries is queued.
#[derive(Clone, Debug)]
pub struct TryService {
    /// Whose job it is.
    pub owner: String,
    /// Higher goes first.
    pub priority: i32,
    /// The GPUs that it takes.
    pub gpus: GpuCount,
    /// It may ask jobs of lower priority to give way.
    pub preempts: bool,
    /// It ends after this number of seconds without work.
    pub idle: u32,
    /// No worker takes it: it is run beside the room.
    pub here: bool,
    /// Also where none waits.
    pub without_tries: bool,
}

/// How a try ended.
#[derive(Clone, Debug)]
pub enum TryEnd {
    /// With these outputs.
    Done(Vec<NewTryPicture>),
    /// It cannot be made, for this reason.
    Failed(String),
}

impl Database {
    /// Queues the job that makes tries, where some wait and there is none that runs or waits. After one that failed
    /// there is no other for a minute, unless `at_once`. The job, where it was queued.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn serve_tries(&self, service: &TryService, at_once: bool) -> Result<Option<Job>> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx).await?;
        let wanted = sqlx::query_scalar!(
            r#"select ($2 or exists (select from tries where state = 'waiting'
                       or (state = 'running' and not exists (
                           select from jobs where jobs.id = tries.job_id and jobs.attempt = tries.attempt
                               and jobs.state = 'running'))))
                   and not exists (select from jobs where kind = 'try' and state in ('queued', 'running'))
                   and ($1 or not exists (select from jobs where kind = 'try' and state = 'failed'
                       and ended_at > now() - interval '1 minute')) as "wanted!""#,
            at_once,
            service.without_tries,
        )
        .fetch_one(&mut *tx)
        .await?;
        if !wanted {
            return Ok(None);
        }
        // One that was set aside by the end of its process is not taken up again.
        sqlx::query!(
            "update jobs set state = 'cancelled', ended_at = now(), reason = 'another makes the tries'
             where kind = 'try' and state = 'paused'"
        )
        .execute(&mut *tx)
        .await?;
        let payload = json!({ "version": 1, "idle": service.idle });
        let new = NewJob {
            owner: service.owner.clone(),
            priority: service.priority,
            gpus: service.gpus,
            preempts: service.preempts,
            held: service.here,
            ..NewJob::new(JobKind::Try, "tries", payload)
        };
        let id = new_id(&mut tx).await?;
        let job = insert_job(&mut tx, id, new).await?;
        tx.commit().await?;
        Ok(Some(job))
    }

    /// The newest job that makes, made or will make tries.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn try_job(&self) -> Result<Option<Job>> {
        let row = select_jobs!("jobs where kind = 'try' order by created_at desc limit 1");
        Ok(row.fetch_optional(&self.pool).await?)
    }

    /// Takes the next try: the oldest of the owner whose last one began the longest ago. One that its maker lost is
    /// taken again, three times in all.
    pub(crate) async fn claim_try(&self, fence: Fence) -> Result<Option<Try>> {
        let mut tx = self.fenced(fence).await?;
        sqlx::query!(
            "update tries set state = 'failed', ended_at = now(),
                 reason = 'the process that made it died ' || claims || ' times: see the log of job '
                     || left(job_id::text, 8)
             where state = 'running' and claims >= $3
               and ((job_id = $1 and attempt = $2) or not exists (
                   select from jobs
                   where jobs.id = tries.job_id and jobs.attempt = tries.attempt and jobs.state = 'running'))",
            fence.job,
            fence.number,
            MOST_CLAIMS,
        )
        .execute(&mut *tx)
        .await?;
        let claimed = select_tries!(
            @ ["update tries set state = 'running', job_id = $1, attempt = $2, claims = claims + 1,
                    started_at = coalesce(started_at, now()), steps_done = 0, steps_total = null
                where id = (
                    select id from tries as this
                    where state = 'waiting' or (state = 'running' and ((job_id = $1 and attempt = $2) or not exists (
                        select from jobs
                        where jobs.id = this.job_id and jobs.attempt = this.attempt and jobs.state = 'running')))
                    order by (select max(started_at) from tries as other
                              where other.owner = this.owner) nulls first, created_at
                    limit 1
                    for update skip locked)
                returning "], (""),
            fence.job,
            fence.number,
        )
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(claimed) = &claimed {
            sqlx::query!(
                "delete from try_pictures where try_id = $1 and what in ('given', 'frame', 'output')",
                claimed.id,
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(claimed)
    }

    /// The files that a try was given with.
    pub(crate) async fn try_files(&self, id: Uuid) -> Result<Vec<(TryPicture, Vec<u8>)>> {
        let rows = sqlx::query!(
            r#"select what as "what: TryPart", sample, step, width, height, media, digest, bytes
               from try_pictures where try_id = $1 and what in ('input', 'mask') order by what"#,
            id,
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            let picture = TryPicture {
                what: row.what,
                sample: row.sample,
                step: row.step,
                width: row.width,
                height: row.height,
                media: row.media,
                digest: row.digest,
                size: row.bytes.len() as i64,
            };
            (picture, row.bytes)
        });
        Ok(rows.collect())
    }

    /// Enters with which weights a try is made.
    pub(crate) async fn begin_try(
        &self,
        fence: Fence,
        id: Uuid,
        step: Option<i64>,
        digest: &str,
        total: i64,
    ) -> Result<bool> {
        let mut tx = self.fenced(fence).await?;
        let done = sqlx::query!(
            "update tries set step = $4, digest = $5, steps_total = $6
             where id = $1 and state = 'running' and job_id = $2 and attempt = $3",
            id,
            fence.job,
            fence.number,
            step,
            digest,
            total,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Enters how far a try is, and pictures of it.
    pub(crate) async fn advance_try(
        &self,
        fence: Fence,
        id: Uuid,
        done: i64,
        pictures: &[NewTryPicture],
    ) -> Result<bool> {
        let mut tx = self.fenced(fence).await?;
        let own = sqlx::query!(
            "update tries set steps_done = $4
             where id = $1 and state = 'running' and job_id = $2 and attempt = $3",
            id,
            fence.job,
            fence.number,
            done,
        )
        .execute(&mut *tx)
        .await?;
        if own.rows_affected() == 0 {
            return Ok(false);
        }
        for picture in pictures {
            insert_picture(&mut tx, id, picture).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Ends a try.
    pub(crate) async fn end_try(&self, fence: Fence, id: Uuid, end: &TryEnd) -> Result<bool> {
        let (state, reason, pictures) = match end {
            TryEnd::Done(pictures) => (super::TryState::Done, None, pictures.as_slice()),
            TryEnd::Failed(reason) => (super::TryState::Failed, Some(reason.as_str()), &[][..]),
        };
        let mut tx = self.fenced(fence).await?;
        let own = sqlx::query!(
            "update tries set state = $4, reason = left($5, 4000), ended_at = now(),
                 steps_done = case when $4 = 'done'::try_state then coalesce(steps_total, steps_done) else steps_done end
             where id = $1 and state = 'running' and job_id = $2 and attempt = $3",
            id,
            fence.job,
            fence.number,
            state as super::TryState,
            reason,
        )
        .execute(&mut *tx)
        .await?;
        if own.rows_affected() == 0 {
            return Ok(false);
        }
        for picture in pictures {
            insert_picture(&mut tx, id, picture).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Gives a try back that its maker has to leave.
    pub(crate) async fn leave_try(&self, fence: Fence, id: Uuid) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        sqlx::query!(
            "update tries set state = 'waiting', claims = claims - 1
             where id = $1 and state = 'running' and job_id = $2 and attempt = $3",
            id,
            fence.job,
            fence.number,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}
