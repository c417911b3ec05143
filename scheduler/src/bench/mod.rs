//! How fast this server and this program are together: claims, latency, metrics, lists. Everything is
//! measured in a database of its own on the same server, which is dropped at the end; what is compared
//! with Postgres alone runs in turns with it.

mod history;
mod latency;
mod points;
mod queue;

use std::time::Duration;

use registry::{Database, Error, Result};
use serde::Serialize;
use sqlx::{Connection, Executor};

pub use history::{History, history};
pub use latency::{Latency, latency};
pub use points::{Points, points};
pub use queue::{Claims, claims};

/// A database for one benchmark. It must be dropped by [`Scratch::remove`].
pub struct Scratch {
    database: Database,
    name: String,
    server: String,
}

impl Scratch {
    /// Makes an empty database with our tables on the server that commands use.
    ///
    /// # Errors
    /// When the role may not create databases.
    pub async fn create() -> Result<Self> {
        let server = Database::open().await?.url().to_owned();
        let name = format!("palette_bench_{}", std::process::id());
        let mut connection = sqlx::PgConnection::connect(&server).await?;
        // Not prepared: the name is made here, of letters and digits.
        connection.execute(sqlx::AssertSqlSafe(format!("create database {name}"))).await?;
        let database = Database::open_url(&on_database(&server, &name)?).await?;
        Ok(Self { database, name, server })
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Another client of it, with connections of its own.
    async fn client(&self) -> Result<Database> {
        Database::open_url(self.database.url()).await
    }

    /// Drops the database.
    ///
    /// # Errors
    /// When the server cannot be reached any more.
    pub async fn remove(self) -> Result<()> {
        self.database.pool().close().await;
        let mut connection = sqlx::PgConnection::connect(&self.server).await?;
        let drop = format!("drop database if exists {} with (force)", self.name);
        connection.execute(sqlx::AssertSqlSafe(drop)).await?;
        Ok(())
    }
}

/// The URL of another database of a server.
fn on_database(url: &str, name: &str) -> Result<String> {
    let (scheme, rest) =
        url.split_once("://").ok_or_else(|| Error::Invalid("the URL has no scheme".into()))?;
    let (place, options) = match rest.split_once('?') {
        Some((place, options)) => (place, format!("?{options}")),
        None => (rest, String::new()),
    };
    let authority = place.split_once('/').map_or(place, |(authority, _)| authority);
    Ok(format!("{scheme}://{authority}/{name}{options}"))
}

/// The middle of some values, and the smallest and largest.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// The smallest.
    pub least: f64,
    /// The median.
    pub median: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    fn of(values: Vec<f64>) -> Self {
        let at = |share| statistics::nearest(&values, share).unwrap_or(f64::NAN);
        Self { least: at(0.0), median: at(0.5), most: at(1.0) }
    }
}

/// Milliseconds at some quantiles.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "quantiles, in milliseconds")]
pub struct Milliseconds {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub most: f64,
}

impl Milliseconds {
    fn of(spans: Vec<Duration>) -> Self {
        let spans: Vec<f64> = spans.iter().map(|span| span.as_secs_f64() * 1e3).collect();
        let at = |share| statistics::nearest(&spans, share).unwrap_or(f64::NAN);
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), most: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_server_has_other_databases() {
        let other = |url| on_database(url, "b").unwrap();
        assert_eq!(other("postgresql:///a?host=/x/y&user=u"), "postgresql:///b?host=/x/y&user=u");
        assert_eq!(other("postgres://u:p@h:1/a"), "postgres://u:p@h:1/b");
        assert_eq!(other("postgres://h"), "postgres://h/b");
        assert!(on_database("nonsense", "b").is_err());
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let all = Milliseconds::of((1..=100).map(Duration::from_millis).collect());
        assert_eq!((all.p50, all.p90, all.p99, all.most), (51.0, 90.0, 99.0, 100.0));
        let three = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((three.least, three.median, three.most), (1.0, 2.0, 3.0));
    }
}
