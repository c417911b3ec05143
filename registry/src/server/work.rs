//! Jobs, workers and runs of which something is wrong. The tables must be this program's.

use std::time::Duration;

use serde_json::Value;
use sqlx::PgConnection;

use super::Server;
use crate::{Database, JobKind, Result};

/// A job that runs under a lease that ran out.
#[derive(Clone, Debug)]
pub struct Expired {
    /// The job, by its short id.
    pub short: String,
    /// Seconds since its lease ran out.
    pub seconds: f64,
}

/// What queued jobs ask for.
#[derive(Clone, Debug)]
pub struct Wants {
    /// Their kind.
    pub kind: JobKind,
    /// The fewest GPUs that each takes.
    pub gpus: i32,
    /// Bytes that each of those must have.
    pub gpu_memory: i64,
    /// Labels that the worker must carry.
    pub labels: Value,
    /// How many jobs.
    pub count: i64,
    /// The oldest of them, by its short id.
    pub oldest: String,
}

/// What an alive worker has to offer.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The kinds of its programs; none where the worker did not say.
    pub kinds: Vec<String>,
    /// Bytes of each GPU.
    pub gpus: Vec<i64>,
    /// Its labels.
    pub labels: Value,
}

/// A worker that was seen within a day and has not said that it ended.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the columns, described in migrations/")]
pub struct SeenWorker {
    pub name: String,
    pub host: String,
    pub slots: i32,
    pub gpus: i32,
    pub version: Option<String>,
    /// What is wrong with it, because of which it claims nothing.
    pub ails: Option<String>,
    /// It was seen within the length of a lease.
    pub alive: bool,
    /// Seconds since it was seen.
    pub unseen: f64,
}

impl Database {
    /// What alive workers have to offer.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn offers(&self, lease: Duration) -> Result<Vec<Offer>> {
        offers(&mut *self.pool.acquire().await?, lease).await
    }

    /// What jobs ask for that could have begun so many seconds ago, the oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn wants(&self, seconds: f64) -> Result<Vec<Wants>> {
        wants(&mut *self.pool.acquire().await?, seconds).await
    }
}

async fn offers(connection: &mut PgConnection, lease: Duration) -> Result<Vec<Offer>> {
    let rows = sqlx::query_as!(
        Offer,
        "select kinds, gpu_sizes as gpus, labels from workers
         where ended_at is null and last_seen_at > now() - make_interval(secs => $1)",
        lease.as_secs_f64(),
    );
    Ok(rows.fetch_all(connection).await?)
}

async fn wants(connection: &mut PgConnection, seconds: f64) -> Result<Vec<Wants>> {
    let rows = sqlx::query_as!(
        Wants,
        r#"select kind as "kind: JobKind", gpus, gpu_memory, labels, count(*) as "count!",
               (array_agg(short order by created_at))[1] as "oldest!"
           from jobs
           where state = 'queued'
             and ($1 = 0::float8 or (waits = 0
                 and greatest(created_at, run_after) < now() - make_interval(secs => $1)))
           group by kind, gpus, gpu_memory, labels
           order by min(created_at)"#,
        seconds,
    );
    Ok(rows.fetch_all(connection).await?)
}

impl Server {
    /// The jobs whose lease ran out longer than so long ago, the longest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn expired(&mut self, ago: Duration) -> Result<Vec<Expired>> {
        let rows = sqlx::query_as!(
            Expired,
            r#"select short as "short!", extract(epoch from now() - lease_expires_at)::float8 as "seconds!"
               from jobs
               where state = 'running' and lease_expires_at < now() - make_interval(secs => $1)
               order by lease_expires_at"#,
            ago.as_secs_f64(),
        );
        Ok(rows.fetch_all(&mut self.connection).await?)
    }

    /// What alive workers have to offer.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn offers(&mut self, lease: Duration) -> Result<Vec<Offer>> {
        offers(&mut self.connection, lease).await
    }

    /// What queued jobs ask for, the oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn wants(&mut self) -> Result<Vec<Wants>> {
        wants(&mut self.connection, 0.0).await
    }

    /// Queued jobs and jobs set aside that can never begin, the oldest first: what they wait for has failed or was
    /// cancelled. Short ids of each and of what it waits for.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn stranded(&mut self) -> Result<Vec<(String, String)>> {
        let rows = sqlx::query!(
            r#"select jobs.short as "short!", parent.short as "parent!"
               from jobs
               join dependencies on job_id = jobs.id
               join jobs parent on parent.id = parent_id
               where jobs.state in ('queued', 'paused') and jobs.waits > 0
                 and parent.state in ('failed', 'cancelled')
               order by jobs.created_at, jobs.id"#
        );
        let rows = rows.fetch_all(&mut self.connection).await?;
        Ok(rows.into_iter().map(|row| (row.short, row.parent)).collect())
    }

    /// The workers that were seen within a day and have not ended, the last seen first. Those that were lost
    /// longer ago are history.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn seen_workers(&mut self, lease: Duration) -> Result<Vec<SeenWorker>> {
        let rows = sqlx::query_as!(
            SeenWorker,
            r#"select name, host, slots, gpus, version, ails,
                   last_seen_at > now() - make_interval(secs => $1) as "alive!",
                   extract(epoch from now() - last_seen_at)::float8 as "unseen!"
               from workers
               where ended_at is null and last_seen_at > now() - interval '1 day'
               order by last_seen_at desc"#,
            lease.as_secs_f64(),
        );
        Ok(rows.fetch_all(&mut self.connection).await?)
    }

    /// Short ids and folders of the runs that this host made into local folders and that have checkpoints.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn local_runs(&mut self, host: &str) -> Result<Vec<(String, String)>> {
        let rows = sqlx::query!(
            r#"select short as "short!", uri from runs
               where host = $1 and uri like '/%' and exists (
                   select from checkpoints where run_id = runs.id and checkpoints.state = 'kept')
               order by created_at desc"#,
            host,
        );
        let rows = rows.fetch_all(&mut self.connection).await?;
        Ok(rows.into_iter().map(|row| (row.short, row.uri)).collect())
    }
}
