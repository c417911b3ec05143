//! What waits and why, and the machines.

mod actions;
mod api;
mod chart;
mod look;
mod page;

use std::sync::Arc;

use axum::routing::{get, post};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Room;

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
        .routes(routes!(api::queue))
        .routes(routes!(api::machines))
        .routes(routes!(api::move_job))
        .route("/queue", get(page::page))
        .route("/queue/jobs", get(page::jobs))
        .route("/queue/machines", get(page::machines))
        .route("/queue/{id}/{what}", post(actions::act))
}
