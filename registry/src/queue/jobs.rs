//! Jobs: submitting and reading them. Owns `dependencies`, and the rows of `jobs` before their first
//! claim; what moves them on is listed in [`crate::queue::state`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::{PgConnection, Postgres, Transaction};
use storage::names;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::find::{Kind, Named, id_range, named};
use crate::queue::marks::checked;
use crate::queue::request::{self, Known};
use crate::{Database, Error, Filter, GpuCount, JobState, Result, StopRequest, current_user, once};

/// What a job does; the worker starts the program of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "job_kind", rename_all = "lowercase")]
pub enum JobKind {
    /// Trains a run (`trainer`).
    Train,
    /// Draws outputs over a dataset (`sampler`).
    Sample,
    /// Scores outputs (`evaluator`).
    Evaluate,
    /// Reads archives into a dataset (`pipeline`).
    Ingest,
    /// Restores the pictures that people try, one after another (`sampler`).
    Try,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Train, Self::Sample, Self::Evaluate, Self::Ingest, Self::Try];

    /// The program that does jobs of this kind, started as `PROGRAM attempt`.
    pub fn program(self) -> &'static str {
        match self {
            Self::Train => "trainer",
            Self::Sample | Self::Try => "sampler",
            Self::Evaluate => "evaluator",
            Self::Ingest => "pipeline",
        }
    }

    /// The command of that program that a job of this kind may be, where it is a command line.
    pub fn command(self) -> Option<&'static str> {
        match self {
            Self::Train | Self::Sample | Self::Try => None,
            Self::Evaluate => Some("run"),
            Self::Ingest => Some("ingest"),
        }
    }

    /// Whether that program reads the database or writes to it.
    pub fn knows_the_database(self) -> bool {
        self != Self::Ingest
    }

    /// How many GPUs that program can use at once.
    pub fn usable_gpus(self) -> i32 {
        match self {
            // One for each of its ranks.
            Self::Train => 1024,
            Self::Sample | Self::Evaluate | Self::Try => 1,
            Self::Ingest => 0,
        }
    }

    /// Its name, as the database and the tables write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Sample => "sample",
            Self::Evaluate => "evaluate",
            Self::Ingest => "ingest",
            Self::Try => "try",
        }
    }
}

impl From<JobKind> for &'static str {
    fn from(kind: JobKind) -> Self {
        kind.name()
    }
}

impl std::str::FromStr for JobKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no kind `{text}`; there are {names}")
        })
    }
}

impl std::fmt::Display for JobKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A job to queue. [`NewJob::new`] fills in what most jobs leave alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewJob {
    /// What it does.
    pub kind: JobKind,
    /// What people call it; need not be unique.
    pub name: String,
    /// Handed to the program as it is.
    pub payload: Value,
    /// Who queued it.
    pub owner: String,
    /// Somebody asked for this owner: a warning says where the database names another.
    #[serde(default)]
    pub owner_asked: bool,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Submitting twice with the same key gives the same job, and must ask for the same.
    pub submit_key: Option<String>,
    /// What the same key must ask for again beside GPUs, labels and the like, where that is not name and payload.
    #[serde(default)]
    pub asked: Option<Value>,
    /// The key itself says all that is done (that of a row of a table): what differs otherwise is only warned of.
    #[serde(default)]
    pub key_says_all: bool,
    /// The run that it is about ([`Database::create_run`] sets it for the run's own job).
    pub run_id: Option<Uuid>,
    /// Higher goes first.
    pub priority: i32,
    /// GPUs that it takes; of none it sees none.
    pub gpus: GpuCount,
    /// Processes on each host, where it gets no GPU there; otherwise there is one for each GPU.
    #[serde(default = "one_rank")]
    pub ranks: i32,
    /// Hosts that it runs on; `gpus` and `ranks` are those of each.
    #[serde(default = "one_host")]
    pub hosts: GpuCount,
    /// Bytes that each of its GPUs must have.
    pub gpu_memory: i64,
    /// Labels that the worker must carry, all with these values.
    pub labels: BTreeMap<String, String>,
    /// Not before this time.
    pub run_after: Option<OffsetDateTime>,
    /// Not before these jobs have succeeded; when one fails or is cancelled, so is this.
    pub after: Vec<Uuid>,
    /// Tries before it is given up, at least 1.
    pub max_attempts: i32,
    /// It may ask jobs of lower priority to stop at a checkpoint and give way.
    #[serde(default)]
    pub preempts: bool,
    /// The sweep that it belongs to, and what it changes there.
    #[serde(default)]
    pub sweep: Option<(Uuid, Value)>,
    /// Enters as paused: no worker takes it before it is resumed or run in the foreground.
    pub held: bool,
}

