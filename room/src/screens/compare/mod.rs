//! Two runs or more side by side.

mod answer;
mod page;

use std::sync::Arc;

use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Room;

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
        .route("/compare", get(page::page))
        .route("/parts/compare", get(page::part))
        .routes(routes!(page::api))
}
