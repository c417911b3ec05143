//! The guard of every write that the work of a job makes: it carries (job, attempt), and counts
//! only while that attempt is the job's newest and the job runs. So a process that lost its lease
//! without knowing can harm nothing. And its counterpart, for who clears up behind jobs that do not run.
//!
//! A job runs while its lease is held, which a constraint says, and the writes ask for the lease: asked
//! for the state, the planner prefers the index of what runs, short but full of dead entries, to the key.

use sqlx::{PgConnection, Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Database, Error, JobState, Result};

/// An attempt's right to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The job.
    pub job: Uuid,
    /// The number of the attempt: the fencing token.
    pub number: i32,
}

impl Fence {
    /// The refusal of a write.
    pub(crate) fn stale(self) -> Error {
        Error::Stale { job: crate::short(&self.job), number: self.number }
    }

    /// Locks the job against being given away until the transaction ends.
    pub(crate) async fn check(self, tx: &mut PgConnection) -> Result<()> {
        sqlx::query!(
            "select from jobs where id = $1 and attempt = $2 and lease_expires_at is not null for share",
            self.job,
            self.number,
        )
        .fetch_optional(tx)
        .await?
        .map(|_| ())
        .ok_or_else(|| self.stale())
    }
}

impl Database {
    /// A transaction that only the job's newest attempt gets.
    pub(crate) async fn fenced(&self, fence: Fence) -> Result<Transaction<'static, Postgres>> {
        let mut tx = self.pool.begin().await?;
        fence.check(&mut tx).await?;
        Ok(tx)
    }
}

/// A job that does not run, and cannot begin to as long as this is held.
pub struct Idle {
    /// Ends the hold, by its end or a moment after it is dropped.
    pub(crate) tx: Transaction<'static, Postgres>,
    /// The job, and the run that it makes where it makes one.
    pub(crate) job: Uuid,
    /// Its state.
    pub state: JobState,
    /// When it ended, where it has.
    pub ended_at: Option<OffsetDateTime>,
}

impl Idle {
    /// True where it had ended for good by then.
    pub fn ended_before(&self, time: OffsetDateTime) -> bool {
        self.state.is_final() && self.ended_at.is_some_and(|ended| ended < time)
    }

    /// Takes back what was changed, and ends the hold.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn roll_back(self) -> Result<()> {
        Ok(self.tx.rollback().await?)
    }

    /// Keeps what was changed, and ends the hold.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commit(self) -> Result<()> {
        Ok(self.tx.commit().await?)
    }
}

impl Database {
    /// Holds a job that does not run; none where it does, or is not there. Workers that look for
    /// work pass over it meanwhile, and whoever claims just this job, or retries it, waits: so
    /// nothing is written under a fence of this job as long as it is held. As everywhere the row of
    /// the job is locked before that of its run.
    pub async fn idle(&self, job: Uuid) -> Result<Option<Idle>> {
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query!(
            r#"select state as "state: JobState", ended_at from jobs
               where id = $1 and state <> 'running' for no key update"#,
            job,
        )
        .fetch_optional(&mut *tx)
        .await?;
        Ok(row.map(|row| Idle { tx, job, state: row.state, ended_at: row.ended_at }))
    }
}
