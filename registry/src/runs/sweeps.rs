//! Sweeps: many runs that are submitted as one, at different points of a configuration, and are shown,
//! limited and ended as one. Owns `sweeps`; that no more of its jobs run at once than it allows is
//! kept by the database (migration 0005).

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::find::{Kind, Named, named};
use crate::queue::jobs::select_jobs;
use crate::queue::marks::checked;
use crate::queue::request::{self, Known};
use crate::runs::insert_run;
use crate::{Database, Error, Job, NewJob, NewRun, Result, RunJob};

/// A sweep to submit.
#[derive(Clone, Debug)]
pub struct NewSweep {
    /// What people call it; need not be unique.
    pub name: String,
    /// Who queued it.
    pub owner: String,
    /// Submitting twice with the same key gives the same sweep, and must ask for the same.
    pub submit_key: Option<String>,
    /// How many of its jobs may run at once; none for as many as workers take.
    pub at_most: Option<i32>,
    /// Its runs, each with what it changes: an object of keys of the configuration.
    pub runs: Vec<(NewRun, Value)>,
}

/// A row of `sweeps` with the states of its jobs.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, described in migrations/")]
pub struct Sweep {
    pub id: Uuid,
    pub short: String,
    pub name: String,
    pub owner: String,
    pub at_most: Option<i32>,
    pub jobs: i64,
    pub queued: i64,
    pub running: i64,
    pub paused: i64,
    pub succeeded: i64,
    pub failed: i64,
    pub cancelled: i64,
    pub note: Option<String>,
    /// Since when lists leave it out.
    #[serde(with = "time::serde::rfc3339::option")]
    pub archived_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A sweep that was submitted.
#[derive(Clone, Debug, Serialize)]
pub struct SubmittedSweep {
    /// The sweep.
    pub sweep: Sweep,
    /// Its runs, in the order of their points.
    pub runs: Vec<RunJob>,
    /// True when a sweep with this submit key was there already.
    pub existed: bool,
}

/// Selects rows of `sweeps` with the states of their jobs; the text goes on after the joins.
macro_rules! select_sweeps {
    ($tail:tt $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Sweep,
            r#"select sweeps.id, sweeps.short, sweeps.name, sweeps.owner, sweeps.at_most,
                   count(jobs.id) as "jobs!",
                   count(*) filter (where state = 'queued') as "queued!",
                   count(*) filter (where state = 'running') as "running!",
                   count(*) filter (where state = 'paused') as "paused!",
                   count(*) filter (where state = 'succeeded') as "succeeded!",
                   count(*) filter (where state = 'failed') as "failed!",
                   count(*) filter (where state = 'cancelled') as "cancelled!",
                   sweeps.note, sweeps.archived_at, sweeps.created_at
               from "# + $tail + " left join jobs on jobs.sweep_id = sweeps.id
               group by sweeps.id, sweeps.short, sweeps.name, sweeps.owner, sweeps.at_most,
                   sweeps.note, sweeps.archived_at, sweeps.created_at
               order by sweeps.created_at desc"
            $(, $argument)*
        )
    };
}

named!(Sweep, Kind::Sweep, Database::sweep);

impl Database {
    /// Creates the runs of a sweep and queues their jobs, all or none.
    ///
    /// # Errors
    /// Those of [`Database::create_run`]; a sweep without runs, or a limit under 1; a key with which something else
    /// was submitted.
    pub async fn submit_sweep(&self, new: NewSweep) -> Result<SubmittedSweep> {
        if new.runs.is_empty() {
            return Err(Error::Invalid("a sweep needs at least one run".into()));
        }
        checked("name", &new.name, storage::names::name)?;
        checked("owner", &new.owner, storage::names::word)?;
        let mut tx = self.pool.begin().await?;
        if let Some(id) = with_submit_key(&mut tx, &new).await? {
            drop(tx);
            return self.submitted_sweep(id).await;
        }
        let id = Uuid::new_v4();
        sqlx::query!(
            "insert into sweeps (id, name, owner, submit_key, at_most) values ($1, $2, $3, $4, $5)",
            id,
            new.name,
            new.owner,
            new.submit_key,
            new.at_most,
        )
        .execute(&mut *tx)
        .await?;
        let mut runs = Vec::new();
        for (run, point) in new.runs {
            let job = NewJob { sweep: Some((id, point)), submit_key: None, ..run.job };
            runs.push(insert_run(&mut tx, NewRun { job, ..run }).await?);
        }
        tx.commit().await?;
        Ok(SubmittedSweep { sweep: self.sweep(id).await?, runs, existed: false })
    }

