//! Tokens by the API.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use registry::{NewRoomToken, RoomToken, Uuid};
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use crate::access::{Role, Token};
use crate::refusal::Problem;
use crate::{Answer, Refusal, Room, Who};

/// A token, without its secret.
#[derive(Serialize, ToSchema)]
pub struct TokenView {
    /// What it is revoked by.
    id: String,
    /// The owner of what is submitted with it.
    name: String,
    /// `reader`, `user` or `admin`.
    role: String,
    /// Who made it.
    made_by: String,
    created_at: String,
    expires_at: Option<String>,
    /// The day that it was last used on.
    used_on: Option<String>,
    revoked_at: Option<String>,
}

/// A token to make.
#[derive(Deserialize, ToSchema)]
pub struct NewToken {
    /// The owner of what is submitted with it.
    pub name: String,
    /// `reader`, `user` or `admin`.
    pub role: String,
    /// Days that it holds; without them it holds until it is revoked.
    pub days: Option<u16>,
}

/// A token that was made.
#[derive(Serialize, ToSchema)]
pub struct Made {
    /// What it is revoked by.
    pub id: String,
    /// The secret, which is never shown again.
    pub token: String,
}

/// How many tokens were revoked.
#[derive(Serialize, ToSchema)]
pub struct Revoked {
    revoked: u64,
}

impl From<RoomToken> for TokenView {
    fn from(token: RoomToken) -> Self {
        let text = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
        Self {
            id: token.id.to_string(),
            name: token.name,
            role: token.role.to_string(),
            made_by: token.made_by,
            created_at: text(token.created_at),
            expires_at: token.expires_at.map(text),
            used_on: token.used_on,
            revoked_at: token.revoked_at.map(text),
        }
    }
}

/// The tokens, newest first; those that were revoked come last. For administrators.
#[utoipa::path(get, path = "/api/v1/tokens", responses(
    (status = 200, body = Vec<TokenView>),
    (status = 403, body = Problem),
))]
pub async fn list(State(room): State<Arc<Room>>, who: Who) -> Answer<Json<Vec<TokenView>>> {
    who.demand(Role::Admin)?;
    let tokens = room.database.room_tokens().await?;
    Ok(Json(tokens.into_iter().map(TokenView::from).collect()))
}

/// Makes a token. For administrators.
#[utoipa::path(post, path = "/api/v1/tokens", request_body = NewToken, responses(
    (status = 200, body = Made),
    (status = 400, body = Problem),
    (status = 403, body = Problem),
))]
pub async fn create(
    State(room): State<Arc<Room>>,
    who: Who,
    Json(wanted): Json<NewToken>,
) -> Answer<Json<Made>> {
    Ok(Json(make(&room, &who, &wanted).await?))
}

/// Revokes the token of this id, or all of this name. For administrators.
#[utoipa::path(post, path = "/api/v1/tokens/{id}/revoke",
    params(("id" = String, Path, description = "Its id, or a name")),
    responses(
        (status = 200, body = Revoked),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
    ))]
pub async fn revoke(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<String>,
) -> Answer<Json<Revoked>> {
    Ok(Json(Revoked { revoked: take_back(&room, &who, &id).await? }))
}

pub async fn make(room: &Room, who: &Who, wanted: &NewToken) -> Answer<Made> {
    who.demand(Role::Admin)?;
    let role = wanted.role.parse().map_err(|error| Refusal::bad(format!("role: {error}")))?;
    if wanted.days == Some(0) {
        return Err(Refusal::bad("days: a token holds for a day at least"));
    }
    let days = wanted.days.map(|days| Duration::days(days.into()));
    let token = Token::random();
    let id: Uuid = room
        .database
        .create_room_token(&NewRoomToken {
            name: wanted.name.clone(),
            role,
            digest: token.digest(),
            made_by: who.name.clone(),
            expires_at: days.map(|days| OffsetDateTime::now_utc() + days),
        })
        .await?;
    room.tokens.forget().await;
    tracing::info!("{} made a token of {} ({role})", who.name, wanted.name);
    Ok(Made { id: id.to_string(), token: token.text().to_owned() })
}

pub async fn take_back(room: &Room, who: &Who, id: &str) -> Answer<u64> {
    who.demand(Role::Admin)?;
    let revoked = room.database.revoke_room_tokens(id).await?;
    room.tokens.forget().await;
    tracing::info!("{} revoked the token {id}", who.name);
    Ok(revoked)
}
