//! Scripts, styles and the charts' library, embedded in the program.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use crate::{Refusal, Room};

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Every file by its name.
const FILES: &[(&str, &str, &str)] = &[
    ("room.js", SCRIPT, include_str!("../assets/room.js")),
    ("room.css", STYLE, include_str!("../assets/room.css")),
    ("now.css", STYLE, include_str!("../assets/now.css")),
    ("run.css", STYLE, include_str!("../assets/run.css")),
    ("run.js", SCRIPT, include_str!("../assets/run.js")),
    ("curves.js", SCRIPT, include_str!("../assets/curves.js")),
    ("curves.css", STYLE, include_str!("../assets/curves.css")),
    ("runs.js", SCRIPT, include_str!("../assets/runs.js")),
    ("runs.css", STYLE, include_str!("../assets/runs.css")),
    ("compare.css", STYLE, include_str!("../assets/compare.css")),
    ("sweeps.css", STYLE, include_str!("../assets/sweeps.css")),
    ("icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
    ("try.js", SCRIPT, include_str!("../assets/try.js")),
    ("try.css", STYLE, include_str!("../assets/try.css")),
    ("pictures.js", SCRIPT, include_str!("../assets/pictures.js")),
    ("pictures.css", STYLE, include_str!("../assets/pictures.css")),
    ("gallery.css", STYLE, include_str!("../assets/gallery.css")),
    ("queue.js", SCRIPT, include_str!("../assets/queue.js")),
    ("queue.css", STYLE, include_str!("../assets/queue.css")),
    ("alerts.js", SCRIPT, include_str!("../assets/alerts.js")),
    ("alerts.css", STYLE, include_str!("../assets/alerts.css")),
    ("uplot.js", SCRIPT, include_str!("../assets/vendor/uplot.js")),
    ("uplot.css", STYLE, include_str!("../assets/vendor/uplot.css")),
];

/// `GET /assets/NAME`.
pub fn routes() -> Router<Arc<Room>> {
    Router::new().route("/assets/{name}", get(asset))
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Refusal> {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let (_, kind, text) = found.ok_or_else(|| Refusal::missing("there is no such file"))?;
    let digest = Sha256::digest(text);
    let tag =
        digest[..12].iter().fold(String::from("\""), |tag, byte| tag + &format!("{byte:02x}"));
    let tag = tag + "\"";
    // Asked again each time, so that a newer server is never looked at through older scripts.
    let cached = [(header::CACHE_CONTROL, "no-cache".to_owned()), (header::ETAG, tag.clone())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, cached).into_response());
    }
    Ok((cached, [(header::CONTENT_TYPE, *kind)], *text).into_response())
}
