//! The paper's tables with what was scored here, the pictures behind each number, and human studies.
//!
//! Tables and fool rates are computed by `evaluator`, as a child program; the errors of single pictures here, from the
//! outputs that an evaluation names. A request names an evaluation and a row, never a place.

mod api;
mod page;
mod ranks;
mod tables;

use std::sync::Arc;

use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Room;

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
        .route("/results", get(page::all))
        .route("/results/tables", get(page::tables))
        .route("/results/scored", get(page::scored))
        .route("/results/studies", get(page::studies))
        .route("/results/scores/{id}", get(page::one))
        .route("/results/scores/{id}/pictures", get(page::pictures))
        .route("/results/histograms", get(page::histograms))
        .route("/results/studies/{name}", get(page::study))
        .route("/results/pictures/{id}/{row}/{image}", get(page::picture))
        .routes(routes!(api::tables))
        .routes(routes!(api::evaluations))
        .routes(routes!(api::evaluation))
        .routes(routes!(api::pictures))
        .routes(routes!(api::studies))
        .routes(routes!(api::study))
}
