//! Outputs of sampling jobs for programs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{MOST_ROWS, Opened, names, open, psnr};
use crate::screens::pictures::grid::{number, pairs};
use crate::{Answer, Refusal, Room};

/// Jobs that are listed, at most.
pub const MOST_JOBS: i64 = 200;

/// A sampling job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// The beginning of its id.
    pub short: String,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: String,
    /// The run whose weights draw.
    pub run: Option<String>,
    /// The step of its checkpoint.
    pub step: Option<i64>,
    /// The tasks.
    pub task: String,
    /// Where the outputs lie.
    pub outputs: String,
    /// Chunks that are written.
    pub chunks_done: i64,
    /// All chunks.
    pub chunks: i64,
}

impl From<&registry::SampleJob> for Job {
    fn from(job: &registry::SampleJob) -> Self {
        Self {
            id: job.job_id.to_string(),
            short: job.short.clone(),
            name: job.name.clone(),
            state: job.state.name().to_owned(),
            run: job.run_id.map(|id| id.to_string()),
            step: job.step,
            task: job.task.clone(),
            outputs: job.output_uri.clone(),
            chunks_done: job.chunks.done,
            chunks: job.chunks.total,
        }
    }
}

/// Some rows of the outputs of a job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Rows {
    /// The job.
    pub job: Job,
    /// Rows in all.
    pub rows: u64,
    /// SHA-256 of the manifest.
    pub digest: String,
    /// These rows.
    pub outputs: Vec<Row>,
}

/// An output.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Row {
    /// Its number in the dataset.
    pub row: u64,
    /// The key of the photograph.
    pub key: String,
    /// The task, with what was undone.
    pub task: String,
    /// Which sample.
    pub sample: u32,
    /// Where what was given is served.
    pub source: String,
    /// Where the mask is served.
    pub mask: String,
    /// Where the output is served.
    pub output: String,
    /// Where the photograph is served.
    pub reference: String,
    /// Where the map of the error is served.
    pub error: String,
}

impl Row {
    /// Of a row with this name.
    pub fn of(opened: &Opened, row: u64, name: &outputs::OutputName) -> Self {
        let address = |column| opened.address(row, column, false);
        Self {
            row,
            key: name.key.clone(),
            task: name.task.to_string(),
            sample: name.sample,
            source: address("source"),
            mask: address("mask"),
            output: address("output"),
            reference: address("reference"),
            error: address("error"),
        }
    }
}

/// An output with its error.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Scored {
    /// The output.
    #[serde(flatten)]
    pub output: Row,
    /// PSNR against the photograph in dB; none where they are equal.
    pub psnr: Option<f64>,
}

/// The newest sampling jobs.
#[utoipa::path(get, path = "/api/v1/samples", tag = "pictures", responses((status = 200, body = Vec<Job>)))]
pub async fn jobs(State(room): State<Arc<Room>>) -> Answer<Json<Vec<Job>>> {
    let jobs = room.database.newest_sample_jobs(MOST_JOBS).await?;
    Ok(Json(jobs.iter().map(Job::from).collect()))
}

/// Rows of the outputs of a sampling job.
#[utoipa::path(
    get, path = "/api/v1/samples/{job}", tag = "pictures",
    params(
        ("job" = String, Path, description = "Name or id"),
        ("first" = Option<u64>, Query, description = "The first row, from 0"),
        ("count" = Option<u64>, Query, description = "How many, at most 200; 50 where none is named"),
    ),
    responses((status = 200, body = Rows), (status = 404, description = "There is no such job, or it has written nothing yet"))
)]
pub async fn rows(
    State(room): State<Arc<Room>>,
    Path(job): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<Json<Rows>> {
    let (mut first, mut count) = (0, 50);
    for (name, value) in pairs(query.as_deref()) {
        match name.as_str() {
            "first" => first = number(&value, "first")?.cast_unsigned(),
            "count" => count = number(&value, "count")?.cast_unsigned(),
            _ => {}
        }
    }
    if count > MOST_ROWS {
        return Err(Refusal::bad(format!(
            "count is {count}: ask for at most {MOST_ROWS} rows at once"
        )));
    }
    let opened = open(&room, &job).await?;
    let names = names(&opened, first..first.saturating_add(count)).await?;
    let outputs = (first..).zip(&names).map(|(row, name)| Row::of(&opened, row, name)).collect();
    let digest = opened.dataset.digest().to_owned();
    Ok(Json(Rows { job: Job::from(&opened.job), rows: opened.dataset.len(), digest, outputs }))
}

/// An output of a sampling job with its error.
#[utoipa::path(
    get, path = "/api/v1/samples/{job}/{row}", tag = "pictures",
    params(("job" = String, Path, description = "Name or id"), ("row" = u64, Path, description = "The row, from 0")),
    responses((status = 200, body = Scored), (status = 404, description = "There is no such job or row"))
)]
pub async fn row(
    State(room): State<Arc<Room>>,
    Path((job, row)): Path<(String, String)>,
) -> Answer<Json<Scored>> {
    let row = number(&row, "the row")?.cast_unsigned();
    let opened = open(&room, &job).await?;
    let names = names(&opened, row..row.saturating_add(1)).await?;
    let name = names.first().ok_or_else(|| super::past(&opened, row))?;
    let psnr = psnr(&room, &opened, row).await?;
    Ok(Json(Scored {
        output: Row::of(&opened, row, name),
        psnr: Some(psnr).filter(|psnr| psnr.is_finite()),
    }))
}
