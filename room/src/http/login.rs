//! Entering with a token, and leaving.

use std::sync::Arc;

use axum::extract::{Form, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, RequestExt, Router};
use maud::{Markup, html};
use serde::Deserialize;
use web::Peer;

use super::session::{set_cookie, too_many};
use crate::access::{Kind, Session};
use crate::page::bare;
use crate::{Answer, Refusal, Room};

/// `/login` and `/logout`.
pub fn routes() -> Router<Arc<Room>> {
    Router::new().route("/login", get(show).post(enter)).route("/logout", post(leave))
}

#[derive(Deserialize)]
struct Wanted {
    next: Option<String>,
}

async fn show(Extension(session): Extension<Session>, Query(wanted): Query<Wanted>) -> Response {
    form(&session, &wanted.next.unwrap_or_default(), None)
}

#[derive(Deserialize)]
struct Entry {
    token: String,
    #[serde(default)]
    next: String,
}

async fn enter(
    State(room): State<Arc<Room>>,
    Extension(session): Extension<Session>,
    request: Request,
) -> Answer<Response> {
    let address = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
    let entry: Form<Entry> = request
        .extract()
        .await
        .map_err(|error| Refusal::bad(format!("the form is not one of /login: {error}")))?;
    if let Some(wait) = address.and_then(|address| room.guesses.wait(address)) {
        let refusal = too_many(wait);
        return Ok(form(&session, &entry.next, Some(&refusal)));
    }
    let Some(token) = room.tokens.named(&room.database, &entry.token).await? else {
        if let Some(address) = address {
            room.guesses.wrong(address);
            tracing::warn!("a wrong token from {address}");
        }
        let refusal = Refusal {
            status: StatusCode::UNAUTHORIZED,
            why: "this token is wrong, has expired or was taken back".into(),
        };
        return Ok(form(&session, &entry.next, Some(&refusal)));
    };
    if let Some(address) = address {
        room.guesses.right(address);
    }
    let mut response = Redirect::to(within(&entry.next)).into_response();
    let session = Session::new(&room.key, Kind::Token(token.id));
    set_cookie(&room, &session.value, Session::seconds(), &mut response);
    Ok(response)
}

async fn leave(State(room): State<Arc<Room>>) -> Response {
    let mut response = Redirect::to("/login").into_response();
    set_cookie(&room, "", 0, &mut response);
    response
}

fn form(session: &Session, next: &str, refusal: Option<&Refusal>) -> Response {
    let status = refusal.map_or(StatusCode::OK, |refusal| refusal.status);
    (status, bare("Log in", fields(session, next, refusal))).into_response()
}

fn fields(session: &Session, next: &str, refusal: Option<&Refusal>) -> Markup {
    html! {
        @if let Some(refusal) = refusal { p.note.bad role="alert" { (refusal.why) } }
        form method="post" action="/login" {
            input type="hidden" name="csrf" value=(session.csrf);
            input type="hidden" name="next" value=(within(next));
            p {
                label.above {
                    "Token"
                    input type="password" name="token" required autofocus autocomplete="current-password"
                        maxlength="256" size="48";
                }
            }
            p { button.main { "Log in" } }
        }
        p.quiet {
            "An administrator makes tokens, on the page Tokens or by this command. The user who runs the server enters "
            "without one on its own machine, also through a tunnel of ssh."
        }
        pre { code { "scheduler room token create NAME --role user" } }
    }
}

/// Where to go on: a path of this server and nothing else.
fn within(next: &str) -> &str {
    let own = next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !next.starts_with("/login")
        && next.len() <= 2000;
    if own { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_elsewhere() {
        assert_eq!(within("/runs?sort=name"), "/runs?sort=name");
        for next in [
            "",
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/\t/evil",
            "/a\r\nb: c",
            "/login",
        ] {
            assert_eq!(within(next), "/", "{next:?}");
        }
    }
}
