//! Series and tables as files: `/api/v1/runs/ID/metrics.KIND`, `/api/v1/runs.KIND`.
//!
//! A file is made while it is sent. One of up to [`SMALL`] bytes is sent with its length, and parts of it may be asked
//! for, which readers of Parquet do: it is kept for a moment, so that all parts are of one file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use registry::{Database, Run, RunFilter};
use serde::Deserialize;
use tokio::sync::{Mutex, Semaphore, mpsc};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::formats::Format;
use crate::formats::tables::{self, Error};
use crate::{Answer, Refusal, Room};

/// Bytes of a file that is kept and sent with its length.
const SMALL: usize = 32 << 20;
/// Files that are made at once: each is held until it is longer than that.
static AT_ONCE: Semaphore = Semaphore::const_new(4);
/// Bytes of all files that are kept.
const KEPT: usize = 4 * SMALL;
/// How long one is kept.
const AGE: Duration = Duration::from_secs(30);

pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
        .routes(routes!(metrics_json))
        .routes(routes!(metrics_csv))
        .routes(routes!(metrics_parquet))
        .routes(routes!(metrics_arrow))
        .routes(routes!(runs_csv))
        .routes(routes!(runs_parquet))
        .routes(routes!(runs_arrow))
}

/// Which points.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Points {
    /// Metrics, with commas between; all where none is named.
    #[serde(default)]
    metrics: String,
}

/// Which runs.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Of this experiment.
    experiment: Option<String>,
    /// Of this owner.
    owner: Option<String>,
    /// Of this name, in which `*` is any text.
    name: Option<String>,
    /// With all of these tags, with commas between.
    #[serde(default)]
    tags: String,
    /// In one of these states, with commas between.
    #[serde(default)]
    states: String,
    /// Also those that are archived.
    #[serde(default)]
    archived: bool,
}

/// A route for a format of points.
macro_rules! metrics {
    ($name:ident, $path:literal, $kind:literal, $format:expr) => {
        /// All points of a run: run, name, metric, step, attempt, value. What is not finite is null in JSON.
        #[utoipa::path(get, path = $path, params(("run" = String, Path, description = "Name or id of a run"), Points),
            responses((status = 200, content_type = $kind), (status = 404, description = "there is no such run")))]
        async fn $name(
            State(room): State<Arc<Room>>,
            Path(run): Path<String>,
            Query(wanted): Query<Points>,
            headers: HeaderMap,
        ) -> Answer<Response> {
            points(&room, &run, wanted, $format, &headers).await
        }
    };
}
metrics!(metrics_json, "/api/v1/runs/{run}/metrics.json", "application/json", Format::Json);
metrics!(metrics_csv, "/api/v1/runs/{run}/metrics.csv", "text/csv", Format::Csv);
metrics!(
    metrics_parquet,
    "/api/v1/runs/{run}/metrics.parquet",
    "application/vnd.apache.parquet",
    Format::Parquet
);
metrics!(
    metrics_arrow,
    "/api/v1/runs/{run}/metrics.arrow",
    "application/vnd.apache.arrow.file",
    Format::Arrow
);

/// A route for a format of runs.
macro_rules! runs {
    ($name:ident, $path:literal, $kind:literal, $format:expr) => {
        /// All runs, newest first, with a column for each setting (`config.train.steps`) and for the latest value of each
        /// metric (`metric.loss`).
        #[utoipa::path(get, path = $path, params(Wanted), responses((status = 200, content_type = $kind)))]
        async fn $name(
            State(room): State<Arc<Room>>,
            Query(wanted): Query<Wanted>,
            headers: HeaderMap,
        ) -> Answer<Response> {
            all_runs(&room, wanted, $format, &headers).await
        }
    };
}
runs!(runs_csv, "/api/v1/runs.csv", "text/csv", Format::Csv);
runs!(runs_parquet, "/api/v1/runs.parquet", "application/vnd.apache.parquet", Format::Parquet);
runs!(runs_arrow, "/api/v1/runs.arrow", "application/vnd.apache.arrow.file", Format::Arrow);

/// What a file holds.
enum What {
    Points(Box<Run>, Vec<String>),
    Runs(Box<RunFilter>),
}

async fn points(
    room: &Room,
    run: &str,
    wanted: Points,
    format: Format,
    headers: &HeaderMap,
) -> Answer<Response> {
    let run = super::run(room, run).await?;
    let key = format!("{format:?} {} {}", run.id, wanted.metrics);
    let name = format!("metrics-{}", run.short);
    let metrics = list(&wanted.metrics);
    file(room, key, &name, What::Points(Box::new(Run::clone(&run)), metrics), format, headers).await
}

async fn all_runs(
    room: &Room,
    wanted: Wanted,
    format: Format,
    headers: &HeaderMap,
) -> Answer<Response> {
    let key = format!(
        "{format:?} {:?} {:?} {:?} {} {} {}",
        wanted.experiment, wanted.owner, wanted.name, wanted.tags, wanted.states, wanted.archived
    );
    let states: Result<Vec<_>, _> =
        list(&wanted.states).iter().map(|state| state.parse()).collect();
    let filter = RunFilter {
        experiment: wanted.experiment,
        owner: wanted.owner,
        name: wanted.name,
        tags: list(&wanted.tags),
        states: states.map_err(|error| Refusal::bad(format!("states: {error}")))?,
        archived: if wanted.archived { None } else { Some(false) },
        limit: None,
        ..RunFilter::default()
    };
    file(room, key, "runs", What::Runs(Box::new(filter)), format, headers).await
}

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

/// Small files that were made a moment ago.
#[derive(Default)]
struct Recent(Mutex<Vec<(String, Instant, Bytes)>>);

