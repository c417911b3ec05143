//! The page of tokens.

use std::sync::Arc;

use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};
use registry::RoomToken;
use serde::Deserialize;

use super::api::{Made, NewToken, make, take_back};
use crate::access::Role;
use crate::format::{ago, moment};
use crate::page::{Page, csrf_input, empty};
use crate::{Answer, Refusal, Room, Who};

#[derive(Deserialize)]
pub struct Wanted {
    name: String,
    role: String,
    #[serde(default)]
    days: String,
}

pub async fn show(State(room): State<Arc<Room>>, who: Who) -> Answer<impl IntoResponse> {
    page(&room, &who, None).await
}

pub async fn create(
    State(room): State<Arc<Room>>,
    who: Who,
    Form(wanted): Form<Wanted>,
) -> Answer<impl IntoResponse> {
    let days = match wanted.days.trim() {
        "" => None,
        days => Some(days.parse().map_err(|_| {
            Refusal::bad(format!("days: {days} is not a number of days from 1 to {}", u16::MAX))
        })?),
    };
    let wanted = NewToken { name: wanted.name.trim().to_owned(), role: wanted.role, days };
    let made = make(&room, &who, &wanted).await?;
    page(&room, &who, Some((&wanted.name, &made))).await
}

pub async fn revoke(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<String>,
) -> Answer<impl IntoResponse> {
    take_back(&room, &who, &id).await?;
    Ok(Redirect::to("/tokens"))
}

async fn page(
    room: &Room,
    who: &Who,
    made: Option<(&str, &Made)>,
) -> Answer<axum::response::Response> {
    who.demand(Role::Admin)?;
    let tokens = room.database.room_tokens().await?;
    let body = html! {
        @if let Some((name, made)) = made {
            div.note.good role="status" {
                p { "The token of " b { (name) } ". Copy it now: it is not shown again." }
                pre { code.secret #made { (made.token) } }
                p { button type="button" data-copy="#made" { "Copy" } }
            }
        }
        p {
            "Whoever comes from another machine, or as another user of this one, enters with a token. "
            "What they submit belongs to its name."
        }
        (fields(who))
        h2 { "Tokens" }
        @if tokens.is_empty() {
            (empty("There are no tokens.", Some("scheduler room token create NAME --role user")))
        } @else {
            (table(who, &tokens))
        }
    };
    let page = Page { title: "Tokens", screen: "/tokens", who, scripts: &[], styles: &[], body };
    Ok(page.into_response())
}

fn fields(who: &Who) -> Markup {
    html! {
        form.row method="post" action="/tokens" {
            (csrf_input(who))
            label.above { "Name" input name="name" required maxlength="200" autocomplete="off"; }
            label.above {
                "Role"
                select name="role" {
                    option value="reader" { "reader: looks at everything" }
                    option value="user" selected { "user: submits, cancels, changes" }
                    option value="admin" { "admin: makes tokens too" }
                }
            }
            label.above { "Days (empty: no end)" input name="days" inputmode="numeric" size="6"; }
            button.main { "Make a token" }
        }
    }
}

fn table(who: &Who, tokens: &[RoomToken]) -> Markup {
    let headings = ["Name", "Role", "Made by", "Made", "Ends", "Last used", ""];
    html! {
        div.table tabindex="0" role="region" aria-label="Tokens" {
            table {
                thead { tr { @for heading in headings {
                    th scope="col" { @if heading.is_empty() { span.unseen { "Revoke" } } @else { (heading) } }
                } } }
                tbody { @for token in tokens { tr {
                    td { (token.name) }
                    td { (token.role) }
                    td { (token.made_by) }
                    td.nowrap title=(moment(token.created_at)) { (ago(token.created_at)) }
                    td.nowrap { @match token.expires_at { Some(end) => (moment(end)), None => "–" } }
                    td.nowrap { (token.used_on.as_deref().unwrap_or("never")) }
                    td {
                        @if token.revoked_at.is_some() { span.quiet { "revoked" } }
                        @else {
                            form method="post" action=(format!("/tokens/{}/revoke", token.id))
                                data-confirm=(format!("Revoke the token of {}?", token.name)) {
                                (csrf_input(who))
                                button.danger { "Revoke" }
                            }
                        }
                    }
                } } }
            }
        }
    }
}
