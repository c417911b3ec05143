//! The connection to Postgres, and the migrations. Every other module of this crate adds its
//! statements to [`Database`]; nothing outside this crate speaks SQL.
//!
//! The statements are checked when the crate is compiled, against the offline data in `.sqlx`;
//! `migrations/README.md` says how that is renewed.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor};

use crate::home::Home;
use crate::{Error, Result, private};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// A pool of connections to a database whose tables are those of this program. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    pub(crate) pool: PgPool,
    options: PgConnectOptions,
    url: String,
}

impl Database {
    /// Opens `DATABASE_URL`, or without it the private Postgres (started if need be), and brings
    /// its tables up to date.
    ///
    /// # Errors
    /// When the server cannot be reached or started, or was migrated by a newer program.
    pub async fn open() -> Result<Self> {
        match std::env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => Self::open_url(&url).await,
            _ => Self::open_private(private::Server::new(&Home::from_env()?)).await,
        }
    }

    /// Opens the private Postgres, and waits while another command still starts it.
    async fn open_private(server: private::Server) -> Result<Self> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let server = Arc::new(server);
        loop {
            let starting = Arc::clone(&server);
            let url = tokio::task::spawn_blocking(move || starting.ensure_running())
                .await
                .map_err(|error| Error::Postgres(error.to_string()))??;
            match Self::open_url(&url).await {
                Err(error) if error.is_starting() && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                result => return result,
            }
        }
    }

    /// Opens the database at this URL and brings its tables up to date.
    ///
    /// # Errors
    /// When it cannot be reached or was migrated by a newer program.
    pub async fn open_url(url: &str) -> Result<Self> {
        let options: PgConnectOptions =
            url.parse().map_err(|source| Error::Open { url: without_password(url), source })?;
        let options = options.application_name("palette").disable_statement_logging();
        let failed = |source| Error::Open { url: without_password(url), source };
        const PATIENCE: Duration = Duration::from_secs(15);
        let mut connection =
            match tokio::time::timeout(PATIENCE, PgConnection::connect_with(&options)).await {
                Ok(connection) => connection.map_err(failed)?,
                Err(_) => return Err(failed(sqlx::Error::PoolTimedOut)),
            };
        migrate(&mut connection).await?;
        connection.close().await.map_err(failed)?;
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(5))
            // One that was used a moment ago lives; a ping before each statement would double the
            // round trips.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > Duration::from_secs(1) {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            // A process that stands still or was cut off within a transaction would hold its locks,
            // and so keep its job from everybody, for as long as the server believes in it.
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute("set idle_in_transaction_session_timeout = '5s'").await?;
                    Ok(())
                })
            })
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options, url: url.to_owned() })
    }

    /// The URL that it was opened by; children get it by their environment.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection outside the pool, for what must never wait for one (the lease).
    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect_with(&self.options).await?)
    }

    /// Listens on these channels, from a connection of its own.
    pub(crate) async fn listen(&self, channels: &[&str]) -> Result<sqlx::postgres::PgListener> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(self.options.clone());
        let mut listener = sqlx::postgres::PgListener::connect_with(&pool).await?;
        listener.ignore_pool_close_event(true);
        listener.listen_all(channels.iter().copied()).await?;
        Ok(listener)
    }
}

/// Applies what is missing under the migrator's advisory lock; when nothing is, only looks.
async fn migrate(connection: &mut PgConnection) -> Result<()> {
    if up_to_date(connection).await {
        return Ok(());
    }
    MIGRATIONS.run_direct(None, connection, false).await.map_err(|error| {
        Error::Migrations(match error {
            MigrateError::VersionMissing(version) => format!(
                "has migration {version}, which this program does not know: it was written by a \
                 newer version; build that version, or name another database in DATABASE_URL"
            ),
            MigrateError::VersionMismatch(version) => format!(
                "has another migration {version} than this program: they were built from different \
                 histories; use the program that made it, or name another database in DATABASE_URL"
            ),
            other => format!("cannot be migrated: {other}"),
        })
    })
}

async fn up_to_date(connection: &mut PgConnection) -> bool {
    // Not checked at compile time: the table is the migrator's own.
    let applied: sqlx::Result<Vec<(i64, Vec<u8>, bool)>> =
        sqlx::query_as("select version, checksum, success from _sqlx_migrations order by version")
            .fetch_all(connection)
            .await;
    applied.is_ok_and(|applied| {
        let known = MIGRATIONS.iter().map(|known| (known.version, known.checksum.as_ref()));
        applied.iter().all(|(_, _, success)| *success)
            && known.eq(applied.iter().map(|(version, checksum, _)| (*version, &**checksum)))
    })
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.find(['/', '?']).unwrap_or(rest.len());
    match rest[..authority].rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{scheme}://{user}@{host}{}", &rest[authority..])
        }
        None => url.to_owned(),
    }
}

/// A [`Database`] for programs without a runtime of their own: `db.wait(db.jobs(…))`.
pub struct Blocking {
    runtime: tokio::runtime::Runtime,
    database: Database,
}

impl Blocking {
    /// As [`Database::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open() -> Result<Self> {
        let runtime = runtime()?;
        let database = runtime.block_on(Database::open())?;
        Ok(Self { runtime, database })
    }

    /// Waits for one of the database's answers.
    pub fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }
}

impl Deref for Blocking {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

/// A runtime with one thread of its own, so that what was spawned on it goes on between calls.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("scheduler")
        .enable_all()
        .build()
        .map_err(|error| Error::Invalid(format!("cannot start a thread: {error}")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn passwords_are_not_shown() {
        let shown = super::without_password;
        assert_eq!(shown("postgres://ann:s3cret@db/p?x=1"), "postgres://ann@db/p?x=1");
        assert_eq!(shown("postgres://db/p"), "postgres://db/p");
        assert_eq!(shown("nonsense"), "nonsense");
    }
}
