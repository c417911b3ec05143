//! What a session with the server is like: what it may write, and who stands in between.

use super::Server;
use crate::{Result, pooler};

/// A session as the server gives it, before this program has set anything.
#[derive(Clone, Debug)]
pub struct Session {
    /// The encoding of the database.
    pub encoding: String,
    /// The server follows another one, and is read-only.
    pub standby: bool,
    /// Transactions are read-only unless they say otherwise.
    pub read_only: bool,
    /// The isolation of transactions that do not ask for one.
    pub isolation: String,
    /// The port that the server itself was reached at; none for a socket.
    port: Option<i32>,
    /// Seconds that its process is there.
    age: f64,
}

impl Server {
    /// What a session is like.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn session(&mut self) -> Result<Session> {
        let row = sqlx::query_as!(
            Session,
            r#"select current_setting('server_encoding') as "encoding!",
                   pg_is_in_recovery() as "standby!",
                   current_setting('default_transaction_read_only')::boolean as "read_only!",
                   current_setting('default_transaction_isolation') as "isolation!",
                   inet_server_port() as port,
                   extract(epoch from clock_timestamp() - backend_start)::float8 as "age!"
               from pg_stat_activity where pid = pg_backend_pid()"#
        );
        Ok(row.fetch_one(&mut self.connection).await?)
    }

    /// Whether something passes this connection on: the server was reached at another port than we know, or its
    /// process is older than the connection.
    pub fn is_passed_on(&self, session: &Session) -> bool {
        const MOMENT: f64 = 2.0;
        let ours = self.options.get_socket().is_none().then(|| i32::from(self.options.get_port()));
        let ours = if self.host().starts_with('/') { None } else { ours };
        ours != session.port || session.age > self.since.elapsed().as_secs_f64() + MOMENT
    }

    /// Why a pooler in between cannot be worked through; none where each session has a server process of its own.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn mixed_sessions(&self) -> Result<Option<&'static str>> {
        Ok(pooler::shares(&self.options).await?.then_some(pooler::REMEDY))
    }
}
