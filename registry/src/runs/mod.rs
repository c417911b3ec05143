//! Runs: what a train job makes, with everything that is needed to make it again. Owns `runs`,
//! `experiments`, `datasets`. Lists read the columns of `runs`, never the series of metrics.

pub mod compare;
mod course;
mod curves;
pub(crate) mod data;
mod diff;
mod extend;
pub(crate) mod forks;
pub(crate) mod metrics;
pub mod ranking;
mod sweeps;
mod table;

use home::Home;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::find::{Kind, Named, named};
use crate::queue::jobs::{insert_job, new_id, with_submit_key};
use crate::queue::request;
use crate::{Database, Error, Filter, Job, JobState, NewJob, Result};

pub use course::Finding;
pub use curves::{
    Curve, CurveColumn, CurveMark, CurveShape, CurveWindow, Curves, Moment, SeriesKey,
};
pub use data::{
    AcceptedChange, ChangedData, DataRole, KnownDataset, RecordedData, RunDataset, Settled,
};
pub use diff::{Difference, RunDiff, RunSide, config_diff, config_leaves, config_path};
pub use extend::Extension;
pub use forks::{Fork, RunOrigin};
pub use metrics::{HiddenPoints, NewPoint, Point};
pub use sweeps::{NewSweep, SubmittedSweep, Sweep};
pub use table::{Facet, GroupMetric, RunGroup, TableColumn, TableFilter, TableOrder};

/// A run to create, together with the job that makes it.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// What people call it; need not be unique.
    pub name: String,
    /// The experiment that it belongs to; its name where none is given.
    pub experiment: Option<String>,
    /// The configuration with every default written out.
    pub config: Value,
    /// The seed of everything random in it.
    pub seed: i64,
    /// Steps to make.
    pub total_steps: i64,
    /// The folder for its checkpoints, exactly.
    pub uri: Option<String>,
    /// The place under which that folder is `SHORT`, where `uri` gives none: a folder or a prefix
    /// of an object store. `runs/SHORT` under the home where neither is given.
    pub under: Option<String>,
    /// The metric by which `@best` chooses (lowest wins): `loss` most of the time.
    pub best_metric: String,
    /// The revision of the code, where it is known.
    pub git_revision: Option<String>,
    /// What it reads; what is not there yet is recorded by the first attempt.
    pub datasets: Vec<RunDataset>,
    /// The checkpoint of another run that it begins with, where it is a fork.
    pub fork: Option<Fork>,
    /// The job that makes it; its `run_id` is set here.
    pub job: NewJob,
}

/// A row of `runs`, with the state of its job.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, described in migrations/")]
pub struct Run {
    pub id: Uuid,
    pub short: String,
    pub name: String,
    pub experiment: String,
    pub owner: String,
    pub tags: Vec<String>,
    /// That of its job; none for an imported run.
    pub state: Option<JobState>,
    pub config: Value,
    pub config_digest: String,
    pub seed: i64,
    pub uri: String,
    pub git_revision: Option<String>,
    pub host: Option<String>,
    pub device: Option<String>,
    pub libtorch: Option<String>,
    pub total_steps: i64,
    pub last_step: i64,
    /// The newest value of each metric.
    pub latest: Value,
    /// The first value of each metric.
    pub initial: Value,
    pub best_metric: String,
    pub note: Option<String>,
    /// Since when lists leave it out.
    #[serde(with = "time::serde::rfc3339::option")]
    pub archived_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A run and the job that makes it.
#[derive(Clone, Debug, Serialize)]
pub struct RunJob {
    /// The run; its id is the job's.
    pub run: Run,
    /// The job.
    pub job: Job,
    /// True when a job with this submit key was there already.
    pub existed: bool,
}

/// What is only known where the run is made.
#[derive(Clone, Debug, Default)]
pub struct RunFacts {
    /// The device as people name it: `cpu`, `NVIDIA H200`.
    pub device: String,
    /// The version of libtorch.
    pub libtorch: String,
    /// The revision of the code, where it is known.
    pub git_revision: Option<String>,
}

/// Selects whole rows of `runs`; the text goes on after the joins.
macro_rules! select_runs {
    ($tail:tt $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            crate::Run,
            r#"select runs.id, runs.short, runs.name, experiments.name as experiment,
                   runs.owner, runs.tags, jobs.state as "state?: crate::JobState",
                   runs.config, runs.config_digest, runs.seed, runs.uri, runs.git_revision,
                   runs.host, runs.device, runs.libtorch, runs.total_steps, runs.last_step,
                   runs.latest, runs.initial, runs.best_metric, runs.note, runs.archived_at,
                   runs.created_at
               from runs
               join experiments on experiments.id = runs.experiment_id
               left join jobs on jobs.id = runs.id "# + $tail
            $(, $argument)*
        )
    };
}

/// How a run came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// A job trains it.
    Train,
    /// Its weights were brought in from elsewhere.
    Import,
}

impl RunKind {
    /// Its name, as the database writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Import => "import",
        }
    }
}

impl From<RunKind> for &'static str {
    fn from(kind: RunKind) -> Self {
        kind.name()
    }
}

impl std::str::FromStr for RunKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "train" => Ok(Self::Train),
            "import" => Ok(Self::Import),
            _ => Err(format!("no kind `{text}`; there are train, import")),
        }
    }
}

/// Where a run keeps its files.
#[derive(Clone, Debug)]
pub struct RunFolder {
    /// The run.
    pub id: Uuid,
    /// Its short id.
    pub short: String,
    /// The address of its folder.
    pub uri: String,
    /// The state of the job that makes it; none for one that was imported.
    pub state: Option<JobState>,
    /// Whether a worker has ever begun it: what a submission says of it is not enough to remove anything.
    pub begun: bool,
}

