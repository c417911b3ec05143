//! Outputs of sampling jobs, read from their datasets by row groups. A picture is named by job, row and column.

pub mod api;
pub mod page;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use outputs::{OutputDataset, OutputImage, OutputName};
use registry::SampleJob;
use storage::Place;

use super::bytes::{LONGEST, between, blocking, decoded, failed, known, picture};
use super::grid::pairs;
use super::shared;
use crate::{Answer, Refusal, Room};

/// Rows of a page, at most.
pub const MOST_ROWS: u64 = 200;

/// Rows of one input that are looked at, at most: samples of an input follow one another.
const MOST_SAMPLES: u64 = 256;

/// Bytes of a thumbnail.
const SMALL: usize = 64 << 10;

/// A sampling job with what it has written.
pub struct Opened {
    /// The job.
    pub job: SampleJob,
    /// Its outputs.
    pub dataset: OutputDataset,
}

impl Opened {
    /// The beginning of the digest of its manifest: what the addresses of its pictures carry.
    fn version(&self) -> &str {
        self.dataset.digest().get(..16).unwrap_or_default()
    }

    /// Where a column of a row is served.
    fn address(&self, row: u64, column: &str, small: bool) -> String {
        let small = if small { "&small=1" } else { "" };
        format!("/samples/{}/{row}/{column}?of={}{small}", self.job.short, self.version())
    }
}

/// The sampling job of this name or id.
pub async fn job(room: &Room, name: &str) -> Answer<SampleJob> {
    let id = room.database.find_job(name).await?.id;
    let jobs = room.database.sample_jobs(id).await?;
    let found = jobs.into_iter().find(|job| job.job_id == id);
    found.ok_or_else(|| {
        Refusal::missing(format!("job `{name}` samples nothing; /samples lists the jobs that do"))
    })
}

/// Why the outputs of a job that has not ended cannot be looked at.
fn unfinished(job: &SampleJob) -> String {
    let registry::SampleJob { short, chunks, .. } = job;
    let far = match chunks.total {
        0 => "it has not begun to write".to_owned(),
        total => format!("{} of {total} chunks are written", chunks.done),
    };
    format!("The outputs of job {short} can be looked at when it is done: {far}.")
}

/// The outputs of a sampling job, opened once for all who ask.
pub async fn open(room: &Room, name: &str) -> Answer<Arc<Opened>> {
    let make = async {
        let job = job(room, name).await?;
        let place = Place::stored(&job.output_uri).map_err(failed)?;
        let opened = blocking(move || {
            OutputDataset::open(&place).map_err(|error| match error.is_outage() {
                true => Refusal::later(error.to_string()),
                false => Refusal::missing(error.to_string()),
            })
        });
        match opened.await {
            Ok(dataset) => Ok(Opened { job, dataset }),
            Err(refusal) if !job.state.is_final() => {
                Err(Refusal { why: unfinished(&job), ..refusal })
            }
            Err(refusal) => Err(refusal),
        }
    };
    shared(room, &format!("samples/{name}"), Duration::from_secs(20), Box::pin(make)).await
}

/// The names of some rows.
pub async fn names(opened: &Arc<Opened>, rows: Range<u64>) -> Answer<Vec<OutputName>> {
    let opened = Arc::clone(opened);
    blocking(move || opened.dataset.names_from(rows.start, rows.end - rows.start).map_err(failed))
        .await
}

/// The rows of the input that a row is of, which follow one another: those of one key and task.
pub async fn input(opened: &Arc<Opened>, row: u64) -> Answer<(Range<u64>, Vec<OutputName>)> {
    let first = row.saturating_sub(MOST_SAMPLES);
    let last = row.saturating_add(MOST_SAMPLES);
    let around = names(opened, first..last).await?;
    let at = (row - first) as usize;
    let own = around.get(at).cloned().ok_or_else(|| past(opened, row))?;
    let same = |one: &&OutputName| one.key == own.key && one.task == own.task;
    let before = around[..at].iter().rev().take_while(same).count();
    let after = around[at..].iter().take_while(same).count();
    let rows = row - before as u64..row + after as u64;
    Ok((rows, around[at - before..at + after].to_vec()))
}

fn past(opened: &Opened, row: u64) -> Refusal {
    Refusal::missing(format!(
        "the outputs of job {} have {} rows, from 0: no row {row}",
        opened.job.short,
        opened.dataset.len()
    ))
}

/// An image of a row.
pub async fn load(opened: &Arc<Opened>, row: u64, column: OutputImage) -> Answer<Vec<u8>> {
    let of = Arc::clone(opened);
    let bytes = blocking(move || of.dataset.image(row, column).map_err(failed)).await?;
    let bytes = bytes.ok_or_else(|| past(opened, row))?;
    match bytes.len() as u64 > LONGEST {
        true => Err(Refusal::conflict(format!("the picture is longer than {LONGEST} bytes"))),
        false => Ok(bytes),
    }
}

/// The PSNR of an output against its reference.
pub async fn psnr(room: &Room, opened: &Arc<Opened>, row: u64) -> Answer<f64> {
    let make = async {
        let output = load(opened, row, OutputImage::Output).await?;
        let reference = load(opened, row, OutputImage::Reference).await?;
        blocking(move || Ok(between(&output, &reference)?.psnr)).await
    };
    let key = format!("samples/psnr/{}/{row}", opened.dataset.digest());
    Ok(*shared(room, &key, Duration::from_secs(600), Box::pin(make)).await?)
}

/// `GET /samples/JOB/ROW/COLUMN`: `source`, `mask`, `output`, `reference`, or `error`, what is between the last two.
/// With `small=1` at most 96 pixels a side.
pub async fn image(
    State(room): State<Arc<Room>>,
    Path((name, row, column)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer<Response> {
    let row: u64 = row.parse().map_err(|_| Refusal::bad("a row is a whole number from 0"))?;
    let asked = pairs(query.as_deref());
    let value =
        |name: &str| asked.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let small = value("small").is_some();
    let opened = open(&room, &name).await?;
    let tag =
        format!("{}-{row}-{column}{}", opened.dataset.digest(), if small { "-small" } else { "" });
    if let Some(known) = known(&headers, &tag) {
        return Ok(known);
    }
    // An address that carries another digest is of a page that is older than these outputs.
    let for_good = value("of") == Some(opened.version());
    let bytes = match (
        OutputImage::ALL.into_iter().find(|image| image.column() == column),
        column.as_str(),
    ) {
        (Some(column), _) => load(&opened, row, column).await?,
        (None, "error") => {
            let output = load(&opened, row, OutputImage::Output).await?;
            let reference = load(&opened, row, OutputImage::Reference).await?;
            blocking(move || pictures::png(&between(&output, &reference)?.map).map_err(failed))
                .await?
        }
        _ => {
            return Err(Refusal::missing("a row has source, mask, output, reference and error"));
        }
    };
    let bytes = match small {
        true => {
            blocking(move || {
                let picture = decoded(&bytes)?;
                pictures::thumbnail(&picture, SMALL).map_err(failed)
            })
            .await?
        }
        false => bytes,
    };
    picture(bytes, &tag, for_good)
}
