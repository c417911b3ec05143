//! Forks: runs that begin with the whole state of another run's checkpoint, weights, averages and Adam's
//! moments, and go on from there with changes. Owns `run_origins`. A fork has a copy of the checkpoint in
//! its own folder, registered with it, so that nothing that becomes of the other run concerns it.

use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::queue::jobs::new_id;
use crate::{CheckpointRecord, Database, Result};

/// What a run begins with that is no fresh one.
#[derive(Clone, Debug)]
pub struct Fork {
    /// The id of the new run, of [`Database::new_run_id`]: its folder, which has the copy, goes by it.
    pub run: Uuid,
    /// The run whose checkpoint it is.
    pub parent: Uuid,
    /// The copy, as it lies in the new run's folder.
    pub checkpoint: CheckpointRecord,
}

/// Where a fork comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunOrigin {
    /// The run whose checkpoint it began with.
    pub run: Uuid,
    /// Its short id.
    pub short: String,
    /// Its name.
    pub name: String,
    /// The step of the checkpoint.
    pub step: i64,
    /// What identifies the checkpoint's content, a sha256 in hex.
    pub digest: String,
}

impl Database {
    /// An id for a run that is still to be submitted, as a fork.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn new_run_id(&self) -> Result<Uuid> {
        let mut connection = self.pool.acquire().await?;
        new_id(&mut connection).await
    }

    /// Where a run comes from; none for one that began at step 0.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn origin(&self, run: Uuid) -> Result<Option<RunOrigin>> {
        let row = sqlx::query_as!(
            RunOrigin,
            r#"select parent.id as "run!", parent.short as "short!", parent.name as "name!",
                   step as "step!", digest as "digest!"
               from run_origins join runs parent on parent.id = parent_id
               where run_id = $1"#,
            run,
        );
        Ok(row.fetch_optional(&self.pool).await?)
    }
}

/// Registers what a new run begins with: by a function of the database, for checkpoints are otherwise an
/// attempt's, and users have no right to them.
pub(crate) async fn insert(tx: &mut PgConnection, fork: &Fork) -> Result<()> {
    let Fork { run, parent, checkpoint } = fork;
    sqlx::query!(
        "select begin_fork($1, $2, $3, $4, $5, $6, $7)",
        run,
        parent,
        checkpoint.step,
        checkpoint.uri,
        checkpoint.bytes,
        checkpoint.digest,
        serde_json::to_value(&checkpoint.metrics).unwrap_or_default(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The step of a fork's beginning; 0 for a run that is none.
pub(crate) async fn beginning(tx: &mut PgConnection, run: Uuid) -> Result<i64> {
    let step = sqlx::query_scalar!("select step from run_origins where run_id = $1", run)
        .fetch_optional(tx)
        .await?;
    Ok(step.unwrap_or(0))
}
