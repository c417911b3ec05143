//! The page: where alerts go, the rules, and what they found.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{Html, IntoResponse};
use maud::{Markup, html};
use registry::{AlertDelivery, AlertEvent, AlertKind, AlertRule};
use time::OffsetDateTime;

use crate::access::Role;
use crate::page::{Page, csrf_input, empty, fragment};
use crate::{Answer, Room, Who, format};

/// `GET /alerts`.
pub async fn page(State(room): State<Arc<Room>>, who: Who) -> Answer<impl IntoResponse> {
    let rules = super::rules(&room).await?;
    let events = super::newest(&room).await?;
    let targets = room.targets.shown();
    let give_up = format::span(room.targets.give_up());
    let body = html! {
        (targets_part(&targets, &who))
        (rules_part(&rules, &targets, &who))
        h2 #events { "What was found" }
        p.quiet { "Kept for 30 days. A message that its target does not take is tried again, less and less often, for " (give_up) "; then it is given up." }
        div #event-list data-live="/alerts/events" data-on="alerts tick" { (events_part(&events)) }
    };
    let page = Page {
        title: "Alerts",
        screen: "/alerts",
        who: &who,
        scripts: &["alerts.js"],
        styles: &["alerts.css"],
        body,
    };
    Ok(page.into_response())
}

/// `GET /alerts/events`.
pub async fn events(State(room): State<Arc<Room>>, _who: Who) -> Answer<Html<String>> {
    Ok(fragment(events_part(&super::newest(&room).await?)))
}

const FILE: &str = "\
# alerts.toml: scheduler room --alerts alerts.toml
[[target]]
name = \"team\"
kind = \"slack\"            # or json, ntfy, mattermost, mail
url_file = \"slack-url\"    # a file with the address; or url_env = \"VARIABLE\"";

