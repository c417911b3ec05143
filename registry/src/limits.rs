//! What a process may take of the server: connections, and time for a statement.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor, PgConnection};

use crate::Lease;

/// Limits of one [`crate::Database`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The longest that the server works on a statement of the pool.
    pub statement: Duration,
    /// The longest that it works on one of the connection that is kept.
    pub line: Duration,
    /// The most connections of the pool.
    pub connections: u32,
    /// How long one of them stays when nobody wants it.
    pub idle: Duration,
    /// Nothing can be changed by them.
    pub reading: bool,
}

impl Limits {
    /// Those of a command: what somebody waits for at a terminal, and long reports.
    pub const COMMAND: Self = Self {
        statement: Duration::from_secs(600),
        line: Duration::from_secs(600),
        connections: 8,
        idle: Duration::from_secs(60),
        reading: false,
    };

    /// Those of somebody who only looks, whom nobody waits for at a terminal.
    pub const READER: Self =
        Self { statement: Duration::from_secs(60), reading: true, ..Self::COMMAND };

    /// Those of a worker or an attempt: nothing may take so long that the lease runs out meanwhile. A renewal is due
    /// after a third of the lease, waits an eighth of it at most and takes a quarter: one may fail.
    pub fn work(lease: &Lease) -> Self {
        Self {
            statement: lease.length,
            line: lease.length / 4,
            connections: 2,
            idle: Duration::from_secs(10),
            reading: false,
        }
    }
}

/// Sets up a connection: what this crate's statements rely on, and an end to each of them on the server, whose own
/// limit stays where it is shorter. A process that stands still or was cut off within a transaction would hold its
/// locks, and so keep its job from everybody, for as long as the server believes in it.
pub(crate) async fn settle(connection: &mut PgConnection, limit: Duration) -> sqlx::Result<()> {
    // One round trip; the number is ours. Compiling a statement takes longer than any of ours: of a curve seven
    // seconds, where it is drawn in a tenth of one.
    let sql = format!(
        "select set_config('default_transaction_isolation', 'read committed', false),
             set_config('jit', 'off', false),
             set_config('idle_in_transaction_session_timeout', '5s', false),
             set_config('statement_timeout', ceil(1000 * extract(epoch from least(
                 nullif(current_setting('statement_timeout')::interval, '0'),
                 make_interval(secs => {}))))::bigint::text, false)",
        limit.as_secs_f64()
    );
    connection.execute(AssertSqlSafe(sql)).await?;
    Ok(())
}

/// Lets a connection change nothing: its transactions only read, and where there is a role of readers
/// (`migrations/roles.sql`) that it may take, it has the rights of that role.
pub(crate) async fn only_read(connection: &mut PgConnection) -> sqlx::Result<()> {
    connection
        .execute(
            "select set_config('default_transaction_read_only', 'on', false);
             select set_config('role', 'palette_reader', false)
             from pg_roles
             where rolname = 'palette_reader' and pg_has_role(session_user, oid, 'member')",
        )
        .await?;
    Ok(())
}