    /// A sweep that was submitted before.
    async fn submitted_sweep(&self, id: Uuid) -> Result<SubmittedSweep> {
        let mut runs = Vec::new();
        for job in self.sweep_jobs(id).await? {
            runs.push(RunJob { run: self.run(job.id).await?, job, existed: true });
        }
        Ok(SubmittedSweep { sweep: self.sweep(id).await?, runs, existed: true })
    }

    /// A sweep by its id.
    ///
    /// # Errors
    /// When there is none.
    pub async fn sweep(&self, id: Uuid) -> Result<Sweep> {
        select_sweeps!("(select * from sweeps where id = $1) sweeps", id)
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| Sweep::not_found(&id.to_string()))
    }

    /// The sweep with this id or name, or whose id begins with this. Of several of one name the newest, which a
    /// warning says.
    ///
    /// # Errors
    /// When no row has this name or id, or several ids begin with it.
    pub async fn find_sweep(&self, name: &str) -> Result<Sweep> {
        self.find(name).await
    }

    /// Sweeps, newest first: those that are archived, or those that are not, or all.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sweeps(&self, archived: Option<bool>, limit: Option<i64>) -> Result<Vec<Sweep>> {
        let rows = select_sweeps!(
            "(select * from sweeps
              where $1::boolean is null or (archived_at is not null) = $1
              order by created_at desc limit $2) sweeps",
            archived,
            limit,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The jobs of a sweep, in the order of their points.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sweep_jobs(&self, sweep: Uuid) -> Result<Vec<Job>> {
        let rows = select_jobs!("jobs where sweep_id = $1 order by created_at", sweep);
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Changes how many jobs of a sweep may run at once.
    ///
    /// # Errors
    /// When it is under 1, or more of them run already.
    pub async fn limit_sweep(&self, sweep: Uuid, at_most: Option<i32>) -> Result<Sweep> {
        let changed = sqlx::query!("update sweeps set at_most = $2 where id = $1", sweep, at_most)
            .execute(&self.pool)
            .await
            .map_err(|error| match Error::from(error) {
                Error::SweepFull => Error::Invalid(
                    "more of its jobs run already: pause some, then lower the limit".into(),
                ),
                error => error,
            })?;
        if changed.rows_affected() == 0 {
            return Err(Sweep::not_found(&sweep.to_string()));
        }
        sqlx::query!("select pg_notify('jobs', '')").execute(&self.pool).await?;
        self.sweep(sweep).await
    }
}

/// The sweep that was submitted with the same key, if there is one; it must have asked for the same. If there is none,
/// keeps the new request under the key.
async fn with_submit_key(tx: &mut PgConnection, new: &NewSweep) -> Result<Option<Uuid>> {
    let (Some(key), Some((first, _))) = (new.submit_key.as_deref(), new.runs.first()) else {
        return Ok(None);
    };
    let points: Vec<&Value> = new.runs.iter().map(|(_, point)| point).collect();
    let mut request = request::of_job(&first.job);
    if first.job.asked.is_none() {
        // Those of the first run alone.
        request.remove("payload");
        request.insert("name".into(), json!(new.name));
        request.insert("config".into(), first.config.clone());
    }
    request.insert("at_most".into(), json!(new.at_most));
    request.insert("points".into(), json!(points));
    let (id, short) = match request::known(tx, key, true).await? {
        None => {
            request::keep(tx, key, request).await?;
            return Ok(None);
        }
        Some(Known::Job(job)) => {
            return Err(Error::Invalid(format!(
                "the submit key `{key}` is that of job {}: choose another --key",
                job.short
            )));
        }
        Some(Known::Sweep(id, short)) => (id, short),
    };
    let job = select_jobs!("jobs where sweep_id = $1 order by created_at limit 1", id)
        .fetch_one(&mut *tx)
        .await?;
    let waits = request::waits(tx, &job, &first.job.after).await?;
    request::same(tx, key, &format!("sweep {short}"), &request, waits, false).await?;
    Ok(Some(id))
}
