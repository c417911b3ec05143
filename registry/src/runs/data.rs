//! What a run reads. A dataset is its manifest: the digest is recorded when the run is queued, or by the
//! first attempt where the dataset was not there yet, and every attempt compares.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::queue::fence::Fence;
use crate::{Database, Error, Job, Result};

/// What a run reads a dataset for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type,
)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "data_role", rename_all = "lowercase")]
pub enum DataRole {
    /// To train on it.
    Train,
    /// For its validation loss.
    Validation,
    /// For its previews.
    Preview,
}

/// A dataset that a run reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunDataset {
    /// What for.
    pub role: DataRole,
    /// Its name.
    pub name: String,
    /// Where the run reads it.
    pub uri: String,
    /// The sha256 of its manifest: what it is.
    pub manifest_digest: String,
    /// Its number of images.
    pub rows: i64,
    /// Its share of the stream.
    pub weight: f64,
}

/// A dataset that a run reads, as it was recorded.
#[derive(Clone, Debug, Serialize)]
pub struct RecordedData {
    /// The dataset.
    #[serde(flatten)]
    pub dataset: RunDataset,
    /// When it was recorded, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub recorded_at: OffsetDateTime,
}

/// A dataset that runs read, whatever they read it for.
#[derive(Clone, Debug, Serialize)]
pub struct KnownDataset {
    /// Its name.
    pub name: String,
    /// Where it was seen last.
    pub uri: String,
    /// The sha256 of its manifest: what it is.
    pub manifest_digest: String,
    /// Its number of images.
    pub rows: i64,
    /// Runs that read it.
    pub runs: i64,
    /// When it was first recorded, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A dataset that is not what it was when it was recorded.
#[derive(Clone, Debug)]
pub struct ChangedData {
    /// As it was recorded.
    pub before: RecordedData,
    /// As it is.
    pub after: RunDataset,
}

/// A change that a user let a run go on over.
#[derive(Clone, Debug, Serialize)]
pub struct AcceptedChange {
    /// What the run reads it for.
    pub role: DataRole,
    /// Where.
    pub uri: String,
    /// The step from which the run goes on over the later data.
    pub step: i64,
    /// The sha256 of the manifest before.
    pub before: String,
    /// The sha256 of the manifest after.
    pub after: String,
    /// Who accepted it.
    pub accepted_by: String,
    /// When the run went on over it, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub accepted_at: OffsetDateTime,
}

/// What came of comparing a run's data with what was recorded.
#[derive(Clone, Debug)]
pub enum Settled {
    /// All is as it was recorded, or is recorded now.
    Same,
    /// Some is not, and this user accepts it: the changes are recorded.
    Accepted(String, Vec<ChangedData>),
    /// Some is not, and nobody accepts it. Nothing was recorded.
    Refused(Vec<ChangedData>),
}

impl Database {
    /// What a run reads, as it was recorded: by role, then by name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_datasets(&self, run: Uuid) -> Result<Vec<RecordedData>> {
        recorded(&mut *self.pool.acquire().await?, run).await
    }

