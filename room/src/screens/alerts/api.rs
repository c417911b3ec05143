//! Rules, and what they found, as JSON. Addresses and passwords of targets are in no answer.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::actions::{self, Asked};
use crate::access::Role;
use crate::refusal::Problem;
use crate::{Answer, Room, Who};

/// Everything about alerts.
#[derive(Serialize, ToSchema)]
pub struct Alerts {
    /// Where this server sends to.
    targets: Vec<TargetView>,
    rules: Vec<Rule>,
    /// The newest hundred things that rules found.
    events: Vec<EventView>,
}

/// Where alerts go.
#[derive(Serialize, ToSchema)]
struct TargetView {
    name: String,
    /// How it is reached, without what is secret.
    how: String,
}

/// A rule.
#[derive(Serialize, ToSchema)]
struct Rule {
    id: String,
    /// `failed`, `lost`, `stuck`, `disk`, `nothing`, `sweep` or `nobody`.
    kind: String,
    /// Log intervals, the share of the disk that is left, failed runs, or minutes.
    amount: Option<f64>,
    targets: Vec<String>,
    owner: Option<String>,
    pauses: bool,
    enabled: bool,
    made_by: String,
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
}

/// What a rule found.
#[derive(Serialize, ToSchema)]
struct EventView {
    id: i64,
    kind: String,
    title: String,
    body: String,
    /// The id of the job that it is about.
    job: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    deliveries: Vec<DeliveryView>,
}

/// A message to one target.
#[derive(Serialize, ToSchema)]
struct DeliveryView {
    target: String,
    /// `waiting`, `sent` or `given up`.
    state: String,
    tries: i32,
    /// Why the last try failed.
    error: Option<String>,
    /// When it is tried next, while it waits.
    #[serde(with = "time::serde::rfc3339::option")]
    next_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
}

/// A rule to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRule {
    /// `failed`, `lost`, `stuck`, `disk`, `nothing`, `sweep` or `nobody`.
    kind: String,
    /// Log intervals, the share of the disk that is left, failed runs, or minutes; each kind has a default.
    amount: Option<f64>,
    /// Names of targets of this server.
    targets: Vec<String>,
    /// Only what belongs to this owner.
    owner: Option<String>,
    /// Of a sweep whose runs all die: pause what is queued of it.
    #[serde(default)]
    pauses: bool,
}

/// What was made.
#[derive(Serialize, ToSchema)]
pub struct Made {
    id: String,
}

/// What is tested.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// The name of a target of this server.
    target: String,
}

/// Targets, rules, and what they found.
#[utoipa::path(get, path = "/api/v1/alerts",
    responses((status = 200, body = Alerts), (status = 503, body = Problem)))]
pub async fn alerts(State(room): State<Arc<Room>>, _who: Who) -> Answer<Json<Alerts>> {
    let rules = super::rules(&room).await?;
    let events = super::newest(&room).await?;
    let targets = room.targets.shown();
    Ok(Json(Alerts {
        targets: targets
            .iter()
            .map(|(name, how)| TargetView { name: (*name).to_owned(), how: (*how).to_owned() })
            .collect(),
        rules: rules
            .iter()
            .map(|rule| Rule {
                id: rule.id.to_string(),
                kind: rule.kind.clone(),
                amount: rule.amount,
                targets: rule.targets.clone(),
                owner: rule.owner.clone(),
                pauses: rule.pauses,
                enabled: rule.enabled,
                made_by: rule.made_by.clone(),
                since: rule.since,
            })
            .collect(),
        events: events
            .iter()
            .map(|event| EventView {
                id: event.id,
                kind: event.kind.clone(),
                title: event.title.clone(),
                body: event.body.clone(),
                job: event.job_id.map(|id| registry::short(&id)),
                at: event.at,
                deliveries: event
                    .deliveries
                    .iter()
                    .map(|one| DeliveryView {
                        target: one.target.clone(),
                        state: one.state.clone(),
                        tries: one.tries,
                        error: one.error.clone(),
                        next_at: (one.state == "waiting").then_some(one.next_at),
                        ended_at: one.ended_at,
                    })
                    .collect(),
            })
            .collect(),
    }))
}

/// Makes a rule. What happened before is not told.
#[utoipa::path(post, path = "/api/v1/alerts/rules", request_body = NewRule,
    responses((status = 201, body = Made), (status = 400, body = Problem)))]
pub async fn add_rule(
    State(room): State<Arc<Room>>,
    who: Who,
    Json(new): Json<NewRule>,
) -> Answer<(StatusCode, Json<Made>)> {
    let asked = Asked {
        kind: new.kind,
        amount: new.amount,
        targets: new.targets,
        owner: new.owner,
        pauses: new.pauses,
    };
    let id = actions::make(&room, &who, asked).await?;
    Ok((StatusCode::CREATED, Json(Made { id: id.to_string() })))
}

/// Removes a rule; what it found stays.
#[utoipa::path(delete, path = "/api/v1/alerts/rules/{id}",
    params(("id" = String, Path, description = "id of the rule")),
    responses((status = 204), (status = 404, body = Problem)))]
pub async fn remove_rule(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    who.demand(Role::User)?;
    room.database.remove_alert_rule(actions::rule(&id)?).await?;
    super::changed(&room);
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a message that says that it is a test. Administrators only.
#[utoipa::path(post, path = "/api/v1/alerts/test", request_body = Test,
    responses((status = 202, body = Made), (status = 404, body = Problem)))]
pub async fn test(
    State(room): State<Arc<Room>>,
    who: Who,
    Json(test): Json<Test>,
) -> Answer<(StatusCode, Json<Made>)> {
    let id = actions::send_test(&room, &who, &test.target).await?;
    Ok((StatusCode::ACCEPTED, Json(Made { id: id.to_string() })))
}
