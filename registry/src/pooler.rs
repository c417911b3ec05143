//! A pooler between us and the server, such as PgBouncer. In session mode each connection has a server process of
//! its own, and all is well. In transaction and statement mode the next statement goes to another one: what was set, what is
//! listened to and what was prepared is lost or somebody else's, now and then and without a word. So such a pooler
//! is recognized and refused.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use uuid::Uuid;

use crate::Result;

/// Why and what to do; goes on after "the database".
pub(crate) const REMEDY: &str = "is reached through a pooler that changes the server process from one transaction to the \
    next (PgBouncer: pool_mode transaction or statement), which loses settings, notifications and prepared statements: let \
    DATABASE_URL name the server itself, or set pool_mode = session for this database";

/// Whether two sessions share server processes. Sure in transaction and statement mode as long as nobody else is
/// quicker, which is tried thrice; never true in session mode.
pub(crate) async fn shares(options: &PgConnectOptions) -> Result<bool> {
    const ROUNDS: usize = 3;
    /// A pool that is used up lets one wait: then each session has its own.
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut first = PgConnection::connect_with(options).await?;
    for _ in 0..ROUNDS {
        let round = tokio::time::timeout(PATIENCE, round(options, &mut first));
        match round.await {
            Err(_) => return Ok(false),
            Ok(Ok(true)) => return Ok(true),
            Ok(Ok(false)) => {}
            Ok(Err(error)) if refuses_transactions(&error) => return Ok(true),
            Ok(Err(error)) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// One session marks the server process that it has; a second one, in a transaction, has taken the same one, or the
/// first has another one then.
async fn round(options: &PgConnectOptions, first: &mut PgConnection) -> sqlx::Result<bool> {
    let mark = Uuid::new_v4().simple().to_string();
    let set = format!("select set_config('palette.session', '{mark}', false)");
    first.execute(AssertSqlSafe(set)).await?;
    let mut second = PgConnection::connect_with(options).await?;
    second.execute("begin").await?;
    let shared = marked(&mut second).await? == mark || marked(first).await? != mark;
    second.execute("rollback").await?;
    let _ = second.close().await;
    Ok(shared)
}

/// The mark of the server process that answers. Not prepared: a pooler may lose that.
async fn marked(connection: &mut PgConnection) -> sqlx::Result<String> {
    let row = connection.fetch_one("select coalesce(current_setting('palette.session', true), '')");
    row.await?.try_get(0)
}

/// What PgBouncer answers in statement mode.
fn refuses_transactions(error: &sqlx::Error) -> bool {
    error.to_string().contains("statement pooling mode")
}

/// True for the errors that tell of a pooler that mixes sessions: a prepared statement that is not there, or is
/// there already. No server says so to a session that it kept.
pub(crate) fn mixes(error: &sqlx::Error) -> bool {
    const UNKNOWN_STATEMENT: &str = "26000";
    const STATEMENT_IS_THERE: &str = "42P05";
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == UNKNOWN_STATEMENT || code == STATEMENT_IS_THERE)
        || refuses_transactions(error)
}
