//! A user's photograph through a network: drop it, paint the hole, watch the denoising, keep the result.
//!
//! - [`upload`] is the gate for files: one decoder, with limits, before anything is stored;
//! - [`api`] enters, shows and changes tries; [`page`] draws them;
//! - [`service`] sees to it that somebody makes them: a job for the workers, or a process beside this server.

mod api;
mod page;
pub mod service;
mod upload;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Room;

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    let submit = OpenApiRouter::new()
        .routes(routes!(api::submit))
        .layer(DefaultBodyLimit::max(upload::BODY));
    OpenApiRouter::new()
        .merge(submit)
        .routes(routes!(api::list))
        .routes(routes!(api::one))
        .routes(routes!(api::cancel))
        .routes(routes!(api::keep))
        .routes(routes!(api::remove))
        .routes(routes!(api::here))
        .routes(routes!(api::picture))
        .route("/try", get(page::start))
        .route("/try/parts/list", get(page::list_part))
        .route("/try/parts/{id}", get(page::part))
        .route("/try/{id}", get(page::one))
        .route("/try/{id}/{action}", post(page::act))
}
