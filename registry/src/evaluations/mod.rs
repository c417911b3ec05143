//! Scores of outputs. Owns `evaluations`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::queue::fence::Fence;
use crate::{Database, Error, Result};

/// Scores to record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewEvaluation {
    /// The run whose outputs were scored, where there is one.
    pub run_id: Option<Uuid>,
    /// The step of its checkpoint.
    pub step: Option<i64>,
    /// The row of the table that it belongs to (`palette`, `untrained`, `reference`).
    pub label: String,
    /// The task that was evaluated.
    pub task: Option<String>,
    /// What was scored.
    pub outputs_uri: String,
    /// What it was compared with.
    pub reference_uri: Option<String>,
    /// The scores by name.
    pub scores: Value,
}

/// A row of `evaluations`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, as in NewEvaluation")]
pub struct Evaluation {
    pub id: Uuid,
    pub job_id: Option<Uuid>,
    pub run_id: Option<Uuid>,
    pub step: Option<i64>,
    pub label: String,
    pub task: Option<String>,
    pub outputs_uri: String,
    pub reference_uri: Option<String>,
    pub scores: Value,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Scores with the name of their run.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, as in NewEvaluation")]
pub struct ScoredRun {
    pub id: Uuid,
    pub job_id: Option<Uuid>,
    pub run_id: Option<Uuid>,
    pub run_name: Option<String>,
    pub step: Option<i64>,
    pub label: String,
    pub task: Option<String>,
    pub outputs_uri: String,
    pub reference_uri: Option<String>,
    pub scores: Value,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

impl Database {
    /// Records scores under this id, once; with a fence as the work of a job.
    pub(crate) async fn insert_evaluation(
        &self,
        fence: Option<Fence>,
        id: Uuid,
        new: &NewEvaluation,
    ) -> Result<()> {
        let mut tx = match fence {
            Some(fence) => self.fenced(fence).await?,
            None => self.pool.begin().await?,
        };
        sqlx::query!(
            "insert into evaluations
                 (id, job_id, run_id, step, label, task, outputs_uri, reference_uri, scores)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             on conflict on constraint evaluations_pkey do nothing",
            id,
            fence.map(|fence| fence.job),
            new.run_id,
            new.step,
            new.label,
            new.task,
            new.outputs_uri,
            new.reference_uri,
            new.scores,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Records scores that no job made.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn record_evaluation(&self, new: &NewEvaluation) -> Result<Uuid> {
        let id = Uuid::new_v4();
        self.insert_evaluation(None, id, new).await?;
        Ok(id)
    }

    /// The scores of a run, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn evaluations(&self, run: Uuid) -> Result<Vec<Evaluation>> {
        let rows = sqlx::query_as!(
            Evaluation,
            "select id, job_id, run_id, step, label, task, outputs_uri, reference_uri, scores,
                 created_at
             from evaluations where run_id = $1 order by created_at",
            run,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The newest scores of each task under each of these labels, where there are some.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn evaluations_labelled(&self, labels: &[String]) -> Result<Vec<Evaluation>> {
        let rows = sqlx::query_as!(
            Evaluation,
            "select distinct on (label, task)
                 id, job_id, run_id, step, label, task, outputs_uri, reference_uri, scores, created_at
             from evaluations where label = any($1) order by label, task, created_at desc",
            labels,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The scores that a job recorded, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn evaluations_by(&self, job: Uuid) -> Result<Vec<Evaluation>> {
        let rows = sqlx::query_as!(
            Evaluation,
            "select id, job_id, run_id, step, label, task, outputs_uri, reference_uri, scores,
                 created_at
             from evaluations where job_id = $1 order by created_at",
            job,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The newest scores of each label, task, run and step, newest first, at most `limit`; those of nobody's run
    /// among them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn newest_evaluations(&self, limit: i64) -> Result<Vec<ScoredRun>> {
        let rows = sqlx::query_as!(
            ScoredRun,
            r#"select newest.id, newest.job_id, newest.run_id, runs.name as "run_name?", newest.step, newest.label,
                   newest.task, newest.outputs_uri, newest.reference_uri, newest.scores, newest.created_at
               from (
                   select distinct on (label, task, run_id, step) *
                   from evaluations order by label, task, run_id, step, created_at desc
               ) newest
               left join runs on runs.id = newest.run_id
               order by newest.created_at desc limit $1"#,
            limit,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The scores of this id.
    ///
    /// # Errors
    /// When there are none.
    pub async fn evaluation(&self, id: Uuid) -> Result<ScoredRun> {
        let row = sqlx::query_as!(
            ScoredRun,
            r#"select evaluations.id, job_id, run_id, runs.name as "run_name?", step, label, task, outputs_uri,
                   reference_uri, scores, evaluations.created_at
               from evaluations left join runs on runs.id = run_id
               where evaluations.id = $1"#,
            id,
        );
        let missing = || Error::NotFound {
            what: "scores".into(),
            name: id.to_string(),
            meant: String::new(),
            list: "runs".into(),
        };
        row.fetch_optional(&self.pool).await?.ok_or_else(missing)
    }

    /// When scores were last recorded.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn last_evaluation(&self) -> Result<Option<OffsetDateTime>> {
        let last = sqlx::query_scalar!("select max(created_at) from evaluations");
        Ok(last.fetch_one(&self.pool).await?)
    }
}
