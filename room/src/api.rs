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
pub fn document(mut document: Document) -> Router<Arc<Room>> {
    name_operations(&mut document);
    Router::new().route("/api/v1/openapi.json", get(async || Json(document)))
}

/// Gives each operation a name that no other has, by its method and path: `get_runs_id`. Those of handlers are alike.
fn name_operations(document: &mut Document) {
    for (path, item) in &mut document.paths.paths {
        let words: Vec<_> = path
            .trim_start_matches("/api/v1/")
            .split(|sign: char| !sign.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        let operations = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("put", &mut item.put),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                operation.operation_id = Some(format!("{method}_{}", words.join("_")));
            }
        }
    }
}

/// Server-sent events, whose names say all: `jobs`, `tries`, `tick`, `lost`, `back`; their data is `-`.
#[utoipa::path(get, path = "/api/v1/events", responses((status = 200, content_type = "text/event-stream")))]
async fn events(State(room): State<Arc<Room>>) -> impl IntoResponse {
    room.live.stream()
}
