//! A connection that stays with its process, for the short statements of its work: claims, renewals, ends, logs. So a
//! worker needs one connection however many jobs it has, and who is given back to the pool need not ask whether the
//! server still answers.
//!
//! Whoever uses it has it alone, and for a limited time.

use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::{Mutex, MutexGuard};

use crate::patience::within;
use crate::{Database, Error, Result};

/// One that was used within this time is taken to be alive.
const FRESH: Duration = Duration::from_millis(20);

/// Where the connection lies between two statements, with the time of the last.
pub(crate) type Slot = Mutex<Option<(PgConnection, Instant)>>;

impl Database {
    /// Runs `work` on the connection that is kept, or on a new one if there is none or it does not answer.
    /// After an error, or when the time is up, the connection is closed, so that no old statement is left running
    /// on it.
    pub(crate) async fn on_line<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        self.on(self.slot.lock().await, work).await
    }

    /// [`Database::on_line`] for what must not wait long (the lease). If others keep the connection busy, `work` runs
    /// on a second one, which is closed when the first is free again. For one caller at a time.
    pub(crate) async fn on_line_soon<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        let mut spare = self.spare.lock().await;
        match tokio::time::timeout(self.limits.line / 2, self.slot.lock()).await {
            Ok(slot) => {
                *spare = None;
                self.on(slot, work).await
            }
            Err(_) => self.on(spare, work).await,
        }
    }

    /// Closes the connection that is kept, if nobody uses it: where the server has one for this process and no more, the
    /// pool and the line take turns.
    pub(crate) async fn lend_line(&self) {
        if let Ok(mut slot) = self.slot.try_lock()
            && let Some((connection, _)) = slot.take()
        {
            let _ = connection.close().await;
        }
    }

    async fn on<T>(
        &self,
        mut slot: MutexGuard<'_, Option<(PgConnection, Instant)>>,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        let kept = slot.take();
        // A little longer than the server's own limit, so that it is the server who ends a statement.
        let patience = self.limits.line + self.limits.line / 8;
        let (answer, connection) = within(patience, async {
            let mut connection = self.lively(kept).await?;
            Ok((work(&mut connection).await?, connection))
        })
        .await?;
        *slot = Some((connection, Instant::now()));
        Ok(answer)
    }

    async fn lively(&self, kept: Option<(PgConnection, Instant)>) -> Result<PgConnection> {
        if let Some((mut connection, used)) = kept
            && (used.elapsed() < FRESH || connection.ping().await.is_ok())
        {
            return Ok(connection);
        }
        let mut connection = self.connect(self.limits.line).await?;
        // The plan of a claim does not hang on what the worker offers; made anew for each, it takes
        // longer than the claim.
        connection
            .execute("set plan_cache_mode = force_generic_plan")
            .await
            .map_err(Error::from)?;
        Ok(connection)
    }
}