fn one_rank() -> i32 {
    1
}

fn one_host() -> GpuCount {
    GpuCount::exactly(1)
}

impl NewJob {
    /// A job of the current user ([`current_user`]; of the role, where that may not name owners) at priority 0, tried three times, that takes a GPU where its
    /// program can use one and one is free, and needs nothing else.
    pub fn new(kind: JobKind, name: impl Into<String>, payload: Value) -> Self {
        Self {
            kind,
            name: name.into(),
            payload,
            owner: current_user(),
            owner_asked: false,
            tags: Vec::new(),
            submit_key: None,
            asked: None,
            key_says_all: false,
            run_id: None,
            priority: 0,
            gpus: GpuCount::up_to(kind.usable_gpus().min(1)),
            ranks: one_rank(),
            hosts: one_host(),
            gpu_memory: 0,
            labels: BTreeMap::new(),
            run_after: None,
            after: Vec::new(),
            max_attempts: 3,
            preempts: false,
            sweep: None,
            held: false,
        }
    }
}

/// A row of `jobs`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, described in migrations/")]
pub struct Job {
    pub id: Uuid,
    pub short: String,
    pub kind: JobKind,
    pub state: JobState,
    pub reason: Option<String>,
    pub name: String,
    pub owner: String,
    pub tags: Vec<String>,
    pub payload: Value,
    pub submit_key: Option<String>,
    pub run_id: Option<Uuid>,
    pub priority: i32,
    /// The fewest GPUs that it starts with.
    pub gpus: i32,
    /// The most that it takes.
    pub gpus_most: i32,
    /// Processes on each host, where it gets no GPU there.
    pub ranks: i32,
    /// The fewest hosts that it starts on.
    pub hosts: i32,
    /// The most that it takes.
    pub hosts_most: i32,
    pub gpu_memory: i64,
    pub labels: Value,
    #[serde(with = "time::serde::rfc3339")]
    pub run_after: OffsetDateTime,
    pub attempt: i32,
    pub attempts_used: i32,
    pub max_attempts: i32,
    pub worker_id: Option<Uuid>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub lease_expires_at: Option<OffsetDateTime>,
    pub stop_requested: Option<StopRequest>,
    /// It may ask jobs of lower priority to give way.
    pub preempts: bool,
    /// The job that it gives way to.
    pub yields_to: Option<Uuid>,
    pub sweep_id: Option<Uuid>,
    /// What it changes within its sweep: an object of keys of the configuration.
    pub sweep_point: Option<Value>,
    pub progress_done: Option<i64>,
    pub progress_total: Option<i64>,
    pub progress_message: Option<String>,
    pub note: Option<String>,
    /// Since when lists leave it out.
    #[serde(with = "time::serde::rfc3339::option")]
    pub archived_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
}

