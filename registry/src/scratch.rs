//! A database for measurements, beside the one that is used on the same server.

use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool};

use crate::database::connect;
use crate::{Database, Error, Result};

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
        let url = on_database(&server, &name)?;
        let (options, mut connection) = connect(&server).await?;
        // Not prepared: the name is made here, of letters and digits.
        let made = connection.execute(AssertSqlSafe(format!("create database {name}"))).await;
        made.map_err(|error| match Error::from(error) {
            Error::Denied(why) => {
                let role = options.get_username();
                Error::Failed(format!(
                    "{why}, and a benchmark makes one of its own: an administrator gives the role {role} CREATEDB, \
                     which none of the roles of migrations/roles.sql has"
                ))
            }
            error => error,
        })?;
        match Database::open_url(&url).await {
            Ok(database) => Ok(Self { database, name, server }),
            Err(error) => {
                drop_database(&mut connection, &name).await?;
                Err(error)
            }
        }
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Another client of it, with connections of its own.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn client(&self) -> Result<Database> {
        Database::open_url(self.database.url()).await
    }

    /// Removes every job.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn clear(&self) -> Result<()> {
        sqlx::query("truncate jobs cascade").execute(&self.database.pool).await?;
        Ok(())
    }

    /// Removes every job, and queues so many that do nothing.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn fill(&self, jobs: i64) -> Result<()> {
        self.clear().await?;
        sqlx::query(
            "insert into jobs (id, kind, name, owner, payload, created_at)
             select (lpad(to_hex(n), 8, '0') || substr(md5(n::text), 9))::uuid, 'ingest', 'empty',
                 'bench', '{}', now() + n * interval '1 us'
             from generate_series(1, $1) n",
        )
        .bind(jobs)
        .execute(&self.database.pool)
        .await?;
        sqlx::query("vacuum analyze jobs").execute(&self.database.pool).await?;
        Ok(())
    }

    /// Removes every job and queues `jobs` others that a worker without GPUs cannot do: half of them ask for a GPU, and
    /// each of the rest waits for one of those.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn crowd(&self, jobs: i64) -> Result<()> {
        self.clear().await?;
        let pool = &self.database.pool;
        for (kind, first, gpus) in [("train", 0, 1), ("sample", 1, 0)] {
            sqlx::query(
                "insert into jobs (id, kind, name, owner, payload, gpus, gpus_most, created_at)
                 select (lpad(to_hex(2 * n + $2), 8, '0') || substr(md5(n::text), 9))::uuid,
                     $1::text::job_kind, 'crowd', 'bench', '{}', $3, $3, now() + n * interval '1 us'
                 from generate_series(1, $4) n",
            )
            .bind(kind)
            .bind(first)
            .bind(gpus)
            .bind(jobs / 2)
            .execute(pool)
            .await?;
        }
        sqlx::query(
            "insert into dependencies (job_id, parent_id)
             select (lpad(to_hex(2 * n + 1), 8, '0') || substr(md5(n::text), 9))::uuid,
                 (lpad(to_hex(2 * n), 8, '0') || substr(md5(n::text), 9))::uuid
             from generate_series(1, $1) n",
        )
        .bind(jobs / 2)
        .execute(pool)
        .await?;
        sqlx::query("vacuum analyze").execute(pool).await?;
        Ok(())
    }

    /// Replaces everything by a history of so many runs named `run-1` and on, of the experiment `history`,
    /// with their jobs and as many points in all, of ten metrics a run (`metric_0` and on). Gives the bytes
    /// of the points and their index. Nothing of it is logged, which reading does not see.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn grow(&self, runs: i64, points: i64) -> Result<i64> {
        grow(&self.database.pool, runs, points).await
    }

    /// Drops the database.
    ///
    /// # Errors
    /// When the server cannot be reached any more.
    pub async fn remove(self) -> Result<()> {
        self.database.pool.close().await;
        drop_database(&mut connect(&self.server).await?.1, &self.name).await
    }
}

async fn drop_database(connection: &mut PgConnection, name: &str) -> Result<()> {
    let drop = format!("drop database if exists {name} with (force)");
    connection.execute(AssertSqlSafe(drop)).await?;
    Ok(())
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

async fn grow(pool: &PgPool, runs: i64, points: i64) -> Result<i64> {
    for statement in [
        "truncate jobs, runs, experiments cascade",
        "alter table metrics drop constraint if exists metrics_pkey",
        "alter table metrics drop constraint if exists metrics_series_fkey",
        "alter table metrics set unlogged",
        "insert into experiments (id, name) values (md5('history')::uuid, 'history')",
    ] {
        sqlx::query(statement).execute(pool).await?;
    }
    sqlx::query(
        "with made as (
             insert into runs (id, kind, experiment_id, name, owner, config, config_digest, seed,
                 uri, total_steps, last_step, latest, created_at)
             select (lpad(to_hex(n), 8, '0') || substr(md5(n::text), 9))::uuid, 'train',
                 experiments.id, 'run-' || n, 'bench',
                 jsonb_build_object('steps', n, 'model', jsonb_build_object('channels', 64)),
                 'digest', n, '/nowhere', $2, $2, '{\"loss\": 0.5, \"images_per_second\": 100}',
                 now() - n * interval '1 minute'
             from experiments, generate_series(1, $1) n
             returning id, name, created_at
         )
         insert into jobs (id, run_id, kind, state, name, owner, payload, created_at, ended_at)
         select id, id, 'train', 'succeeded', name, 'bench', '{}', created_at, created_at from made",
    )
    .bind(runs)
    .bind(points / runs / 10)
    .execute(pool)
    .await?;
    sqlx::query(
        "insert into series (run_id, name)
         select id, 'metric_' || n from runs, generate_series(0, 9) n",
    )
    .execute(pool)
    .await?;
    sqlx::query(
        "insert into metrics (series_id, step, attempt, value)
         select id, step, 1, step from series, generate_series(1, $1) step order by id, step",
    )
    .bind(points / runs / 10)
    .execute(pool)
    .await?;
    sqlx::query(
        "alter table metrics add constraint metrics_pkey primary key (series_id, step, attempt)",
    )
    .execute(pool)
    .await?;
    sqlx::query("vacuum analyze").execute(pool).await?;
    Ok(sqlx::query_scalar("select pg_total_relation_size('metrics')").fetch_one(pool).await?)
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
}