    /// The datasets that runs read, newest first, at most `limit`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn datasets(&self, limit: i64) -> Result<Vec<KnownDataset>> {
        let rows = sqlx::query_as!(
            KnownDataset,
            r#"select name, uri, manifest_digest, rows, created_at,
                   (select count(distinct run_id) from run_datasets where dataset_id = datasets.id) as "runs!"
               from datasets order by created_at desc, name limit $1"#,
            limit,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The newest runs that read the dataset with this manifest, at most `limit`: their names, and what for.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn readers_of(&self, digest: &str, limit: i64) -> Result<Vec<(String, DataRole)>> {
        let rows = sqlx::query!(
            r#"select runs.name, role as "role: DataRole"
               from run_datasets
               join datasets on datasets.id = dataset_id
               join runs on runs.id = run_id
               where manifest_digest = $1
               group by runs.id, runs.name, role, runs.created_at
               order by runs.created_at desc limit $2"#,
            digest,
            limit,
        );
        let rows = rows.fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| (row.name, row.role)).collect())
    }

    /// The changes of data that a run went on over, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn accepted_changes(&self, run: Uuid) -> Result<Vec<AcceptedChange>> {
        let rows = sqlx::query_as!(
            AcceptedChange,
            r#"select role as "role: DataRole", data_changes.uri, step,
                   earlier.manifest_digest as before, later.manifest_digest as after,
                   accepted_by, accepted_at
               from data_changes
               join datasets earlier on earlier.id = before
               join datasets later on later.id = after
               where run_id = $1 order by accepted_at, role, data_changes.uri"#,
            run,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Compares what a run reads with what was recorded, and records what was not. `step` is that from
    /// which the attempt goes on. A user's leave to go on over other data is used up.
    pub(crate) async fn settle_data(
        &self,
        fence: Fence,
        run: Uuid,
        step: i64,
        found: &[RunDataset],
    ) -> Result<Settled> {
        let mut tx = self.fenced(fence).await?;
        let accepted_by =
            sqlx::query_scalar!("select accepts_data from runs where id = $1 for update", run)
                .fetch_one(&mut *tx)
                .await?;
        let recorded = recorded(&mut tx, run).await?;
        let mut changes = Vec::new();
        for now in found {
            let of_it = |before: &&RecordedData| {
                before.dataset.role == now.role && before.dataset.uri == now.uri
            };
            let mut before = recorded.iter().filter(of_it).peekable();
            if let Some(&first) = before.peek() {
                if before.all(|one| one.dataset.manifest_digest != now.manifest_digest) {
                    changes.push(ChangedData { before: first.clone(), after: now.clone() });
                }
            } else {
                record(&mut tx, run, now).await?;
            }
        }
        let Some(accepted_by) = accepted_by else {
            if !changes.is_empty() {
                tx.rollback().await?;
                return Ok(Settled::Refused(changes));
            }
            tx.commit().await?;
            return Ok(Settled::Same);
        };
        for ChangedData { before, after } in &changes {
            let earlier = &before.dataset.manifest_digest;
            sqlx::query!(
                "delete from run_datasets where run_id = $1 and role = $2 and uri = $3",
                run,
                after.role as DataRole,
                after.uri,
            )
            .execute(&mut *tx)
            .await?;
            record(&mut tx, run, after).await?;
            sqlx::query!(
                "insert into data_changes (run_id, role, uri, step, before, after, accepted_by)
                 select $1, $2, $3, $4, earlier.id, later.id, $7
                 from datasets earlier, datasets later
                 where earlier.manifest_digest = $5 and later.manifest_digest = $6",
                run,
                after.role as DataRole,
                after.uri,
                step,
                earlier,
                after.manifest_digest,
                accepted_by,
            )
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query!("update runs set accepts_data = null where id = $1", run)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(match changes.is_empty() {
            true => Settled::Same,
            false => Settled::Accepted(accepted_by, changes),
        })
    }
}

/// Lets the next attempt at a run go on over data that is not what was recorded.
pub(crate) async fn accept(tx: &mut PgConnection, job: &Job, by: &str) -> Result<()> {
    let run = job.run_id.filter(|run| *run == job.id).ok_or_else(|| {
        Error::Invalid(format!(
            "job {} trains no run: only of a run's data a change can be accepted; what samples or \
             scores other data is another job, to be submitted anew",
            job.short
        ))
    })?;
    sqlx::query!("update runs set accepts_data = $2 where id = $1", run, by).execute(tx).await?;
    Ok(())
}

/// Records a dataset of a run; one that is named twice, once.
pub(super) async fn record(tx: &mut PgConnection, run: Uuid, dataset: &RunDataset) -> Result<()> {
    let id = sqlx::query_scalar!(
        "insert into datasets (id, name, uri, manifest_digest, rows)
         values ($1, $2, $3, $4, $5)
         on conflict on constraint datasets_manifest_digest_key
             do update set uri = excluded.uri
         returning id",
        Uuid::new_v4(),
        dataset.name,
        dataset.uri,
        dataset.manifest_digest,
        dataset.rows,
    )
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query!(
        "insert into run_datasets (run_id, role, dataset_id, uri, weight)
         values ($1, $2, $3, $4, $5)
         on conflict do nothing",
        run,
        dataset.role as DataRole,
        id,
        dataset.uri,
        dataset.weight,
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn recorded(tx: &mut PgConnection, run: Uuid) -> Result<Vec<RecordedData>> {
    let rows = sqlx::query!(
        r#"select role as "role: DataRole", name, run_datasets.uri, manifest_digest, rows, weight,
               recorded_at
           from run_datasets join datasets on datasets.id = dataset_id
           where run_id = $1 order by role, name, run_datasets.uri"#,
        run,
    )
    .fetch_all(tx)
    .await?;
    let row = rows.into_iter().map(|row| RecordedData {
        dataset: RunDataset {
            role: row.role,
            name: row.name,
            uri: row.uri,
            manifest_digest: row.manifest_digest,
            rows: row.rows,
            weight: row.weight,
        },
        recorded_at: row.recorded_at,
    });
    Ok(row.collect())
}
