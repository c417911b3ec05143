//! What runs, what failed since you looked, and what waits.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use maud::html;
use utoipa_axum::router::OpenApiRouter;

use crate::page::{Page, empty};
use crate::{Answer, Room, Who};

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new().route("/", axum::routing::get(now))
}

async fn now(State(_room): State<Arc<Room>>, who: Who) -> Answer<impl IntoResponse> {
    let body = html! { (empty("Nothing runs.", Some("trainer submit configs/small.toml"))) };
    let page = Page { title: "Now", screen: "/", who: &who, scripts: &[], styles: &[], body };
    Ok(page.into_response())
}
