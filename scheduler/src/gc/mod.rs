//! Reclaiming space by policy. [`plan`] looks and changes nothing; [`run`] carries a plan out: what is
//! to go is marked where somebody could still choose it, its files are removed, then it is
//! forgotten. Called by `scheduler gc`.
//!
//! Always holds: whatever moment a process is killed at, a kept checkpoint is complete, and what was
//! marked or left is found and finished by the next run. Every removal looks again under a lock of
//! the job that it is about (`Database::idle`): nothing goes under a job that runs. Nothing is
//! removed outside of the home but checkpoints and pictures at the addresses that the registry names. History
//! (runs, metrics that are shown, evaluations, the last lines of logs) is never deleted.

mod cache;
mod checkpoints;
mod logs;
mod metrics;
mod orphans;
mod pictures;
mod policy;
#[cfg(test)]
mod tests;
mod tree;
mod tries;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use home::Home;
use registry::{Database, Error, Lock, Result, WorkerInfo};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

pub use policy::{Age, Keep, Policy, Size, Spread};

/// What kind of thing is reclaimed, in the order in which that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Checkpoints of runs.
    Checkpoints,
    /// Working folders of attempts, with their logs.
    Logs,
    /// Points of metrics.
    Metrics,
    /// Copies of checkpoints of object stores.
    Cache,
    /// Pictures of previews.
    Pictures,
    /// Files that no row names.
    Orphans,
    /// Pictures that were tried.
    Tries,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 7] = [
        Self::Checkpoints,
        Self::Logs,
        Self::Metrics,
        Self::Cache,
        Self::Pictures,
        Self::Orphans,
        Self::Tries,
    ];

    /// Its name, as the tables write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoints => "checkpoints",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Cache => "cache",
            Self::Pictures => "pictures",
            Self::Orphans => "orphans",
            Self::Tries => "tries",
        }
    }
}

/// Something that can go.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// Its class.
    pub class: Class,
    /// What people call it, such as `run 0a1b2c3d step 20`.
    pub what: String,
    /// Why it can go.
    pub why: String,
    /// Where it lies; nothing for rows.
    pub place: Option<String>,
    /// How many: points of a series, pictures of a run, otherwise 1.
    pub count: u64,
    /// Bytes that it takes, of points their rows without the index.
    pub bytes: u64,
    #[serde(skip)]
    target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Checkpoint {
        run: Uuid,
        step: i64,
    },
    Attempt {
        job: Uuid,
        number: i32,
        folder: PathBuf,
    },
    Points {
        run: Uuid,
    },
    Copy {
        name: String,
    },
    /// All but those of the outputs of `most` steps.
    Pictures {
        run: Uuid,
        uri: String,
        most: usize,
    },
    Orphan {
        run: Uuid,
        path: PathBuf,
    },
    Tries {
        before: OffsetDateTime,
    },
}

/// What can go by a policy.
#[derive(Debug)]
pub struct Plan {
    /// All that can go, in the order in which it will.
    pub items: Vec<Item>,
    /// What was seen and left alone, in whole sentences.
    pub notes: Vec<String>,
    scope: Scope,
}

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is gone.
    Gone,
    /// It is needed after all, for this reason.
    Left(String),
    /// It could not be removed, for this reason; what was marked stays marked.
    Failed(String),
}

/// How many there are of a class, and what they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Total {
    /// The class.
    pub class: Class,
    /// How many.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Sums of each class that has any.
pub fn totals<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<Total> {
    let mut sums = Class::ALL.map(|class| Total { class, count: 0, bytes: 0 });
    for item in items {
        let sum = &mut sums[item.class as usize];
        sum.count += item.count;
        sum.bytes += item.bytes;
    }
    sums.into_iter().filter(|sum| sum.count > 0).collect()
}

/// What a plan is made for, and by which clocks.
#[derive(Debug)]
struct Scope {
    policy: Policy,
    home: Home,
    host: String,
    /// Jobs that ended later than this are left alone; by the server's clock.
    ended_before: OffsetDateTime,
    /// This host's clock, by which files are dated.
    now: SystemTime,
}

