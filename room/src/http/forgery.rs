//! A request that changes something proves that it comes from a page of this server: it carries the token of its
//! session, in the header `x-csrf-token` or the form field `csrf`.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::Refusal;
use crate::access::{Role, Who};

/// Bytes of a form, at most.
const FORM: usize = 256 << 10;

pub async fn check(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    match allowed(request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn allowed(request: Request) -> Result<Request, Refusal> {
    let who = request.extensions().get::<Who>().cloned();
    let who = who.ok_or_else(|| Refusal::forbidden("log in first, at /login"))?;
    who.demand(Role::User)?;
    let sent = request.headers().get("x-csrf-token");
    if sent.is_some_and(|sent| equal(sent.as_bytes(), who.csrf.as_bytes())) {
        return Ok(request);
    }
    let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec());
    let refused = || {
        Refusal::forbidden(
            "the page is out of date, or the request is not from this server's pages: reload and try again",
        )
    };
    if !kind.is_some_and(|kind| kind.starts_with(b"application/x-www-form-urlencoded")) {
        return Err(refused());
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, FORM).await.map_err(|_| Refusal::bad("the form is too long"))?;
    // The token has no character that a form would write otherwise.
    let mut fields = body.split(|byte| *byte == b'&');
    let carried = fields.find_map(|field| field.strip_prefix(b"csrf="));
    match carried.is_some_and(|token| equal(token, who.csrf.as_bytes())) {
        true => Ok(Request::from_parts(parts, Body::from(body))),
        false => Err(refused()),
    }
}

/// In the same time whatever differs.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}
