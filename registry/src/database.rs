//! The connection to Postgres, and the migrations. Every other module of this crate adds its
//! statements to [`Database`]; nothing outside this crate speaks SQL.
//!
//! The statements are checked when the crate is compiled, against the offline data in `.sqlx`;
//! `migrations/README.md` says how that is renewed.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};

use crate::address;
use crate::error::{denied, told};
use crate::fitness::demand_utf8;
use crate::limits::{Limits, only_read, settle};
use crate::line::Slot;
use crate::pooler;
use crate::private::{Revival, on_private};
use crate::{Error, Lease, Result};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// A pool of connections to a database whose tables are those of this program. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pub(crate) pool: PgPool,
    pub(crate) slot: Arc<Slot>,
    pub(crate) spare: Arc<Slot>,
    pub(crate) limits: Limits,
    options: PgConnectOptions,
    url: String,
    private: Option<Arc<Revival>>,
}

/// Without the password, which the parts hold.
impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", without_password(&self.url))
    }
}

impl Database {
    /// Opens `DATABASE_URL`, or without it the private Postgres (started if need be), and brings
    /// its tables up to date.
    ///
    /// # Errors
    /// When the server cannot be reached or started, or was migrated by a newer program.
    pub async fn open() -> Result<Self> {
        Self::open_limited(Limits::COMMAND).await
    }

    /// [`Database::open`] for a process that works under leases of this length: it takes few connections, and no
    /// statement of it lasts longer than a lease.
    ///
    /// # Errors
    /// As there.
    pub async fn open_for_work(lease: &Lease) -> Result<Self> {
        Self::open_limited(Limits::work(lease)).await
    }

    async fn open_limited(limits: Limits) -> Result<Self> {
        match url_from_env() {
            Some(url) => Self::open_at(&url, limits).await,
            None => on_private(async |url| Self::open_at(&url, limits).await).await,
        }
    }

    /// Opens the database at this URL and brings its tables up to date.
    ///
    /// # Errors
    /// When it cannot be reached or was migrated by a newer program.
    pub async fn open_url(url: &str) -> Result<Self> {
        Self::open_at(url, Limits::COMMAND).await
    }

    async fn open_at(url: &str, limits: Limits) -> Result<Self> {
        let (options, mut connection) = connect(url).await?;
        demand_utf8(&mut connection).await?;
        migrate(&mut connection).await?;
        let _ = connection.close().await;
        Ok(Self::with(options, url.to_owned(), limits))
    }

    /// The same database for somebody who only looks: with connections of their own, which can change nothing.
    #[must_use]
    pub fn reading(&self) -> Self {
        Self::with(self.options.clone(), self.url.clone(), Limits::READER)
    }

