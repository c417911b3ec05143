//! The guard of every write that the work of a job makes: it carries (job, attempt), and counts
//! only while that attempt is the job's newest and the job runs. So a process that lost its lease
//! without knowing can harm nothing.

use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use crate::{Database, Error, Result};

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
            "select from jobs where id = $1 and attempt = $2 and state = 'running' for share",
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
