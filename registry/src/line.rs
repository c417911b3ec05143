//! A connection that stays with its process, for the statements that a worker sends for every job.
//! The pool asks the server whether a connection lives each time that it is given back: one statement
//! of two would say nothing.

use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::{Mutex, MutexGuard};

use crate::{Database, Result};

/// One that was used within this time is taken to be alive.
const FRESH: Duration = Duration::from_millis(20);

/// Where the connection lies between two statements, with the time of the last.
pub(crate) type Slot = Mutex<Option<(PgConnection, Instant)>>;

/// The connection while a statement runs. It is closed unless it is kept: who gives up waiting, or
/// gets an error, leaves none behind that still works on an old statement.
pub(crate) struct Line<'a> {
    slot: MutexGuard<'a, Option<(PgConnection, Instant)>>,
    pub connection: PgConnection,
}

impl Line<'_> {
    /// For the next statement.
    pub fn keep(mut self) {
        *self.slot = Some((self.connection, Instant::now()));
    }
}

impl Database {
    /// The connection that is kept; a new one where there is none, or the old one does not answer.
    pub(crate) async fn line(&self) -> Result<Line<'_>> {
        let mut slot = self.slot.lock().await;
        if let Some((mut connection, used)) = slot.take()
            && (used.elapsed() < FRESH || connection.ping().await.is_ok())
        {
            return Ok(Line { slot, connection });
        }
        let mut connection = self.connect().await?;
        // The plan of a claim does not hang on what the worker offers; made anew for each, it takes
        // longer than the claim.
        connection.execute("set plan_cache_mode = force_generic_plan").await?;
        Ok(Line { slot, connection })
    }
}
