//! `GET /api/v1/curves`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use registry::CurveWindow;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::CurvesAnswer;
use crate::{Answer, Refusal, Room};

/// How old an answer may be that several pages get.
const AGE: Duration = Duration::from_secs(2);
/// Times of steps that an answer has for a run.
const TIMES: i64 = 500;

pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new().routes(routes!(curves))
}

/// What curves are asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// Names or ids of runs, with commas between.
    runs: String,
    /// Metrics, with commas between; all where none is named.
    #[serde(default)]
    metrics: String,
    /// The first step.
    from: Option<i64>,
    /// The last step.
    to: Option<i64>,
    /// Columns for each curve, the width of a chart in pixels: 800 where nothing is said, at most 4000. A curve with no
    /// more points than twice that is given point by point.
    columns: Option<i64>,
    /// Whether restarts, rewinds and checkpoints are wanted.
    #[serde(default)]
    marks: bool,
    /// Whether the times of steps are wanted.
    #[serde(default)]
    times: bool,
}

/// Curves: every point, or the least, the most and the mean of columns, which the answer says.
#[utoipa::path(get, path = "/api/v1/curves", params(Asked), responses(
    (status = 200, body = CurvesAnswer), (status = 404, description = "a run is not there")
))]
async fn curves(
    State(room): State<Arc<Room>>,
    Query(asked): Query<Asked>,
) -> Answer<impl IntoResponse> {
    let columns = asked.columns.unwrap_or(800).clamp(10, 4000);
    let key = format!(
        "curves/{}\n{}\n{:?} {:?} {columns} {} {}",
        asked.runs, asked.metrics, asked.from, asked.to, asked.marks, asked.times
    );
    let body = room.shared.get(&key, AGE, answer(&room, &asked, columns)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], Bytes::clone(&body)))
}

async fn answer(room: &Room, asked: &Asked, columns: i64) -> Answer<Bytes> {
    let runs = super::runs(room, &asked.runs).await?;
    if runs.is_empty() {
        return Err(Refusal::bad("no run is named: ?runs=NAME,NAME"));
    }
    let ids: Vec<_> = runs.iter().map(|run| run.id).collect();
    let metrics: Vec<String> =
        asked.metrics.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let database = &room.database;
    let window = CurveWindow { from: asked.from, to: asked.to, columns };
    let drawn = async {
        let series = database.series(&ids, &metrics).await?;
        database.curves(&series, window).await
    };
    let marks =
        async { if asked.marks { database.curve_marks(&ids).await } else { Ok(Vec::new()) } };
    let times =
        async { if asked.times { database.moments(&ids, TIMES).await } else { Ok(Vec::new()) } };
    let (drawn, marks, times) = tokio::try_join!(drawn, marks, times)?;
    let answer = CurvesAnswer::new(&runs, drawn, marks, times);
    let text = serde_json::to_vec(&answer)
        .map_err(|error| Refusal::conflict(format!("the curves cannot be written: {error}")))?;
    Ok(text.into())
}
