//! Who works: workers, and who holds a job. Owns nothing; only reads, for the commands that show it. Ages
//! are told by the database's clock.

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Database, Lease, Result};

/// Whether a worker can be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// It was seen within the length of a lease.
    Alive,
    /// So it was, but something is wrong with its host, and it claims nothing.
    Ailing,
    /// It was not, and has not said that it ended.
    Lost,
    /// It ended in order.
    Ended,
}

impl WorkerState {
    /// Its name, as the tables write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Ailing => "ailing",
            Self::Lost => "lost",
            Self::Ended => "ended",
        }
    }
}

/// A row of `workers`, with what it does.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, described in migrations/")]
pub struct WorkerRow {
    pub id: Uuid,
    pub name: String,
    pub host: String,
    pub pid: i32,
    pub slots: i32,
    pub gpus: i32,
    pub gpu_names: Vec<String>,
    /// What `CUDA_VISIBLE_DEVICES` calls them.
    pub gpu_uuids: Vec<String>,
    /// Bytes of each.
    pub gpu_sizes: Vec<i64>,
    /// Bytes of its smallest GPU; 0 where that is not known.
    pub gpu_memory: i64,
    pub labels: Value,
    /// The kinds of jobs that it can do; none where that is not known.
    pub kinds: Vec<String>,
    pub version: Option<String>,
    /// Short ids of the jobs that it holds, longest first.
    pub jobs: Vec<String>,
    pub state: WorkerState,
    /// What is wrong with it, while it is ailing.
    pub ails: Option<String>,
    /// Seconds since it was seen.
    pub unseen: f64,
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub last_seen_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// When it will end by itself.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ends_at: Option<OffsetDateTime>,
}

/// Who holds a job that runs.
#[derive(Clone, Debug, Serialize)]
pub struct Holder {
    /// The worker.
    pub worker: String,
    /// Where it runs.
    pub host: String,
    /// Its process there.
    pub pid: i32,
    /// The GPUs that the attempt was given, as `CUDA_VISIBLE_DEVICES` names them; empty where it was
    /// given none, nothing where that is not known.
    pub gpus: Option<String>,
    /// Seconds until the lease ends; negative when it has.
    pub lease_left: f64,
}

impl Database {
    /// The workers, those seen last first. Those that ended are only there when asked for, and
    /// those that were lost only for a day, unless they hold a job.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn workers(&self, all: bool, lease: &Lease) -> Result<Vec<WorkerRow>> {
        let rows = sqlx::query!(
            r#"select workers.id, name, host, pid, slots, gpus, gpu_names, gpu_uuids, gpu_sizes,
                   gpu_memory, labels, kinds, version, started_at, last_seen_at, ended_at, ends_at,
                   ails, coalesce(held.jobs, '{}') as "jobs!",
                   extract(epoch from now() - last_seen_at)::float8 as "unseen!",
                   last_seen_at < now() - make_interval(secs => $2) as "overdue!"
               from workers
               left join (
                   select worker_id, array_agg(short order by started_at) as jobs
                   from jobs where state = 'running' group by worker_id
               ) held on held.worker_id = workers.id
               where $1 or (ended_at is null
                   and (last_seen_at > now() - interval '1 day' or held.jobs is not null))
               order by last_seen_at desc, workers.id"#,
            all,
            lease.length.as_secs_f64(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| WorkerRow {
                id: row.id,
                name: row.name,
                host: row.host,
                pid: row.pid,
                slots: row.slots,
                gpus: row.gpus,
                gpu_names: row.gpu_names,
                gpu_uuids: row.gpu_uuids,
                gpu_sizes: row.gpu_sizes,
                gpu_memory: row.gpu_memory,
                labels: row.labels,
                kinds: row.kinds,
                version: row.version,
                jobs: row.jobs,
                state: match (row.ended_at, row.overdue, &row.ails) {
                    (Some(_), ..) => WorkerState::Ended,
                    (None, true, _) => WorkerState::Lost,
                    (None, false, Some(_)) => WorkerState::Ailing,
                    (None, false, None) => WorkerState::Alive,
                },
                ails: row.ails,
                unseen: row.unseen,
                started_at: row.started_at,
                last_seen_at: row.last_seen_at,
                ended_at: row.ended_at,
                ends_at: row.ends_at,
            })
            .collect())
    }

    /// Who holds a job; nobody unless it runs.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn holder(&self, job: Uuid) -> Result<Option<Holder>> {
        let row = sqlx::query_as!(
            Holder,
            r#"select workers.name as worker, workers.host, workers.pid, attempts.gpus as "gpus?",
                   extract(epoch from lease_expires_at - now())::float8 as "lease_left!"
               from jobs
               join workers on workers.id = jobs.worker_id
               left join attempts on attempts.job_id = jobs.id and attempts.number = jobs.attempt
               where jobs.id = $1 and state = 'running'"#,
            job,
        );
        Ok(row.fetch_optional(&self.pool).await?)
    }
}