fn targets_part(targets: &[(&str, &str)], who: &Who) -> Markup {
    html! {
        h2 { "Where alerts go" }
        @if targets.is_empty() {
            (empty("This server sends nowhere yet. Targets and their secrets are in a file, which names them and never the database:", Some(FILE)))
        } @else {
            ul.plain {
                @for (name, how) in targets {
                    li.row {
                        strong { (name) }
                        span.quiet { (how) }
                        @if who.role >= Role::Admin {
                            form method="post" action="/alerts/test" {
                                (csrf_input(who))
                                input type="hidden" name="target" value=(name);
                                button { "Send a test" span.unseen { " to " (name) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn rules_part(rules: &[AlertRule], targets: &[(&str, &str)], who: &Who) -> Markup {
    let may = who.role >= Role::User && !targets.is_empty();
    html! {
        h2 #rules { "Rules" }
        @if rules.is_empty() {
            (empty("No rule yet, so nothing is told. A rule says what to tell and where to.", None))
        } @else {
            ul.plain { @for rule in rules { (rule_item(rule, targets, who)) } }
        }
        @if may {
            @if AlertKind::ALL.iter().any(|kind| rules.iter().all(|rule| rule.kind != kind.name())) {
                form.row method="post" action="/alerts/usual" {
                    (csrf_input(who))
                    button.main[rules.is_empty()] { "Add the usual rules" }
                    span.quiet { "one of each kind that has none, to all targets" }
                }
            }
            details #new-rule open[rules.is_empty()] {
                summary { "Add a rule" }
                (form(targets, who))
            }
        }
    }
}

fn form(targets: &[(&str, &str)], who: &Who) -> Markup {
    html! {
        form.rule method="post" action="/alerts/rules" {
            (csrf_input(who))
            fieldset {
                legend { "Tell when" }
                @for kind in AlertKind::ALL {
                    label { input type="radio" name="kind" value=(kind.name()) required data-amount=[amount(kind)] checked[kind == AlertKind::Failed]; (says(kind)) }
                }
                label #amount-label { "Number" input.few #amount type="number" name="amount" min="0" step="any" placeholder="usual"; span.quiet #amount-unit { "of log intervals, per cent, runs or minutes; the usual one where empty" } }
                label { input type="checkbox" name="pauses" value="1"; "of a sweep: also pause what is queued of it" }
            }
            fieldset {
                legend { "Send to" }
                @for (name, how) in targets { label { input type="checkbox" name="target" value=(name) checked[targets.len() == 1]; (name) " " span.quiet.small { (how) } } }
            }
            label.above { "Only what belongs to (everybody, where empty)" input name="owner" maxlength="200" autocomplete="off"; }
            p { button.main { "Add the rule" } }
        }
    }
}

/// What stands in the field for the number.
fn amount(kind: AlertKind) -> Option<String> {
    let value = kind.amount()?;
    let value = if kind == AlertKind::Disk { value * 100.0 } else { value };
    let unit = match kind {
        AlertKind::Stuck => "log intervals",
        AlertKind::Disk => "per cent left",
        AlertKind::Sweep => "failed runs",
        _ => "minutes",
    };
    Some(format!("{value} {unit}"))
}

/// What a kind looks for.
fn says(kind: AlertKind) -> &'static str {
    match kind {
        AlertKind::Failed => "a job failed for good",
        AlertKind::Lost => "a worker or its host is lost",
        AlertKind::Stuck => "a run reports no step for many log intervals",
        AlertKind::Disk => "little of a disk is left",
        AlertKind::Nothing => "a loss is no better than that of predicting nothing",
        AlertKind::Sweep => "the runs of a sweep fail and none succeeds",
        AlertKind::Nobody => "no worker can do a job that waits",
    }
}

/// What a rule looks for, with its number.
fn sentence(rule: &AlertRule) -> String {
    let Ok(kind) = rule.kind.parse::<AlertKind>() else { return rule.kind.clone() };
    let amount = rule.amount.or(kind.amount()).unwrap_or_default();
    match kind {
        AlertKind::Failed => "A job failed for good".into(),
        AlertKind::Lost => "A worker or its host is lost".into(),
        AlertKind::Stuck => format!("A run reports no step for {amount} log intervals"),
        AlertKind::Disk => {
            format!("Less than {:.3} % of a disk is left", amount * 100.0).replace(".000 %", " %")
        }
        AlertKind::Nothing => "A loss is no better than that of predicting nothing".into(),
        AlertKind::Sweep => format!("{amount} runs of a sweep failed and none succeeded"),
        AlertKind::Nobody => format!("No worker can do a job that has waited for {amount} minutes"),
    }
}

fn rule_item(rule: &AlertRule, targets: &[(&str, &str)], who: &Who) -> Markup {
    let unknown: Vec<&String> =
        rule.targets.iter().filter(|name| targets.iter().all(|(known, _)| known != name)).collect();
    html! {
        li data-key=(rule.id) {
            div.row {
                strong { (sentence(rule)) }
                @if rule.pauses { span.tag { "pauses the rest" } }
                @if let Some(owner) = &rule.owner { span.tag { "of " (owner) } }
                @if !rule.enabled { span.state { "off" } }
                span.quiet { "to " (rule.targets.join(", ")) }
                span.quiet.small { "by " (rule.made_by) ", since " (format::moment(rule.since)) }
                @if who.role >= Role::User {
                    (button(rule, if rule.enabled { "off" } else { "on" }, if rule.enabled { "Turn off" } else { "Turn on" }, None, who))
                    (button(rule, "remove", "Remove", Some("Remove this rule? What it found stays."), who))
                }
            }
            @if !unknown.is_empty() {
                p.note.warn { "This server has no target " (unknown.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")) ". Another server that has it sends, or nobody does." }
            }
        }
    }
}

fn button(rule: &AlertRule, what: &str, label: &str, confirm: Option<&str>, who: &Who) -> Markup {
    html! {
        form method="post" action=(format!("/alerts/rules/{}/{what}", rule.id)) data-confirm=[confirm] {
            (csrf_input(who))
            button { (label) }
        }
    }
}

fn events_part(events: &[AlertEvent]) -> Markup {
    html! {
        @if events.is_empty() {
            (empty("Nothing was found yet. What rules find stands here, with what became of each message.", None))
        } @else {
            ul.plain.events { @for event in events { (event_item(event)) } }
        }
    }
}

fn event_item(event: &AlertEvent) -> Markup {
    let address = event.job_id.map(|id| {
        let folder = if event.trains { "runs" } else { "jobs" };
        format!("/{folder}/{}", registry::short(&id))
    });
    html! {
        li data-key=(event.id) {
            div.spread {
                strong { @if let Some(address) = &address { a href=(address) { (event.title) } } @else { (event.title) } }
                time.quiet.small datetime=(format::moment(event.at)) title=(format::moment(event.at)) { (format::ago(event.at)) }
            }
            p.body { (event.body) }
            div.row {
                @if event.deliveries.is_empty() { span.quiet { "sent nowhere" } }
                @for one in &event.deliveries { (delivery(one)) }
            }
        }
    }
}

fn delivery(one: &AlertDelivery) -> Markup {
    let class = match one.state.as_str() {
        "sent" => "state state-succeeded",
        "given up" => "state state-failed",
        _ => "state state-queued",
    };
    let wait = Duration::try_from(one.next_at - OffsetDateTime::now_utc()).unwrap_or_default();
    html! {
        span.delivery {
            span class=(class) { (one.target) ": " (one.state) }
            @if one.tries > 1 { span.quiet.small { (one.tries) " tries" } }
            @if let Some(error) = &one.error {
                span.small { (error) @if one.state == "waiting" && !wait.is_zero() { ", again in " (format::span(wait)) } }
            }
        }
    }
}
