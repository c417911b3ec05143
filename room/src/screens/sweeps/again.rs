//! A sweep once more, changed: its configuration and its keys as forms, which `trainer submit` reads and checks.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use registry::{Job, Sweep};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::child::{self, Bounds};
use crate::page::{Page, csrf_input};
use crate::screens::run::log;
use crate::{Answer, Refusal, Role, Room, Who};

/// Bytes of an answer that are shown.
const SHOWN: usize = 4000;

/// What is submitted.
#[derive(Default, Deserialize)]
pub struct Wanted {
    /// TOML.
    config: String,
    /// `KEY=V1,V2`, a line each.
    axes: String,
    #[serde(default)]
    at_most: String,
    /// A number of the form's own.
    #[serde(default)]
    nonce: String,
}

impl Wanted {
    /// The key of this submission; none where the form has no number.
    fn key(&self) -> Option<String> {
        let all = [&self.nonce, &self.config, &self.axes, &self.at_most];
        let digest = all.iter().fold(Sha256::new(), |digest, part| {
            digest.chain_update(part.len().to_le_bytes()).chain_update(part)
        });
        let digest: String =
            digest.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        (!self.nonce.is_empty()).then(|| format!("room-{digest}"))
    }
}

/// `GET /sweeps/ID/again`.
pub async fn form(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<String>,
) -> Answer<Response> {
    who.demand(Role::User)?;
    let sweep = room.database.find_sweep(&id).await?;
    let jobs = room.database.sweep_jobs(sweep.id).await?;
    let first = jobs.first().and_then(|job| job.run_id);
    let first = first.ok_or_else(|| Refusal::conflict("this sweep has no run to begin with"))?;
    let mut config = room.database.run(first).await?.config;
    if let Some(config) = config.as_object_mut() {
        config.insert("name".into(), Value::from(sweep.name.clone()));
    }
    let nonce: [u8; 12] = rand::random();
    let wanted = Wanted {
        nonce: nonce.iter().map(|byte| format!("{byte:02x}")).collect(),
        config: toml(config).map_err(Refusal::conflict)?,
        axes: axes(&jobs),
        at_most: sweep.at_most.map(|limit| limit.to_string()).unwrap_or_default(),
    };
    Ok(page(&who, &sweep, &wanted, None))
}

fn page(who: &Who, sweep: &Sweep, wanted: &Wanted, why: Option<&str>) -> Response {
    let body = html! {
        @if let Some(why) = why { div.note.bad role="alert" { p { "It was not submitted:" } pre { (why) } } }
        p { "Change what you like; " a href=(format!("/sweeps/{}", sweep.short)) { bdi { (sweep.name) } } " stays as it is. Nothing is queued that "
            code { "trainer submit" } " refuses." }
        form method="post" action=(format!("/sweeps/{}/again", sweep.short)) {
            (csrf_input(who))
            input type="hidden" name="nonce" value=(wanted.nonce);
            p { label.above { "Keys that vary, KEY=VALUE,VALUE, one on each line"
                textarea.short name="axes" rows="5" required { (wanted.axes) } } }
            p { label { "At once" input type="number" name="at_most" min="1" max="10000" value=(wanted.at_most) placeholder="all"; } }
            p { label.above { "Configuration of all of them, TOML" textarea name="config" rows="24" required spellcheck="false" { (wanted.config) } } }
            div.row { button.main { "Submit" } a.button href=(format!("/sweeps/{}", sweep.short)) { "Back" } }
        }
    };
    let title = format!("Sweep {} again", sweep.name);
    let page =
        Page { title: &title, screen: "/sweeps", who, scripts: &[], styles: &["sweeps.css"], body };
    page.into_response()
}

/// `POST /sweeps/ID/again`.
pub async fn submit(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<String>,
    Form(wanted): Form<Wanted>,
) -> Answer<Response> {
    who.demand(Role::User)?;
    let sweep = super::page::one(&room, &id).await?;
    match run(&room, &who, &wanted).await? {
        Ok(made) => {
            super::page::changed(&room);
            Ok(Redirect::to(&format!("/sweeps/{made}")).into_response())
        }
        Err(why) => Ok(page(&who, &sweep, &wanted, Some(&why))),
    }
}

/// The id of the sweep, or why there is none.
async fn run(room: &Room, who: &Who, wanted: &Wanted) -> Answer<Result<String, String>> {
    let axes: Vec<&str> =
        wanted.axes.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if axes.is_empty() {
        return Ok(Err("a sweep needs a key that varies, such as seed=1,2,3".into()));
    }
    let mut arguments = ["submit", "/dev/stdin", "--json"].map(str::to_owned).to_vec();
    arguments.push(format!("--owner={}", who.name));
    arguments.extend(axes.iter().map(|axis| format!("--sweep={axis}")));
    if !wanted.at_most.trim().is_empty() {
        arguments.push(format!("--at-most={}", wanted.at_most.trim()));
    }
    // A form that is sent twice is one sweep.
    arguments.extend(wanted.key().map(|key| format!("--key={key}")));
    let program = room.programs.join("trainer");
    let config = wanted.config.replace("\r\n", "\n");
    let ended = child::run(&program, &arguments, Some(&config), Bounds::REQUEST).await?;
    if !ended.success {
        let why = ended.errors.replace("/dev/stdin", "the configuration");
        let why: String = log::clean(why.trim()).chars().take(SHOWN).collect();
        let silent = || "trainer failed, and did not say why".to_owned();
        return Ok(Err(if why.is_empty() { silent() } else { why }));
    }
    let answer: Value = serde_json::from_slice(&ended.said).unwrap_or_default();
    let made = answer["sweep"].as_str();
    Ok(made.map(str::to_owned).ok_or_else(|| "trainer submit named no sweep".to_owned()))
}

/// The keys with their values, in the order of the points.
fn axes(jobs: &[Job]) -> String {
    let mut order: Vec<&String> = Vec::new();
    let mut values = BTreeMap::<&String, Vec<String>>::new();
    for (key, value) in
        jobs.iter().filter_map(|job| job.sweep_point.as_ref()?.as_object()).flatten()
    {
        if !order.contains(&key) {
            order.push(key);
        }
        let text = value.to_string();
        let known = values.entry(key).or_default();
        if !known.contains(&text) {
            known.push(text);
        }
    }
    let line = |key: &&String| Some(format!("{key}={}", values.get(*key)?.join(",")));
    order.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// A configuration as TOML, which has no null.
fn toml(mut config: Value) -> Result<String, String> {
    fn prune(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.retain(|_, value| !value.is_null());
                object.values_mut().for_each(prune);
            }
            Value::Array(elements) => elements.iter_mut().for_each(prune),
            _ => {}
        }
    }
    prune(&mut config);
    toml::to_string_pretty(&config)
        .map_err(|error| format!("the configuration cannot be written as TOML: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_is_toml_without_what_is_not_set() {
        let text =
            toml(json!({"a": null, "b": {"c": 1e-4, "d": [1, 2], "e": null}, "f": "x\n\"y"}));
        let back: toml::Table = toml::from_str(&text.unwrap_or_default()).unwrap_or_default();
        assert_eq!(back["b"]["c"].as_float(), Some(1e-4));
        assert_eq!(back["f"].as_str(), Some("x\n\"y"));
        assert!(!back.contains_key("a"));
    }
}
