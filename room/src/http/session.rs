//! Who a request comes from: the token that it names, the session of its cookie, or the user of this machine who runs
//! the server.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use web::Peer;

use super::host::{Hosts, named};
use crate::access::{Kind, Role, Session, Who};
use crate::{Refusal, Room};

/// The name of the cookie.
const COOKIE: &str = "palette_session";

/// A request that names its token itself, as no browser does.
#[derive(Clone)]
pub struct ByHeader;

pub async fn identify(State(room): State<Arc<Room>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let open = path == "/login" || path.starts_with("/assets/");
    let address = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
    if let Some(token) = bearer(request.headers()) {
        let token = token.to_owned();
        return match by_token(&room, address, &token).await {
            Ok(who) => {
                request.extensions_mut().insert(who);
                request.extensions_mut().insert(ByHeader);
                next.run(request).await
            }
            Err(refusal) => refusal.into_response(),
        };
    }
    let known = cookies(request.headers()).find_map(|value| Session::read(&room.key, value));
    let session = known.clone().unwrap_or_else(|| Session::new(&room.key, Kind::Plain));
    let who = match by_session(&room, &session, near(&request)).await {
        Ok(who) => who,
        Err(refusal) => return refusal.into_response(),
    };
    let mut response = match who {
        None if !open => refused(&request),
        who => {
            if let Some(who) = who {
                request.extensions_mut().insert(who);
            }
            request.extensions_mut().insert(session.clone());
            next.run(request).await
        }
    };
    // What `/login` and `/logout` set stays.
    if known.is_none() && !response.headers().contains_key(header::SET_COOKIE) {
        set_cookie(&room, &session.value, Session::seconds(), &mut response);
    }
    response
}

/// Gives a browser this session, valid for `seconds`.
pub fn set_cookie(room: &Room, value: &str, seconds: i64, response: &mut Response) {
    let secure = if room.secure { "; Secure" } else { "" };
    let cookie =
        format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// Somebody who names this token from there.
async fn by_token(room: &Room, address: Option<IpAddr>, text: &str) -> Result<Who, Refusal> {
    let found = room.tokens.named(&room.database, text).await?;
    let Some(token) = found else {
        if let Some(address) = address {
            if let Some(wait) = room.guesses.wait(address) {
                return Err(too_many(wait));
            }
            room.guesses.wrong(address);
            tracing::warn!("a wrong token from {address}");
        }
        return Err(Refusal {
            status: StatusCode::UNAUTHORIZED,
            why: "this token is wrong, has expired or was taken back: ask for another".into(),
        });
    };
    Ok(Who { name: token.name, role: token.role, csrf: String::new(), local: false })
}

/// What somebody hears who guessed too often.
pub fn too_many(wait: std::time::Duration) -> Refusal {
    let seconds = wait.as_secs() + 1;
    Refusal {
        status: StatusCode::TOO_MANY_REQUESTS,
        why: format!("too many wrong tokens from this address: try again in {seconds} seconds"),
    }
}

async fn by_session(
    room: &Room,
    session: &Session,
    near: Option<Peer>,
) -> Result<Option<Who>, Refusal> {
    let csrf = session.csrf.clone();
    if let Kind::Token(id) = session.kind
        && let Some(token) = room.tokens.of(&room.database, id).await?
    {
        return Ok(Some(Who { name: token.name, role: token.role, csrf, local: false }));
    }
    let here = match near.filter(|_| room.local) {
        Some(near) => is_own(near).await,
        None => false,
    };
    Ok(here.then(|| Who { name: registry::current_user(), role: Role::Admin, csrf, local: true }))
}

/// The other end, where a request may be one of this machine's own: no proxy passes on what others ask.
fn near(request: &Request) -> Option<Peer> {
    const PASSED_ON: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    let passed_on = PASSED_ON.iter().any(|name| request.headers().contains_key(*name));
    let peer = request.extensions().get::<Peer>().cloned();
    peer.filter(|_| !passed_on && named(request).is_some_and(Hosts::is_loopback))
}

/// Whether this is the user of this process, on this machine. Not root: what passes connections on (a container's
/// network, a VPN) may be root's, and root can be this user anyway.
async fn is_own(peer: Peer) -> bool {
    let user = tokio::task::spawn_blocking(move || peer.user()).await.ok().flatten();
    user == Some(nix::unistd::geteuid().as_raw())
}

/// A stranger is shown where to enter, where they asked for a page.
fn refused(request: &Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let is_part = request.headers().contains_key("x-part");
    let method = request.method();
    if path.starts_with("/api/") || is_part || (method != "GET" && method != "HEAD") {
        let mut response = Refusal::stranger().into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    Redirect::to(&format!("/login?next={}", encoded(path))).into_response()
}

/// A path as the value of a query.
fn encoded(path: &str) -> String {
    path.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                text.push(char::from(byte));
            }
            _ => text += &format!("%{byte:02X}"),
        }
        text
    })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let all = headers.get_all(header::COOKIE).iter();
    let pairs = all.filter_map(|one| one.to_str().ok()).flat_map(|one| one.split(';'));
    pairs.filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('=')).take(4)
}
