//! What the page's buttons do.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, State};
use axum::response::Redirect;
use registry::{Kind, Several};
use serde::Deserialize;

use crate::access::Role;
use crate::{Answer, Refusal, Room, Who};

/// The fields of the page's forms.
#[derive(Deserialize)]
pub struct Fields {
    /// The new priority, or place from 1 on.
    to: Option<String>,
}

/// `POST /queue/ID/WHAT`: `pause`, `resume`, `cancel`, `priority`, `move`.
pub async fn act(
    State(room): State<Arc<Room>>,
    who: Who,
    Path((id, what)): Path<(String, String)>,
    Form(fields): Form<Fields>,
) -> Answer<Redirect> {
    who.demand(Role::User)?;
    let job = job(&room, &id).await?;
    let number = || -> Answer<i64> {
        let text = fields.to.as_deref().unwrap_or_default().trim();
        text.parse().map_err(|_| Refusal::bad("a whole number is wanted: go back and correct it"))
    };
    match what.as_str() {
        "pause" => drop(room.database.pause(job).await?),
        "resume" => drop(room.database.resume(job).await?),
        "cancel" => drop(room.database.cancel(job).await?),
        "priority" => {
            let priority = i32::try_from(number()?).map_err(|_| {
                Refusal::bad("that priority is out of range: -2147483648 to 2147483647")
            })?;
            room.database.set_priority(job, priority).await?;
        }
        "move" => {
            let before = before(&room, job, number()?).await?;
            room.database.move_job(job, before).await?;
        }
        _ => return Err(Refusal::missing("there is no such button")),
    }
    changed(&room);
    Ok(Redirect::to("/queue"))
}

/// The job that must follow one that is to be the `place`-th; none where that is the last.
async fn before(room: &Room, job: registry::Uuid, place: i64) -> Answer<Option<registry::Uuid>> {
    let own = room.database.jobs_before(job).await?;
    let own = own.ok_or_else(|| Refusal::conflict("the job is not queued any more"))?;
    let place = place.max(1) - 1;
    // Behind its own place, the others have moved up by one.
    let at = if place > own { place.saturating_add(1) } else { place };
    let there = room.database.queue(at, 1).await?;
    Ok(there.first().map(|other| other.id))
}

/// The job with this id or name; a name that several have is refused, since something is to be changed.
pub async fn job(room: &Room, name: &str) -> Answer<registry::Uuid> {
    Ok(room.database.find_among(name, &[Kind::Job], Several::Refuse).await?.id)
}

/// All pages look again.
pub fn changed(room: &Room) {
    room.shared.forget("queue/");
    room.live.tell("jobs");
}