/// Which runs a list shows.
pub type RunFilter = Filter<RunKind>;

named!(Run, Kind::Run, Database::run);

impl Database {
    /// Creates a run and queues its job, in one transaction. With a submit key that is there
    /// already, that run is given back as it is.
    ///
    /// # Errors
    /// Those of [`Database::submit`]; a key that belongs to a job without a run.
    pub async fn create_run(&self, new: NewRun) -> Result<RunJob> {
        let mut tx = self.pool.begin().await?;
        let mut request = request::of_job(&new.job);
        if new.job.asked.is_none() {
            request.insert("config".into(), new.config.clone());
        }
        if let Some(job) = with_submit_key(&mut tx, &new.job, request).await? {
            let run = job.run_id.ok_or_else(|| {
                Error::Invalid(format!("the submit key is that of job {}, not of a run", job.short))
            })?;
            let run = select_runs!("where runs.id = $1", run).fetch_one(&mut *tx).await?;
            return Ok(RunJob { run, job, existed: true });
        }
        let made = insert_run(&mut tx, new).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// A run by its id.
    ///
    /// # Errors
    /// When there is none.
    pub async fn run(&self, id: Uuid) -> Result<Run> {
        select_runs!("where runs.id = $1", id)
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| Run::not_found(&id.to_string()))
    }

    /// The run with this id or name, or whose id begins with this. Of several of one name the newest, which a
    /// warning says.
    ///
    /// # Errors
    /// When no row has this name or id, or several ids begin with it.
    pub async fn find_run(&self, name: &str) -> Result<Run> {
        self.find(name).await
    }

    /// The runs with these ids, in any order.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn runs_by_id(&self, ids: &[Uuid]) -> Result<Vec<Run>> {
        Ok(select_runs!("where runs.id = any($1)", ids).fetch_all(&self.pool).await?)
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn runs(&self, filter: RunFilter) -> Result<Vec<Run>> {
        let by = filter.conditions();
        let rows = select_runs!(
            "where ($1::job_state is null or jobs.state = $1)
               and ($2::text[] is null or jobs.state = any($2::text[]::job_state[]))
               and ($3::text[] is null or runs.kind = any($3::text[]::run_kind[]))
               and ($4::text is null or runs.owner = $4)
               and ($5::text[] is null or runs.tags @> $5)
               and ($6::text is null or runs.name like $6)
               and ($7::text is null or experiments.name = $7)
               and ($8::float8 is null or runs.created_at >= now() - make_interval(secs => $8))
               and ($9::timestamptz is null or runs.created_at >= $9)
               and ($10::uuid is null or jobs.sweep_id = $10)
               and ($11::boolean is null or (runs.archived_at is not null) = $11)
             order by runs.created_at desc, runs.id
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

    /// The runs with these short ids, and where each keeps its files.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_folders(&self, short: &[String]) -> Result<Vec<RunFolder>> {
        let rows = sqlx::query_as!(
            RunFolder,
            r#"select runs.id as "id!", runs.short as "short!", runs.uri as "uri!",
                   jobs.state as "state?: JobState", coalesce(jobs.attempt > 0, false) as "begun!"
               from runs left join jobs on jobs.id = runs.id where runs.short = any($1)"#,
            short,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}

/// Writes the rows of a run and of the job that makes it.
pub(crate) async fn insert_run(tx: &mut PgConnection, new: NewRun) -> Result<RunJob> {
    let id = match &new.fork {
        Some(fork) => fork.run,
        None => new_id(tx).await?,
    };
    let experiment = sqlx::query_scalar!(
        "insert into experiments (id, name) values ($1, $2)
         on conflict on constraint experiments_name_key do update set name = excluded.name
         returning id",
        Uuid::new_v4(),
        new.experiment.as_deref().unwrap_or(&new.name),
    )
    .fetch_one(&mut *tx)
    .await?;
    let uri = match (new.uri, new.under.as_deref()) {
        (Some(uri), _) => uri,
        (None, under) => run_folder(&id, under)?,
    };
    sqlx::query!(
        "insert into runs (id, kind, experiment_id, name, owner, tags, config, config_digest,
             seed, uri, git_revision, total_steps, best_metric)
         values ($1, 'train', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        id,
        experiment,
        new.name,
        new.job.owner,
        &new.job.tags,
        new.config,
        digest(&new.config),
        new.seed,
        uri,
        new.git_revision,
        new.total_steps,
        new.best_metric,
    )
    .execute(&mut *tx)
    .await?;
    for dataset in &new.datasets {
        data::record(tx, id, dataset).await?;
    }
    if let Some(fork) = &new.fork {
        forks::insert(tx, fork).await?;
    }
    let job = insert_job(tx, id, NewJob { run_id: Some(id), ..new.job }).await?;
    let run = select_runs!("where runs.id = $1", id).fetch_one(&mut *tx).await?;
    Ok(RunJob { run, job, existed: false })
}

/// The folder of a run, under a place or in the house.
///
/// # Errors
/// When there is no house.
pub fn run_folder(run: &Uuid, under: Option<&str>) -> Result<String> {
    let short = crate::short(run);
    Ok(match under {
        Some(under) => format!("{}/{short}", under.trim_end_matches('/')),
        // The home is text.
        None => Home::from_env()?.run(&short).to_string_lossy().into_owned(),
    })
}

/// The sha256 of a configuration's JSON with sorted keys, in hex.
fn digest(config: &Value) -> String {
    // serde_json keeps objects sorted by key, so that equal configurations have equal text.
    crate::hex(&Sha256::digest(config.to_string()))
}
