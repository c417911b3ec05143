//! The API's document, and the stream of events.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Room;

/// The head of the document; screens add their paths.
#[derive(OpenApi)]
#[openapi(info(
    title = "Palette control room",
    description = "Everything that the pages show. Requests that change something need a token of a user: \
        `Authorization: Bearer TOKEN`, or the session of a page with its header `x-csrf-token`. Times are \
        RFC 3339, by UTC. A refusal is `{\"error\": \"what, where, what to do\"}`.",
    license(name = "MIT OR Apache-2.0")
))]
struct Head;

/// The screens' routes under the document's head.
pub fn describe(screens: OpenApiRouter<Arc<Room>>) -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::with_openapi(Head::openapi()).routes(routes!(events)).merge(screens)
}

/// `GET /api/v1/openapi.json`.
pub fn document(document: Document) -> Router<Arc<Room>> {
    Router::new().route("/api/v1/openapi.json", get(async || Json(document)))
}

/// Server-sent events, whose names say all: `jobs`, `tries`, `tick`, `lost`, `back`; their data is `-`.
#[utoipa::path(get, path = "/api/v1/events", responses((status = 200, content_type = "text/event-stream")))]
async fn events(State(room): State<Arc<Room>>) -> impl IntoResponse {
    room.live.stream()
}
