//! Previews by step, and outputs of sampling jobs.
//!
//! - `grid`: rows are fixed inputs, columns runs, at one step; `page` shows it.
//! - `input`: everything of one input of a run at a step.
//! - `samples`: the outputs of a sampling job, page by page, from its dataset.
//! - `bytes`: the pictures themselves. A picture of a run is named by its digest, one of a job by job, row and column;
//!   nothing that a browser sends becomes a path.

mod bytes;
mod grid;
mod input;
mod page;
mod samples;
mod view;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use futures_util::future::BoxFuture;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{Answer, Room};

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
        .route("/pictures", get(page::page))
        .route("/pictures/grid", get(page::part))
        .route("/pictures/input", get(input::page))
        .route("/pictures/{digest}", get(bytes::whole))
        .route("/pictures/{digest}/small", get(bytes::small))
        .route("/pictures/{digest}/error/{reference}", get(bytes::error))
        .route("/samples", get(samples::page::list))
        .route("/samples/{job}", get(samples::page::page))
        .route("/samples/{job}/{row}", get(samples::page::input))
        .route("/samples/{job}/{row}/{column}", get(samples::image))
        .routes(routes!(grid::api))
        .routes(routes!(input::api))
        .routes(routes!(samples::api::jobs))
        .routes(routes!(samples::api::rows))
        .routes(routes!(samples::api::row))
}

/// An answer that many pages share ([`crate::shared`]).
async fn shared<T: Any + Send + Sync>(
    room: &Room,
    key: &str,
    age: Duration,
    make: BoxFuture<'_, Answer<T>>,
) -> Answer<Arc<T>> {
    room.shared.get(key, age, make).await
}
