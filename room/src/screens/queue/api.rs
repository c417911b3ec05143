//! The queue and the machines as JSON.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{actions, look};
use crate::access::Role;
use crate::refusal::Problem;
use crate::{Answer, Refusal, Room, Who};

/// Which part of the queue.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// Waiting jobs to pass over.
    #[serde(default)]
    pub from: i64,
}

/// Where a job is to go.
#[derive(Deserialize, ToSchema)]
pub struct Move {
    /// The id of the queued job that is to follow it; none for the end of the queue.
    before: Option<String>,
}

/// Where a job went.
#[derive(Serialize, ToSchema)]
pub struct Moved {
    /// Its place, from 1 on.
    position: i64,
    /// Its priority, which a move changes where its new neighbours have others.
    priority: i32,
}

/// Jobs that wait, in the order of their turn and with the reason, and jobs that run or are paused.
#[utoipa::path(get, path = "/api/v1/queue", params(Part),
    responses((status = 200, body = look::Queue), (status = 503, body = Problem)))]
pub async fn queue(
    State(room): State<Arc<Room>>,
    _who: Who,
    Query(part): Query<Part>,
) -> Answer<Json<look::Queue>> {
    let queue = look::queue(&room, part.from.clamp(0, 10_000_000)).await?;
    Ok(Json((*queue).clone()))
}

/// Workers by label, how busy they were over the last day, and hours by owner of the last seven days.
#[utoipa::path(get, path = "/api/v1/machines",
    responses((status = 200, body = look::Machines), (status = 503, body = Problem)))]
pub async fn machines(State(room): State<Arc<Room>>, _who: Who) -> Answer<Json<look::Machines>> {
    Ok(Json((*look::machines(&room).await?).clone()))
}

/// Moves a waiting job. It alone changes: its place among those of its priority, and its priority only where its new
/// neighbours have others.
#[utoipa::path(post, path = "/api/v1/queue/{id}/move", params(("id" = String, Path, description = "id of the job")),
    request_body = Move,
    responses((status = 200, body = Moved), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn move_job(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<String>,
    Json(to): Json<Move>,
) -> Answer<Json<Moved>> {
    who.demand(Role::User)?;
    let job = actions::job(&room, &id).await?;
    let before = match &to.before {
        Some(before) => Some(actions::job(&room, before).await?),
        None => None,
    };
    let moved = room.database.move_job(job, before).await?;
    actions::changed(&room);
    let before = room.database.jobs_before(job).await?;
    let before = before.ok_or_else(|| Refusal::conflict("a worker took it at this moment"))?;
    Ok(Json(Moved { position: before + 1, priority: moved.priority }))
}
