//! Who is told of what.

mod actions;
mod api;
mod page;

use std::sync::Arc;
use std::time::Duration;

use axum::routing::{get, post};
use registry::{AlertEvent, AlertRule};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{Answer, Room};

/// Events on the page.
const MOST: i64 = 100;

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
        .routes(routes!(api::alerts))
        .routes(routes!(api::add_rule))
        .routes(routes!(api::remove_rule))
        .routes(routes!(api::test))
        .route("/alerts", get(page::page))
        .route("/alerts/events", get(page::events))
        .route("/alerts/rules", post(actions::add))
        .route("/alerts/usual", post(actions::usual))
        .route("/alerts/rules/{id}/{what}", post(actions::change))
        .route("/alerts/test", post(actions::test))
}

/// The rules, made once for all who look.
async fn rules(room: &Room) -> Answer<Arc<Vec<AlertRule>>> {
    let make = async { Ok(room.database.alert_rules().await?) };
    room.shared.get("alerts/rules", Duration::from_secs(3), make).await
}

/// The newest events.
async fn newest(room: &Room) -> Answer<Arc<Vec<AlertEvent>>> {
    let make = async { Ok(room.database.alert_events(MOST).await?) };
    room.shared.get("alerts/events", Duration::from_secs(3), make).await
}

/// All pages look again.
fn changed(room: &Room) {
    room.shared.forget("alerts/");
    room.live.tell("alerts");
}
