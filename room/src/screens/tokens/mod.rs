//! Tokens, for administrators: who may enter from elsewhere, as what.

mod api;
mod page;

use std::sync::Arc;

use axum::routing::{get, post};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Room;

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
        .routes(routes!(api::list, api::create))
        .routes(routes!(api::revoke))
        .route("/tokens", get(page::show).post(page::create))
        .route("/tokens/{id}/revoke", post(page::revoke))
}
