//! What runs, what failed since you looked, what waits, and what is wrong: the page for a phone.
//!
//! One answer for all pages ([`overview`]), made at most every two seconds; what a reader has seen is in a cookie of
//! theirs. The doctor is asked every few minutes, beside the pages ([`doctor`]).

mod disks;
pub mod doctor;
pub mod overview;
mod page;
mod seen;
pub mod spark;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{get, post};
use serde::Deserialize;
use time::OffsetDateTime;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{Page, fragment};
use crate::{Answer, Room, Who};
use overview::Overview;

pub use page::address;

/// How old an answer may be.
const AGE: Duration = Duration::from_secs(2);

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
        .routes(routes!(api))
        .route("/", get(now))
        .route("/now/part", get(part))
        .route("/seen", post(mark))
}

async fn overview(room: &Arc<Room>) -> Answer<Arc<Overview>> {
    room.shared.get("now/overview", AGE, overview::make(room)).await
}

async fn now(
    State(room): State<Arc<Room>>,
    who: Who,
    headers: HeaderMap,
) -> Answer<impl IntoResponse> {
    let seen = seen::of(&headers);
    let overview = overview(&room).await?;
    let body = page::body(&overview, seen, &who);
    let page =
        Page { title: "Now", screen: "/", who: &who, scripts: &[], styles: &["now.css"], body };
    Ok(page.into_response())
}

async fn part(
    State(room): State<Arc<Room>>,
    who: Who,
    headers: HeaderMap,
) -> Answer<impl IntoResponse> {
    let overview = overview(&room).await?;
    Ok(fragment(page::parts(&overview, seen::of(&headers), &who)))
}

/// Which failures are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Since {
    /// Failures after this moment alone, RFC 3339.
    #[serde(default, with = "time::serde::rfc3339::option")]
    since: Option<OffsetDateTime>,
}

/// What runs, what failed last, what waits, GPUs, disks and the doctor's warnings.
#[utoipa::path(get, path = "/api/v1/now", params(Since), responses((status = 200, body = Overview)))]
async fn api(
    State(room): State<Arc<Room>>,
    Query(Since { since }): Query<Since>,
) -> Answer<Json<Overview>> {
    let mut overview = Overview::clone(&*overview(&room).await?);
    if let Some(since) = since {
        overview.failed.retain(|failure| failure.at.is_some_and(|at| at > since));
    }
    Ok(Json(overview))
}

/// From now on only later failures are shown to this browser.
async fn mark() -> impl IntoResponse {
    ([(header::SET_COOKIE, seen::cookie(OffsetDateTime::now_utc()))], Redirect::to("/"))
}
