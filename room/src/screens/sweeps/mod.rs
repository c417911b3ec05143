//! Sweeps: runs at many points of a configuration, and which of them is the best.
//!
//! - [`story`] is what there is to say of a sweep, by the same rules as `scheduler sweep`.
//! - [`plot`] draws each key against the metric; [`again`] submits a sweep once more, changed.

mod again;
mod page;
mod plot;
mod story;

use std::sync::Arc;

use axum::routing::{get, post};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Room;

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
        .route("/sweeps", get(page::list))
        .route("/parts/sweeps", get(page::list_part))
        .route("/sweeps/{id}", get(page::page))
        .route("/parts/sweeps/{id}", get(page::part))
        .route("/sweeps/{id}/limit", post(page::limit))
        .route("/sweeps/{id}/cancel", post(page::cancel))
        .route("/sweeps/{id}/again", get(again::form).post(again::submit))
        .routes(routes!(story::sweeps))
        .routes(routes!(story::sweep))
}
