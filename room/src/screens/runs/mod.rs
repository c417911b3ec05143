//! All runs: sorted, filtered, grouped, marked.
//!
//! - [`view`] is what an address asks for; all of the page's state is in it.
//! - [`table`] is what it gives: the rows, which the page, the API and the exports have in common.
//! - [`page`] draws it, [`marks`] changes what people write on runs.

mod api;
mod filters;
mod marks;
mod page;
pub use page::plain;
pub mod table;
pub mod view;

use std::sync::Arc;

use axum::routing::{get, post};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Room;

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
        .route("/runs", get(page::page))
        .route("/parts/runs", get(page::part))
        .route("/marks/{deed}", post(marks::mark))
        .route("/marks/edit", get(marks::edit).post(marks::write))
        .route("/open/{screen}", get(marks::open))
        .routes(routes!(api::runs))
        .routes(routes!(api::mark))
}
