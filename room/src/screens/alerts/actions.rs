//! What the page's buttons do.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, RawForm, State};
use axum::response::Redirect;
use registry::{AlertKind, NewAlertRule, Uuid};
use serde::Deserialize;

use super::changed;
use crate::access::Role;
use crate::{Answer, Refusal, Room, Who};

/// A rule as it is asked for.
pub struct Asked {
    pub kind: String,
    pub amount: Option<f64>,
    pub targets: Vec<String>,
    pub owner: Option<String>,
    pub pauses: bool,
}

/// Makes a rule.
pub async fn make(room: &Room, who: &Who, asked: Asked) -> Answer<Uuid> {
    who.demand(Role::User)?;
    let kind: AlertKind = asked.kind.parse().map_err(Refusal::bad)?;
    let known = room.targets.shown();
    if let Some(unknown) =
        asked.targets.iter().find(|target| known.iter().all(|(name, _)| name != target))
    {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let there = match names.is_empty() {
            true => "it has none: start it with --alerts FILE".to_owned(),
            false => format!("there are {}", names.join(", ")),
        };
        return Err(Refusal::bad(format!("this server has no target `{unknown}`; {there}")));
    }
    if asked.owner.as_ref().is_some_and(|owner| owner.len() > 200) {
        return Err(Refusal::bad("the name of an owner is shorter"));
    }
    let new = NewAlertRule {
        kind,
        amount: asked.amount,
        targets: asked.targets,
        owner: asked.owner.map(|owner| owner.trim().to_owned()).filter(|it| !it.is_empty()),
        pauses: asked.pauses && kind == AlertKind::Sweep,
        made_by: who.name.clone(),
    };
    let id = room.database.add_alert_rule(&new).await?;
    changed(room);
    Ok(id)
}

/// `POST /alerts/rules`: the form, whose `target` may be there several times.
pub async fn add(
    State(room): State<Arc<Room>>,
    who: Who,
    RawForm(form): RawForm,
) -> Answer<Redirect> {
    // A form is written as a query is.
    let address = format!("http://form/?{}", String::from_utf8_lossy(&form));
    let address =
        reqwest::Url::parse(&address).map_err(|_| Refusal::bad("the form cannot be read"))?;
    let fields: Vec<(String, String)> = address.query_pairs().into_owned().collect();
    let all = |name: &str| -> Vec<String> {
        let of = fields.iter().filter(|(known, value)| known == name && !value.is_empty());
        of.map(|(_, value)| value.clone()).collect()
    };
    let kind = all("kind").pop().unwrap_or_default();
    let counts = kind.parse::<AlertKind>().is_ok_and(|kind| kind.amount().is_some());
    let amount = match all("amount").pop().filter(|_| counts) {
        Some(text) => {
            let number: f64 =
                text.trim().parse().map_err(|_| Refusal::bad(format!("`{text}` is no number")))?;
            // The page asks for per cent.
            Some(if kind == "disk" { number / 100.0 } else { number })
        }
        None => None,
    };
    let asked = Asked {
        kind,
        amount,
        targets: all("target"),
        owner: all("owner").pop(),
        pauses: !all("pauses").is_empty(),
    };
    if asked.targets.is_empty() {
        return Err(Refusal::bad("choose where to send it: at least one target"));
    }
    make(&room, &who, asked).await?;
    Ok(Redirect::to("/alerts"))
}

/// `POST /alerts/usual`: a rule of each kind that has none, to all targets.
pub async fn usual(State(room): State<Arc<Room>>, who: Who) -> Answer<Redirect> {
    let rules = room.database.alert_rules().await?;
    let targets: Vec<String> =
        room.targets.shown().iter().map(|(name, _)| (*name).to_owned()).collect();
    if targets.is_empty() {
        return Err(Refusal::conflict(
            "this server has no target to send to: start it with `scheduler room --alerts FILE`",
        ));
    }
    for kind in AlertKind::ALL {
        if rules.iter().all(|rule| rule.kind != kind.name()) {
            let targets = targets.iter().take(20).cloned().collect();
            let asked = Asked {
                kind: kind.name().to_owned(),
                amount: None,
                targets,
                owner: None,
                pauses: false,
            };
            make(&room, &who, asked).await?;
        }
    }
    Ok(Redirect::to("/alerts"))
}

/// `POST /alerts/rules/ID/WHAT`: `on`, `off`, `remove`.
pub async fn change(
    State(room): State<Arc<Room>>,
    who: Who,
    Path((id, what)): Path<(String, String)>,
) -> Answer<Redirect> {
    who.demand(Role::User)?;
    let id = rule(&id)?;
    match what.as_str() {
        "on" => room.database.enable_alert_rule(id, true).await?,
        "off" => room.database.enable_alert_rule(id, false).await?,
        "remove" => room.database.remove_alert_rule(id).await?,
        _ => return Err(Refusal::missing("there is no such button")),
    }
    changed(&room);
    Ok(Redirect::to("/alerts"))
}

/// The id of a rule as it is written in addresses.
pub fn rule(id: &str) -> Answer<Uuid> {
    id.parse().map_err(|_| Refusal::missing(format!("there is no rule `{id}`")))
}

/// Which target is tested.
#[derive(Deserialize)]
pub struct Test {
    target: String,
}

/// `POST /alerts/test`.
pub async fn test(
    State(room): State<Arc<Room>>,
    who: Who,
    Form(test): Form<Test>,
) -> Answer<Redirect> {
    send_test(&room, &who, &test.target).await?;
    Ok(Redirect::to("/alerts#events"))
}

/// Writes a message that is sent within seconds; gives its event.
pub async fn send_test(room: &Room, who: &Who, target: &str) -> Answer<i64> {
    who.demand(Role::Admin)?;
    if room.targets.shown().iter().all(|(name, _)| *name != target) {
        return Err(Refusal::missing(format!("this server has no target `{target}`")));
    }
    let event = room.database.test_alert(target, &who.name).await?;
    changed(room);
    Ok(event)
}
