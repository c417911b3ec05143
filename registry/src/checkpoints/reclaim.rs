//! Checkpoints whose files may go: what `scheduler gc` asks, and what it does to a run that does not run
//! ([`Idle`]).

use std::os::unix::fs::MetadataExt;

use sqlx::PgConnection;
use storage::Place;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::checkpoints::removal::Removal;
use crate::checkpoints::retention::retire;
use crate::queue::fence::Idle;
use crate::{Database, Error, JobState, Result, RunCheckpoints};

/// A run that does not run, with checkpoints that may be marked or are.
#[derive(Clone, Debug)]
pub struct Reclaimable {
    /// The run.
    pub run: Uuid,
    /// Its short id.
    pub short: String,
    /// The state of its job.
    pub state: JobState,
    /// Its job ended before the time that was asked for.
    pub due: bool,
}

/// Where a checkpoint lies.
#[derive(Clone, Debug)]
pub struct CheckpointFolder {
    /// Its step.
    pub step: i64,
    /// The address of its folder.
    pub uri: String,
    /// Bytes of its files.
    pub bytes: i64,
    /// The host that wrote it, where that is known.
    pub host: Option<String>,
    /// It is marked: its removal was begun.
    pub retiring: bool,
    /// SHA-256 of its `state.json`.
    pub digest: String,
    /// The address of its run's folder.
    pub run_uri: String,
    /// The addresses of other runs' checkpoints with this digest: copies, or the same folder by another name.
    pub others: Vec<String>,
}

impl CheckpointFolder {
    /// What is to be removed of it.
    ///
    /// # Errors
    /// When another run has a checkpoint there.
    pub fn removal(self) -> Result<Removal> {
        let place = Place::stored(&self.uri).map_err(storage::Error::from)?;
        if self.others.iter().any(|other| is_one(&place, other)) {
            let message = format!("{}: another run has a checkpoint there: not removed", self.uri);
            return Err(Error::Failed(message));
        }
        let Self { run_uri, step, uri, digest, .. } = self;
        Ok(Removal { run_uri, step, uri, digest })
    }
}

impl Database {
    /// The runs that do not run and have checkpoints which are marked, or with `unmarked` any where the job
    /// ended before then. Oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn reclaimable(
        &self,
        ended_before: OffsetDateTime,
        unmarked: bool,
    ) -> Result<Vec<Reclaimable>> {
        let rows = sqlx::query_as!(
            Reclaimable,
            r#"select runs.id as run, runs.short, jobs.state as "state: JobState",
                   coalesce(jobs.ended_at < $1, false) as "due!"
               from runs join jobs on jobs.id = runs.id
               where jobs.state <> 'running' and exists (
                   select from checkpoints where run_id = runs.id
                     and (checkpoints.state = 'retiring' or ($2 and jobs.ended_at < $1)))
               order by runs.created_at, runs.id"#,
            ended_before,
            unmarked,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// What decides about the checkpoints of a run at this moment.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_checkpoints(&self, run: Uuid) -> Result<RunCheckpoints> {
        RunCheckpoints::read(&mut *self.pool.acquire().await?, run).await
    }

    /// Where all checkpoints of a run lie, by step.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn checkpoint_folders(&self, run: Uuid) -> Result<Vec<CheckpointFolder>> {
        folders(&mut *self.pool.acquire().await?, run).await
    }
}

impl Idle {
    /// Marks the checkpoints at the steps that `surplus` gives, safe against submissions and choices at the
    /// same moment.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn retire(
        &mut self,
        surplus: impl FnOnce(JobState, &RunCheckpoints) -> Vec<i64>,
    ) -> Result<()> {
        let state = self.state;
        retire(&mut self.tx, self.job, |standing| surplus(state, standing)).await
    }

    /// As [`Database::checkpoint_folders`], of the run that is held.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn checkpoint_folders(&mut self) -> Result<Vec<CheckpointFolder>> {
        folders(&mut self.tx, self.job).await
    }

    /// Forgets a marked checkpoint whose files are gone.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_checkpoint(&mut self, step: i64) -> Result<()> {
        super::retention::forget(&mut self.tx, self.job, step).await
    }
}

/// Whether an address names this place, whatever way it takes there.
fn is_one(place: &Place, address: &str) -> bool {
    let Ok(other) = Place::stored(address) else { return false };
    let inode = |place: &Place| {
        let meta = std::fs::metadata(place.local()?).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    match (inode(place), inode(&other)) {
        (Some(place), Some(other)) => place == other,
        _ => *place == other,
    }
}

pub(super) async fn folders(
    connection: &mut PgConnection,
    run: Uuid,
) -> Result<Vec<CheckpointFolder>> {
    let rows = sqlx::query_as!(
        CheckpointFolder,
        r#"select step, checkpoints.uri, bytes, attempts.host as "host?", checkpoints.state = 'retiring' as "retiring!",
               digest, runs.uri as run_uri,
               array(select other.uri from checkpoints other
                     where other.digest = checkpoints.digest and other.run_id <> runs.id) as "others!"
           from checkpoints join runs on runs.id = run_id
           left join attempts on job_id = run_id and number = attempt
           where run_id = $1
           order by step"#,
        run,
    );
    Ok(rows.fetch_all(connection).await?)
}