impl Recent {
    async fn get(&self, key: &str) -> Option<Bytes> {
        let mut kept = self.0.lock().await;
        kept.retain(|(_, made, _)| made.elapsed() < AGE);
        kept.iter().find(|(known, ..)| known == key).map(|(.., bytes)| bytes.clone())
    }

    async fn keep(&self, key: String, bytes: Bytes) {
        let mut kept = self.0.lock().await;
        kept.push((key, Instant::now(), bytes));
        while kept.iter().map(|(.., bytes)| bytes.len()).sum::<usize>() > KEPT {
            kept.remove(0);
        }
    }
}

async fn file(
    room: &Room,
    key: String,
    name: &str,
    what: What,
    format: Format,
    headers: &HeaderMap,
) -> Answer<Response> {
    let recent =
        room.shared.get("curves/files", Duration::MAX, async { Ok(Recent::default()) }).await?;
    let mut response = match recent.get(&key).await {
        Some(bytes) => part(bytes, headers),
        None => {
            let turn = AT_ONCE.acquire().await.map_err(|_| Refusal::later("the server ends"))?;
            let (sender, mut parts) = mpsc::channel(2);
            let database = room.database.clone();
            let making = tokio::spawn(async move {
                let _turn = turn;
                make(database, what, format, sender).await
            });
            let mut first = Vec::new();
            while first.len() <= SMALL {
                match parts.recv().await {
                    Some(bytes) => first.extend_from_slice(&bytes),
                    None => break,
                }
            }
            if first.len() <= SMALL {
                match making.await {
                    Ok(Ok(())) => {}
                    Ok(Err(Error::Database(error))) => return Err(error.into()),
                    Ok(Err(error)) => return Err(Refusal::conflict(format!("the file: {error}"))),
                    Err(error) => return Err(Refusal::conflict(format!("the file: {error}"))),
                }
                let bytes = Bytes::from(first);
                recent.keep(key, bytes.clone()).await;
                part(bytes, headers)
            } else {
                Body::from_stream(rest(first, parts, making)).into_response()
            }
        }
    };
    let disposition = format!("inline; filename=\"{name}.{}\"", format.extension());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

async fn make(
    database: Database,
    what: What,
    format: Format,
    parts: mpsc::Sender<Vec<u8>>,
) -> Result<(), Error> {
    match what {
        What::Points(run, metrics) => {
            tables::points(&database, &[*run], &metrics, format, parts).await
        }
        What::Runs(filter) => tables::runs(&database, *filter, format, parts).await,
    }
}

/// What was made, and then what is made meanwhile; a failure breaks the connection off, so that nobody takes a part for
/// the whole.
fn rest(
    first: Vec<u8>,
    parts: mpsc::Receiver<Vec<u8>>,
    making: tokio::task::JoinHandle<Result<(), Error>>,
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    let begin = (Some(first), parts, Some(making));
    futures_util::stream::unfold(begin, async |(first, mut parts, making)| {
        if let Some(first) = first {
            return Some((Ok(Bytes::from(first)), (None, parts, making)));
        }
        if let Some(bytes) = parts.recv().await {
            return Some((Ok(Bytes::from(bytes)), (None, parts, making)));
        }
        let failed = match making?.await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!("a file was not sent to its end: {failed}");
        Some((Err(std::io::Error::other(failed)), (None, parts, None)))
    })
}

/// The whole of a file, or the part that was asked for.
fn part(bytes: Bytes, headers: &HeaderMap) -> Response {
    let accepts = (header::ACCEPT_RANGES, "bytes");
    let asked = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    match asked.map(|range| bounds(range, bytes.len())) {
        None | Some(None) => ([accepts], bytes).into_response(),
        Some(Some(Err(()))) => {
            let whole = format!("bytes */{}", bytes.len());
            (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, whole)]).into_response()
        }
        Some(Some(Ok((first, end)))) => {
            let which = format!("bytes {first}-{}/{}", end - 1, bytes.len());
            let range = [(header::CONTENT_RANGE, which)];
            (StatusCode::PARTIAL_CONTENT, [accepts], range, bytes.slice(first..end)).into_response()
        }
    }
}

/// `bytes=FIRST-LAST`, `bytes=FIRST-`, `bytes=-COUNT` as a range; none for anything else, which is answered with the whole.
fn bounds(range: &str, length: usize) -> Option<Result<(usize, usize), ()>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, end) = match (first.trim(), last.trim()) {
        ("", count) => (length.saturating_sub(count.parse().ok()?), length),
        (first, "") => (first.parse().ok()?, length),
        (first, last) => {
            let last: usize = last.parse().ok()?;
            (first.parse().ok()?, last.saturating_add(1).min(length))
        }
    };
    Some(if first < end { Ok((first, end)) } else { Err(()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_within_the_file() {
        assert_eq!(bounds("bytes=0-9", 100), Some(Ok((0, 10))));
        assert_eq!(bounds("bytes=90-", 100), Some(Ok((90, 100))));
        assert_eq!(bounds("bytes=-8", 100), Some(Ok((92, 100))));
        assert_eq!(bounds("bytes=-800", 100), Some(Ok((0, 100))));
        assert_eq!(bounds("bytes=0-18446744073709551615", 100), Some(Ok((0, 100))));
        assert_eq!(bounds("bytes=100-", 100), Some(Err(())));
        assert_eq!(bounds("bytes=5-4", 100), Some(Err(())));
        assert_eq!(bounds("bytes=0-1,5-6", 100), None);
        assert_eq!(bounds("lines=1-2", 100), None);
    }
}