    /// Connections, none of which is opened yet, to a database whose tables are ours.
    fn with(options: PgConnectOptions, url: String, limits: Limits) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(limits.connections)
            .idle_timeout(limits.idle)
            .acquire_timeout(Duration::from_secs(5))
            // One that was used this moment lives; a ping before each statement of a claimer would
            // double its round trips.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > Duration::from_millis(20) {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    settle(connection, limits.statement).await?;
                    if limits.reading {
                        only_read(connection).await?;
                    }
                    Ok(())
                })
            })
            .connect_lazy_with(options.clone());
        let (slot, spare) = (Arc::default(), Arc::default());
        let private = Revival::of(&url);
        Self { pool, slot, spare, limits, options, url, private }
    }

    /// The URL that it was opened by; children get it by their environment.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The time by the server's clock.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn now(&self) -> Result<time::OffsetDateTime> {
        Ok(sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(&self.pool).await?)
    }

    /// A connection outside the pool, whose statements the server ends after so long.
    pub(crate) async fn connect(&self, limit: Duration) -> Result<PgConnection> {
        let connection = PgConnection::connect_with(&self.options).await;
        if connection.is_err() {
            self.revive().await;
        }
        let mut connection = connection?;
        settle(&mut connection, limit).await?;
        if self.limits.reading {
            only_read(&mut connection).await?;
        }
        Ok(connection)
    }

    /// How full the server is. Who was seen within the length of a lease lives.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn crowd(&self, lease: &Lease) -> Result<Crowd> {
        let row = sqlx::query!(
            r#"select
                   (select count(*)::float8 / current_setting('max_connections')::float8
                    from pg_stat_activity where datid is not null) as "used!",
                   (select count(*) from workers
                    where ended_at is null and last_seen_at > now() - make_interval(secs => $1)
                      and id not in (select worker_id from jobs
                                     where state = 'running' and worker_id is not null)) as "idle!""#,
            lease.length.as_secs_f64(),
        );
        let row = self.on_line(async |connection| Ok(row.fetch_one(connection).await?)).await?;
        Ok(Crowd { used: row.used, idle: u32::try_from(row.idle).unwrap_or(u32::MAX) })
    }

    /// Whether it is the private Postgres, where this user is the only one who submits.
    pub fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// Refuses a pooler that mixes sessions, which every command can stand for a while, and no worker.
    ///
    /// # Errors
    /// Where there is one, and those of the database.
    pub async fn demand_sessions(&self) -> Result<()> {
        // Nobody stands between us and the private server.
        if self.private.is_none() && pooler::shares(&self.options).await? {
            return Err(Error::Unfit(pooler::REMEDY.to_owned()));
        }
        Ok(())
    }

    /// After a connection that failed: the private server is started again where it was killed.
    async fn revive(&self) {
        if let Some(private) = &self.private {
            private.revive().await;
        }
    }

    /// Listens on these channels, from a connection of its own.
    pub async fn listen(&self, channels: &[&str]) -> Result<sqlx::postgres::PgListener> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(self.options.clone());
        let listener = sqlx::postgres::PgListener::connect_with(&pool).await;
        if listener.is_err() {
            self.revive().await;
        }
        let mut listener = listener?;
        listener.ignore_pool_close_event(true);
        listener.listen_all(channels.iter().copied()).await?;
        Ok(listener)
    }
}

/// `DATABASE_URL`, where it is set. One that is no UTF-8 is refused when it is opened.
pub fn url_from_env() -> Option<String> {
    variable("DATABASE_URL").filter(|url| !url.is_empty())
}

/// A variable of the environment, where it is set; U+FFFD stands for what is no UTF-8, so that it is not taken for unset.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|text| text.to_string_lossy().into_owned())
}

/// One connection, whatever tables it may find.
pub(crate) async fn connect(url: &str) -> Result<(PgConnectOptions, PgConnection)> {
    const PATIENCE: Duration = Duration::from_secs(15);
    let failed = |source| Error::Open { url: without_password(url), source };
    let options = address::options(url).map_err(failed)?;
    match tokio::time::timeout(PATIENCE, PgConnection::connect_with(&options)).await {
        Ok(connection) => Ok((options, connection.map_err(failed)?)),
        Err(_) => {
            let late = format!("no answer in {} seconds", PATIENCE.as_secs());
            Err(failed(std::io::Error::new(std::io::ErrorKind::TimedOut, late).into()))
        }
    }
}

/// Who is on the server.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// The share of the connections that it allows which are used.
    pub used: f64,
    /// Workers that live and lead no job.
    pub idle: u32,
}

/// How a database's tables stand to this program's migrations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tables {
    /// They are the same.
    Equal,
    /// These are not applied yet; everything that is applied is ours.
    Missing(Vec<i64>),
    /// This one was applied and is not ours: a newer program made it.
    Newer(i64),
    /// This one was applied and differs from ours, or was left half-done.
    Different(i64),
    /// The role may not even look.
    Hidden,
}