/// Selects whole rows of `jobs`; the text goes on after `from`. With `with`, the rows come from
/// the last of the queries that it opens with.
macro_rules! select_jobs {
    (with [$($head:tt)+] $tail:tt $(, $argument:expr)* $(,)?) => {
        crate::queue::jobs::select_jobs!(@ [$($head)+], $tail $(, $argument)*)
    };
    ($tail:tt $(, $argument:expr)* $(,)?) => {
        crate::queue::jobs::select_jobs!(@ [""], $tail $(, $argument)*)
    };
    (@ [$($head:tt)+], $tail:tt $(, $argument:expr)*) => {
        sqlx::query_as!(
            crate::Job,
            $($head)+ + r#"select id as "id!", short as "short!", 
                   kind as "kind!: crate::JobKind", state as "state!: crate::JobState",
                   reason, name as "name!", owner as "owner!", tags as "tags!",
                   payload as "payload!", submit_key, run_id,
                   priority as "priority!", gpus as "gpus!", gpus_most as "gpus_most!",
                   ranks as "ranks!", hosts as "hosts!", hosts_most as "hosts_most!",
                   gpu_memory as "gpu_memory!", labels as "labels!", run_after as "run_after!",
                   attempt as "attempt!", attempts_used as "attempts_used!",
                   max_attempts as "max_attempts!", worker_id, lease_expires_at,
                   stop_requested as "stop_requested: crate::StopRequest",
                   preempts as "preempts!", yields_to, sweep_id, sweep_point,
                   progress_done, progress_total, progress_message, note, archived_at,
                   created_at as "created_at!", started_at, ended_at
               from "# + $tail
            $(, $argument)*
        )
    };
}
pub(crate) use select_jobs;

/// A job as it was queued.
#[derive(Clone, Debug, Serialize)]
pub struct Submitted {
    /// The job.
    pub job: Job,
    /// True when a job with this submit key was there already.
    pub existed: bool,
}

/// Which jobs a list shows.
pub type JobFilter = Filter<JobKind>;

named!(Job, Kind::Job, Database::job);

impl Database {
    /// Queues a job.
    ///
    /// # Errors
    /// When a parent does not exist or has ended without success, or a value is out of range; when something else
    /// was submitted with its key.
    pub async fn submit(&self, new: NewJob) -> Result<Submitted> {
        let mut tx = self.pool.begin().await?;
        if let Some(job) = with_submit_key(&mut tx, &new, request::of_job(&new)).await? {
            return Ok(Submitted { job, existed: true });
        }
        let id = new_id(&mut tx).await?;
        let job = insert_job(&mut tx, id, new).await?;
        tx.commit().await?;
        Ok(Submitted { job, existed: false })
    }