impl Scope {
    /// How old something must be by the policy.
    fn age(&self) -> Duration {
        self.policy.older_than.map_or(Duration::ZERO, |age| age.0)
    }

    /// True where a file was changed so long ago, by the policy and by this least age.
    fn is_older(&self, changed: SystemTime, least: Duration) -> bool {
        self.now.duration_since(changed).is_ok_and(|age| age >= self.age().max(least))
    }
}

/// Finds what can go. Changes nothing, in files or database.
///
/// # Errors
/// When the policy makes no sense, the database is out of reach, or a folder of the home cannot be read.
pub async fn plan(db: &Database, home: &Home, policy: &Policy) -> Result<Plan> {
    let policy = policy.clone().checked()?;
    let age = policy.older_than.map_or(Duration::ZERO, |age| age.0);
    let scope = Scope {
        policy,
        home: home.clone(),
        host: WorkerInfo::this_process(None, 0).host,
        ended_before: db.now().await? - age,
        now: SystemTime::now(),
    };
    let mut notes = Vec::new();
    let mut items = checkpoints::find(db, &scope, &mut notes).await?;
    if scope.policy.logs {
        items.extend(logs::find(db, &scope).await?);
    }
    if scope.policy.metrics {
        items.extend(metrics::find(db, &scope).await?);
    }
    if scope.policy.cache {
        items.extend(cache::find(&scope, &mut notes)?);
    }
    items.extend(pictures::find(db, &scope, &mut notes).await?);
    if scope.policy.orphans {
        items.extend(orphans::find(db, &scope, &mut notes).await?);
    }
    if scope.policy.tries {
        items.extend(tries::find(db, &scope).await?);
    }
    Ok(Plan { items, notes, scope })
}

/// Carries a plan out, and tells what became of each item as soon as that is known. A failed removal
/// does not stop the rest.
///
/// # Errors
/// When the database is out of reach; what was marked stays marked.
pub async fn run(db: &Database, plan: &Plan, mut tell: impl FnMut(&Item, &Fate)) -> Result<()> {
    let scope = &plan.scope;
    let same_run = |a: &Item, b: &Item| match (&a.target, &b.target) {
        (Target::Checkpoint { run: a, .. }, Target::Checkpoint { run: b, .. }) => a == b,
        _ => false,
    };
    for group in plan.items.chunk_by(same_run) {
        if let Target::Checkpoint { run, .. } = group[0].target {
            checkpoints::mark(db, scope, run, group).await?;
        }
        for item in group {
            let fate = match remove(db, scope, &item.target).await {
                Ok(fate) => fate,
                Err(error) if error.is_outage() => return Err(error),
                Err(error) => Fate::Failed(error.to_string()),
            };
            tell(item, &fate);
        }
    }
    Ok(())
}

async fn remove(db: &Database, scope: &Scope, target: &Target) -> Result<Fate> {
    match target {
        Target::Checkpoint { run, step } => checkpoints::remove(db, *run, *step).await,
        Target::Attempt { job, number, folder } => {
            logs::remove(db, scope, *job, *number, folder).await
        }
        Target::Points { run } => metrics::remove(db, *run).await,
        Target::Copy { name } => cache::remove(scope, name).await,
        Target::Pictures { run, uri, most } => pictures::remove(db, scope, *run, uri, *most).await,
        Target::Orphan { run, path } => orphans::remove(db, scope, *run, path).await,
        Target::Tries { before } => tries::remove(db, *before).await,
    }
}

/// Removes files on a thread that may wait for them.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Failed(format!("a removal ended badly: {error}")))?
}

/// Takes the right to be the only one that reclaims. Two at once would do no harm, but each would report what
/// the other has removed as its own.
///
/// # Errors
/// When another process has it.
pub async fn alone(db: &Database) -> Result<Lock> {
    // Any two numbers that nobody else uses.
    const NAME: (i32, i32) = (0x7061_6c65, 0x6763);
    db.lock(NAME).await?.ok_or_else(|| {
        Error::Failed("another `scheduler gc` is at work on this database: wait for its end".into())
    })
}