/// Compares the migrations that were applied with ours.
pub(crate) async fn tables(connection: &mut PgConnection) -> Result<Tables> {
    const NO_SUCH_TABLE: &str = "42P01";
    // Not checked at compile time: the table is the migrator's own.
    let applied: sqlx::Result<Vec<(i64, Vec<u8>, bool)>> =
        sqlx::query_as("select version, checksum, success from _sqlx_migrations order by version")
            .fetch_all(connection)
            .await;
    let applied = match applied {
        Ok(applied) => applied,
        Err(error) if denied(&error).is_some() => return Ok(Tables::Hidden),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(NO_SUCH_TABLE) => {
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    for (version, checksum, success) in &applied {
        match MIGRATIONS.iter().find(|known| known.version == *version) {
            None => return Ok(Tables::Newer(*version)),
            Some(known) if known.checksum.as_ref() != checksum || !success => {
                return Ok(Tables::Different(*version));
            }
            Some(_) => {}
        }
    }
    let missing: Vec<i64> = MIGRATIONS
        .iter()
        .map(|known| known.version)
        .filter(|version| applied.iter().all(|(applied, ..)| applied != version))
        .collect();
    Ok(if missing.is_empty() { Tables::Equal } else { Tables::Missing(missing) })
}

/// Applies what is missing under the migrator's advisory lock; when nothing is, only looks.
async fn migrate(connection: &mut PgConnection) -> Result<()> {
    const NO_SCHEMA: &str = "3F000";
    let found = tables(connection).await?;
    match &found {
        Tables::Equal => return Ok(()),
        Tables::Missing(_) => {}
        _ => return Err(Error::Migrations(found.to_string())),
    }
    match MIGRATIONS.run_direct(None, connection, false).await {
        Ok(()) => Ok(()),
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _))
            if denied(&error).is_some() =>
        {
            let why = "the role of DATABASE_URL may not change them";
            Err(Error::Migrations(format!("{found} ({why})")))
        }
        // To a role that may not use the schema there is none.
        Err(MigrateError::Execute(sqlx::Error::Database(error)))
            if error.code().as_deref() == Some(NO_SCHEMA) =>
        {
            Err(Error::Migrations(Tables::Hidden.to_string()))
        }
        Err(error) => {
            let why = match &error {
                MigrateError::Execute(error) => told(error),
                MigrateError::ExecuteMigration(error, version) => {
                    format!("migration {version}: {}", told(error))
                }
                error => error.to_string(),
            };
            Err(Error::Migrations(format!("cannot be migrated: {why}")))
        }
    }
}

impl std::fmt::Display for Tables {
    /// Goes on after "the database"; with what to do.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Equal => f.write_str("has the tables of this program"),
            Self::Missing(versions) if versions.len() == MIGRATIONS.iter().count() => {
                f.write_str("has no tables yet: run `scheduler up` as the role that shall own them")
            }
            Self::Missing(versions) => {
                let plural = if versions.len() == 1 { "" } else { "s" };
                let versions: Vec<String> = versions.iter().map(i64::to_string).collect();
                let versions = versions.join(", ");
                write!(
                    f,
                    "misses migration{plural} {versions}: run `scheduler up` as the owner of its tables"
                )
            }
            Self::Newer(version) => write!(
                f,
                "has migration {version}, which this program does not know: it was written by a newer \
                 version; build that version, or name another database in DATABASE_URL"
            ),
            Self::Different(version) => write!(
                f,
                "has another migration {version} than this program: they were built from different \
                 histories; use the program that made it, or name another database in DATABASE_URL"
            ),
            Self::Hidden => f.write_str(
                "hides its tables from the role of DATABASE_URL: an administrator grants it \
                 palette_reader, palette_user or palette_worker (migrations/roles.sql)",
            ),
        }
    }
}

/// The URL of a database as it may be shown.
pub fn without_password(url: &str) -> String {
    secrets::database(url)
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

    /// As [`Database::open_url`].
    ///
    /// # Errors
    /// As there.
    pub fn open_url(url: &str) -> Result<Self> {
        let runtime = runtime()?;
        let database = runtime.block_on(Database::open_url(url))?;
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
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("scheduler")
        .enable_all()
        .build()
        .map_err(|error| Error::Failed(format!("cannot start a thread: {error}")))
}