    /// A job by its id.
    ///
    /// # Errors
    /// When there is none.
    pub async fn job(&self, id: Uuid) -> Result<Job> {
        select_jobs!("jobs where id = $1", id)
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| Job::not_found(&id.to_string()))
    }

    /// The job with this id or name, or whose id begins with this. Of several of one name the newest, which a
    /// warning says.
    ///
    /// # Errors
    /// When no row has this name or id, or several ids begin with it.
    pub async fn find_job(&self, name: &str) -> Result<Job> {
        self.find(name).await
    }

    /// A transaction whose statements are planned for their values: with a plan for any values,
    /// which Postgres may choose once a statement was run a few times, a condition that is left out
    /// costs as much as one that is given, and no index fits.
    pub(crate) async fn planned(&self) -> Result<Transaction<'static, Postgres>> {
        let mut tx = self.pool.begin().await?;
        sqlx::query!("set local plan_cache_mode = force_custom_plan").execute(&mut *tx).await?;
        Ok(tx)
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn jobs(&self, filter: JobFilter) -> Result<Vec<Job>> {
        let by = filter.conditions();
        let rows = select_jobs!(
            "jobs
             where ($1::job_state is null or state = $1)
               and ($2::text[] is null or state = any($2::text[]::job_state[]))
               and ($3::text[] is null or kind = any($3::text[]::job_kind[]))
               and ($4::text is null or owner = $4)
               and ($5::text[] is null or tags @> $5)
               and ($6::text is null or name like $6)
               and ($7::text is null or run_id in (
                   select runs.id from runs join experiments on experiments.id = experiment_id
                   where experiments.name = $7))
               and ($8::float8 is null or created_at >= now() - make_interval(secs => $8))
               and ($9::timestamptz is null or created_at >= $9)
               and ($10::uuid is null or sweep_id = $10)
               and ($11::boolean is null or (archived_at is not null) = $11)
             order by created_at desc, id
             limit $12",
            by.state as Option<JobState>,
            by.states.as_deref(),
            by.kinds.as_deref(),
            by.owner,
            by.tags,
            by.name,
            by.experiment,
            by.ago,
            by.at,
            by.sweep,
            by.archived,
            filter.limit,
        );
        Ok(rows.fetch_all(&mut *self.planned().await?).await?)
    }

    /// How many jobs the conditions of a filter fit, by state; those on the state and the limit are
    /// left out.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn count_jobs(&self, filter: &JobFilter) -> Result<Vec<(JobState, i64)>> {
        let by = filter.conditions();
        let rows = sqlx::query!(
            r#"select state as "state: JobState", count(*) as "count!" from jobs
               where ($1::text[] is null or kind = any($1::text[]::job_kind[]))
                 and ($2::text is null or owner = $2)
                 and ($3::text[] is null or tags @> $3)
                 and ($4::text is null or name like $4)
                 and ($5::text is null or run_id in (
                     select runs.id from runs join experiments on experiments.id = experiment_id
                     where experiments.name = $5))
                 and ($6::float8 is null or created_at >= now() - make_interval(secs => $6))
                 and ($7::timestamptz is null or created_at >= $7)
                 and ($8::uuid is null or sweep_id = $8)
                 and ($9::boolean is null or (archived_at is not null) = $9)
               group by state order by state"#,
            by.kinds.as_deref(),
            by.owner,
            by.tags,
            by.name,
            by.experiment,
            by.ago,
            by.at,
            by.sweep,
            by.archived,
        )
        .fetch_all(&mut *self.planned().await?)
        .await?;
        Ok(rows.into_iter().map(|row| (row.state, row.count)).collect())
    }

    /// The jobs that this one waits for, in order of their creation.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn parents(&self, job: Uuid) -> Result<Vec<Job>> {
        let rows = select_jobs!(
            "jobs where id in (select parent_id from dependencies where job_id = $1)
             order by created_at",
            job,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The jobs that wait for this one, in order of their creation.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn children(&self, job: Uuid) -> Result<Vec<Job>> {
        let rows = select_jobs!(
            "jobs where id in (select job_id from dependencies where parent_id = $1)
             order by created_at",
            job,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The jobs about a run besides the one that makes it, in order of their creation.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn jobs_about(&self, run: Uuid) -> Result<Vec<Job>> {
        let rows = select_jobs!("jobs where run_id = $1 and id <> $1 order by created_at", run);
        Ok(rows.fetch_all(&self.pool).await?)
    }
}

/// The job that was submitted with the same key, if there is one; it must have asked for the same. If there is none,
/// keeps `request` under the key.
pub(crate) async fn with_submit_key(
    tx: &mut PgConnection,
    new: &NewJob,
    request: Map<String, Value>,
) -> Result<Option<Job>> {
    let Some(key) = new.submit_key.as_deref() else { return Ok(None) };
    let job = match request::known(tx, key, false).await? {
        None => {
            request::keep(tx, key, request).await?;
            return Ok(None);
        }
        Some(Known::Sweep(_, short)) => {
            return Err(Error::Invalid(format!(
                "the submit key `{key}` is that of sweep {short}: choose another --key"
            )));
        }
        Some(Known::Job(job)) => *job,
    };
    if job.kind != new.kind {
        return Err(Error::Invalid(format!(
            "the submit key `{key}` is that of job {}, which is of kind {}: choose another --key",
            job.short, job.kind
        )));
    }
    let waits = request::waits(tx, &job, &new.after).await?;
    let what = format!("job {}", job.short);
    request::same(tx, key, &what, &request, waits, new.key_says_all).await?;
    Ok(Some(job))
}

/// An id whose first eight digits no job has: with a hundred thousand jobs every forty thousandth
/// would meet one.
pub(crate) async fn new_id(tx: &mut PgConnection) -> Result<Uuid> {
    loop {
        let id = Uuid::new_v4();
        let Some((first, last)) = id_range(&crate::short(&id)) else { continue };
        let taken = sqlx::query!("select id from jobs where id between $1 and $2", first, last)
            .fetch_optional(&mut *tx)
            .await?;
        if taken.is_none() {
            return Ok(id);
        }
    }
}

/// Writes the rows of a new job.
pub(crate) async fn insert_job(tx: &mut PgConnection, id: Uuid, new: NewJob) -> Result<Job> {
    if new.max_attempts < 1 {
        return Err(Error::Invalid(format!("max_attempts is {}; at least 1", new.max_attempts)));
    }
    checked("name", &new.name, names::name)?;
    checked("owner", &new.owner, names::word)?;
    for tag in &new.tags {
        checked("tag", tag, names::word)?;
    }
    for (key, value) in &new.labels {
        checked("label", &format!("{key}={value}"), names::label)?;
    }
    lock_parents(tx, &new.after).await?;
    let state = if new.held { JobState::Paused } else { JobState::Queued };
    let labels = serde_json::to_value(&new.labels).unwrap_or_default();
    let (sweep_id, sweep_point) = new.sweep.unzip();
    // The clock, not the transaction's time: jobs that are queued together keep their order.
    sqlx::query!(
        "insert into jobs (id, kind, state, name, owner, tags, payload, submit_key, run_id,
             priority, gpus, gpus_most, gpu_memory, labels, run_after, max_attempts, preempts,
             sweep_id, sweep_point, hosts, hosts_most, ranks, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9,
             $10, $11, $12, $13, $14, coalesce($15, now()), $16, $17, $18, $19, $20, $21, $22,
             clock_timestamp())",
        id,
        new.kind as JobKind,
        state as JobState,
        new.name,
        new.owner,
        &new.tags,
        new.payload,
        new.submit_key,
        new.run_id,
        new.priority,
        new.gpus.least,
        new.gpus.most,
        new.gpu_memory,
        labels,
        new.run_after,
        new.max_attempts,
        new.preempts,
        sweep_id,
        sweep_point,
        new.hosts.least,
        new.hosts.most,
        new.ranks,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "insert into dependencies (job_id, parent_id) select distinct $1::uuid, unnest($2::uuid[])",
        id,
        &new.after,
    )
    .execute(&mut *tx)
    .await?;
    let job = select_jobs!("jobs where id = $1", id).fetch_one(tx).await?;
    if new.owner_asked && job.owner != new.owner {
        let warning =
            format!("owner is {}: only a login with palette_proxy names others", job.owner);
        if once::first(&warning) {
            tracing::warn!("{warning}");
        }
    }
    Ok(job)
}

/// Locks what a job is to wait for until the transaction ends, so that none of it can fail unseen.
///
/// # Errors
/// When one of them is not there, or has ended without success.
pub(crate) async fn lock_parents(tx: &mut PgConnection, ids: &[Uuid]) -> Result<()> {
    let parents = sqlx::query!(
        r#"select id, short, state as "state: JobState" from jobs
           where id = any($1) order by id for no key update"#,
        ids,
    )
    .fetch_all(tx)
    .await?;
    for id in ids {
        let parent = parents.iter().find(|parent| parent.id == *id);
        let parent = parent.ok_or_else(|| Job::not_found(&id.to_string()))?;
        if matches!(parent.state, JobState::Failed | JobState::Cancelled) {
            return Err(Error::ParentEnded { parent: parent.short.clone(), state: parent.state });
        }
    }
    Ok(())
}
