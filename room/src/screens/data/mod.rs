//! Datasets as the network sees them: what is in them, and what the degradations make of it.
//!
//! A dataset is addressed by the digest of its manifest, a picture by that digest, its row and what is done to it; no
//! request names a place. Degradations are those of `pipeline`.

mod api;
mod catalogue;
mod inside;
mod page;
mod pictures;
mod show;

use std::sync::Arc;

use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Room;

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
        .route("/data", get(page::all))
        .route("/data/{digest}", get(page::one))
        .route("/data/{digest}/inside", get(page::inside))
        .route("/data/{digest}/rows/{row}", get(page::row))
        .route("/data/pictures/{digest}/{row}/{part}", get(pictures::picture))
        .routes(routes!(api::all))
        .routes(routes!(api::one))
        .routes(routes!(api::inside))
        .routes(routes!(api::samples))
        .routes(routes!(api::row))
}
