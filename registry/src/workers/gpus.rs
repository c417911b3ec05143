//! Which GPUs attempts and seats of gangs have, whatever host or container their workers see: a UUID names one card in the world, so that
//! of two attempts that were given the same one must not run.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::queue::fence::Fence;
use crate::{Database, Result};

/// Serializes those who take GPUs, as an advisory lock.
const TAKING: i64 = 0x7061_6c67_7075;

/// A GPU that an attempt, or a seat, of another worker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What `CUDA_VISIBLE_DEVICES` calls it.
    pub uuid: String,
    /// The worker.
    pub worker: String,
    /// Where that runs.
    pub host: String,
    /// The job, by its short id.
    pub job: String,
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "job {} of worker {} on {} has it", self.job, self.worker, self.host)
    }
}

macro_rules! taken {
    ($worker:expr, $uuids:expr) => {
        sqlx::query_as!(
            Taken,
            r#"select uuid as "uuid!", workers.name as worker, workers.host, short as "job!"
               from jobs
               cross join lateral (
                   select attempts.worker_id, attempts.gpus from attempts
                   where job_id = jobs.id and number = jobs.attempt
                   union all
                   select seats.worker_id, seats.gpus from seats
                   where job_id = jobs.id and seats.attempt = jobs.attempt and seats.ended_at is null
               ) as place
               join workers on workers.id = place.worker_id
               cross join unnest(string_to_array(place.gpus, ',')) as uuid
               where state = 'running' and place.worker_id <> $1 and uuid = any($2)
                   and lease_expires_at > now()"#,
            $worker,
            $uuids,
        )
    };
}

impl Database {
    /// Those of these GPUs that attempts of other workers have.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn taken_gpus(&self, worker: Uuid, uuids: &[String]) -> Result<Vec<Taken>> {
        Ok(taken!(worker, uuids).fetch_all(&self.pool).await?)
    }

    /// Notes that an attempt has these GPUs, unless one of another worker has any of them: that one is returned.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_gpus(
        &self,
        worker: Uuid,
        fence: Fence,
        uuids: &[String],
    ) -> Result<Option<Taken>> {
        let mut tx = self.pool.begin().await?;
        let taken = gpus_taken(&mut tx, worker, uuids).await?;
        if taken.is_none() {
            sqlx::query!(
                "update attempts set gpus = $3
                 where job_id = $1 and number = $2 and ended_at is null",
                fence.job,
                fence.number,
                uuids.join(","),
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
        }
        Ok(taken)
    }
}

/// One of these GPUs that another worker has. Until the transaction ends nobody else takes any.
pub(crate) async fn gpus_taken(
    tx: &mut PgConnection,
    worker: Uuid,
    uuids: &[String],
) -> Result<Option<Taken>> {
    if uuids.is_empty() {
        return Ok(None);
    }
    sqlx::query!("select pg_advisory_xact_lock($1)", TAKING).execute(&mut *tx).await?;
    Ok(taken!(worker, uuids).fetch_all(tx).await?.into_iter().next())
}
