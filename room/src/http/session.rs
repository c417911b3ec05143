//! Who a request comes from.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::Room;
use crate::access::{Role, Who};

/// The name of the cookie.
const COOKIE: &str = "palette_session";

pub async fn identify(State(room): State<Arc<Room>>, mut request: Request, next: Next) -> Response {
    let known = cookie(&request);
    let session = known.clone().unwrap_or_else(|| {
        let bytes: [u8; 24] = rand::random();
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
    });
    let who =
        Who { name: registry::current_user(), role: Role::Admin, csrf: room.key.csrf(&session) };
    request.extensions_mut().insert(who);
    let mut response = next.run(request).await;
    if known.is_none() {
        let cookie = format!("{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict");
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
    response
}

fn cookie(request: &Request) -> Option<String> {
    let all = request.headers().get_all(header::COOKIE);
    let pairs = all.iter().filter_map(|one| one.to_str().ok()).flat_map(|one| one.split(';'));
    let values = pairs.filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    values.map(str::to_owned).find(|value| (16..=128).contains(&value.len()))
}
