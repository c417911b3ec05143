//! More steps for a run. It goes on from its newest checkpoint and ends as one that was submitted with as many
//! steps.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::queue::control::step_of;
use crate::queue::state::Event;
use crate::runs::digest;
use crate::{Database, Error, JobState, Result, RunJob};

/// What changes where a run is to make another number of steps.
#[derive(Clone, Debug)]
pub struct Extension {
    /// The configuration, which differs in `train.steps` alone.
    pub config: Value,
    /// Steps in all.
    pub total_steps: i64,
    /// The payload of its job, which differs in `config_digest` alone.
    pub payload: Value,
    /// Another number of processes on each host.
    pub ranks: Option<i32>,
}

impl Database {
    /// Lets a run make another number of steps in all. One that has ended well is queued again; one that waits
    /// or is paused stays so, and may be asked for fewer, down to those that it has made.
    ///
    /// # Errors
    /// When it runs, has failed or was cancelled; when it has this number of steps already, or has made more;
    /// when it has no checkpoint to go on from.
    pub async fn extend_run(&self, run: Uuid, new: Extension) -> Result<RunJob> {
        let mut tx = self.pool.begin().await?;
        match extend(&mut tx, run, &new).await {
            Ok(()) => tx.commit().await?,
            Err(error) => {
                // Now, and not some time after: whoever looks for work passes over a locked row.
                tx.rollback().await?;
                return Err(error);
            }
        }
        Ok(RunJob { run: self.run(run).await?, job: self.job(run).await?, existed: false })
    }
}

async fn extend(tx: &mut PgConnection, run: Uuid, new: &Extension) -> Result<()> {
    let before = step_of(tx, run, Event::Extend).await?;
    // A function of the database: users have no right to the rest of a configuration.
    let changed = sqlx::query_scalar!(
        r#"select extend_run($1, $2, $3, $4, $5) as "changed!""#,
        run,
        new.total_steps,
        new.config,
        digest(&new.config),
        new.payload,
    )
    .fetch_one(&mut *tx)
    .await?;
    let short = &before.short;
    if !changed {
        return Err(Error::Invalid(format!(
            "run {short} makes so many steps already, or has made more"
        )));
    }
    if let Some(ranks) = new.ranks {
        let ranked = sqlx::query!("update jobs set ranks = $2 where id = $1", run, ranks);
        ranked.execute(&mut *tx).await?;
    }
    let kept =
        sqlx::query!("select from checkpoints where run_id = $1 and state = 'kept' limit 1", run);
    let kept = kept.fetch_optional(tx).await?.is_some();
    if before.state == JobState::Succeeded && !kept {
        return Err(Error::Invalid(format!(
            "run {short} has no checkpoint to go on from any more; submit it anew with more steps"
        )));
    }
    Ok(())
}
