//! A request that changes something proves that it comes from a page of this server: it carries the token of its
//! session, in the header `x-csrf-token` or the form field `csrf`. Programs that send their token with each request
//! need none: no browser adds that by itself.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::host::named;
use super::session::ByHeader;
use crate::Refusal;
use crate::access::{Role, Session, Who, equal};

/// Bytes of a form, at most.
const FORM: usize = 256 << 10;

/// What anybody may send with the token of their session: nothing of it changes more than their own cookies.
const FOR_ALL: [&str; 3] = ["/login", "/logout", "/seen"];

pub async fn check(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    match allowed(request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn refused() -> Refusal {
    Refusal::forbidden(
        "the page is out of date, or the request is not from this server's pages: reload and try again",
    )
}

async fn allowed(request: Request) -> Result<Request, Refusal> {
    if !FOR_ALL.contains(&request.uri().path()) {
        let who = request.extensions().get::<Who>();
        who.ok_or_else(Refusal::stranger)?.demand(Role::User)?;
    }
    if request.extensions().get::<ByHeader>().is_some() {
        return Ok(request);
    }
    if is_foreign(request.headers(), named(&request)) {
        return Err(refused());
    }
    let csrf = request.extensions().get::<Session>().map(|session| session.csrf.clone());
    let csrf = csrf.ok_or_else(refused)?;
    let sent = request.headers().get("x-csrf-token");
    if sent.is_some_and(|sent| equal(sent.as_bytes(), csrf.as_bytes())) {
        return Ok(request);
    }
    let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec());
    if !kind.is_some_and(|kind| kind.starts_with(b"application/x-www-form-urlencoded")) {
        return Err(refused());
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, FORM).await.map_err(|_| Refusal::bad("the form is too long"))?;
    // The token has no character that a form would write otherwise.
    let mut fields = body.split(|byte| *byte == b'&');
    let carried = fields.find_map(|field| field.strip_prefix(b"csrf="));
    match carried.is_some_and(|token| equal(token, csrf.as_bytes())) {
        true => Ok(Request::from_parts(parts, Body::from(body))),
        false => Err(refused()),
    }
}

/// Whether the browser itself says that the request is from elsewhere: from another site, or from another port of this
/// machine, to which it sends our cookie. Over plain HTTP from another machine it says neither; the token is what counts.
fn is_foreign(headers: &HeaderMap, host: Option<&str>) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => site != "same-origin",
        // `null`: our pages tell nobody where a request came from.
        (None, None | Some("null")) => false,
        (None, Some(origin)) => {
            let own = origin.split_once("://").map(|(_, host)| host);
            own.is_none() || own != host
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn what_a_browser_says_of_itself_is_believed() {
        let foreign = |said: &[(&'static str, &str)]| {
            let said = said.iter().map(|(name, value)| {
                (header::HeaderName::from_static(name), value.parse().unwrap())
            });
            is_foreign(&HeaderMap::from_iter(said), Some("localhost:8100"))
        };
        assert!(!foreign(&[]));
        assert!(!foreign(&[("origin", "null"), ("sec-fetch-site", "same-origin")]));
        assert!(!foreign(&[("origin", "http://localhost:8100")]));
        assert!(!foreign(&[("origin", "null")]));
        assert!(foreign(&[("origin", "http://localhost:9999")]));
        assert!(foreign(&[("origin", "http://evil.example")]));
        assert!(foreign(&[("origin", "null"), ("sec-fetch-site", "cross-site")]));
        assert!(foreign(&[("origin", "http://localhost:9"), ("sec-fetch-site", "same-site")]));
        assert!(foreign(&[("sec-fetch-site", "none")]), "an address that was typed sends no form");
    }
}
