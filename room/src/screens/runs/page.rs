//! The page of all runs.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::IntoResponse;
use maud::{Markup, html};
use serde_json::Value;

use super::filters;
use super::table::{self, MetricSpread, RunRow, RunTable, RunsTogether};
use super::view::{Column, View, encoded};
use crate::format::{ago, count, moment, number};
use crate::page::{Page, empty, fragment, state};
use crate::{Answer, Role, Room, Who};

/// `GET /runs`.
pub async fn page(
    State(room): State<Arc<Room>>,
    who: Who,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer<impl IntoResponse> {
    let view = View::read(&pairs)?;
    let table = table::read(&room, &view).await?;
    let nothing = table.runs == 0 && !view.is_filtered();
    let archived = table.counts.get("archived").is_some_and(|values| !values.is_empty());
    let body = if nothing && !archived {
        empty(
            "No runs yet. A run is what one training makes; it is listed here from when it is submitted.",
            Some("trainer submit configs/small/colorization.toml"),
        )
    } else {
        let query = view.query();
        html! {
            div.runs {
                details.side open { summary { "Filters" } (filters::filters(&view, &table)) }
                div.main {
                    (tools(&view, &table, &who))
                    div #runs data-live=(format!("/parts/runs?{query}")) { (content(&view, &table, &who)) }
                }
            }
        }
    };
    let (scripts, styles) = (&["runs.js"], &["runs.css"]);
    let page = Page { title: "Runs", screen: "/runs", who: &who, scripts, styles, body };
    Ok(page.into_response())
}

/// `GET /parts/runs`: the table alone.
pub async fn part(
    State(room): State<Arc<Room>>,
    who: Who,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer<impl IntoResponse> {
    let view = View::read(&pairs)?;
    let table = table::read(&room, &view).await?;
    Ok(fragment(content(&view, &table, &who)))
}

/// What is done with the ticked runs, and how the table is shown. The boxes belong to this form.
fn tools(view: &View, table: &RunTable, who: &Who) -> Markup {
    let post = |deed: &str, text: &str| {
        html! {
            button formmethod="post" formaction=(format!("/marks/{deed}")) name="csrf" value=(who.csrf) { (text) }
        }
    };
    html! {
        div.tools {
            form #pick method="get" action="/open/compare" aria-label="The ticked runs" {
                input type="hidden" name="back" value=(view.query());
                div.row {
                    span.quiet #picked { "Ticked runs:" }
                    button { "Compare" }
                    button formaction="/open/curves" { "Curves" }
                    button formaction="/open/pictures" { "Pictures" }
                    @if who.role >= Role::User {
                        (post("star", "Star"))
                        (post("archive", "Archive"))
                        @if view.filter.archived != Some(false) { (post("unarchive", "Show again")) }
                        span.row.tagging {
                            label { span.unseen { "Tags" } input name="tags" size="10" placeholder="tag"; }
                            (post("tag", "Tag")) (post("untag", "Untag"))
                        }
                    }
                }
            }
            div.row {
                span.row.switch role="group" aria-label="Rows" {
                    a.button href=(view.with(|view| view.grouped = false).address()) aria-current=[(!view.grouped).then_some("true")] { "Each run" }
                    a.button href=(view.with(|view| view.grouped = true).address()) aria-current=[view.grouped.then_some("true")] { "Seeds together" }
                }
                a.button href=(view.with(|view| view.differing = !view.differing).address()) aria-current=[view.differing.then_some("true")] { "Only what differs" }
                (filters::columns(view, table))
            }
        }
    }
}

fn content(view: &View, table: &RunTable, who: &Who) -> Markup {
    if table.rows.is_empty() {
        return html! {
            (summary(view, table))
            @if table.total > 0 {
                p { "There is no such page. " a href=(view.with(|_| {}).address()) { "To the first one" } }
            } @else {
                (empty("No run fits these filters. Clear some of them to see more.", None))
                p { a.button href="/runs" { "Show all runs" } }
            }
        };
    }
    let hidden = |column: &str| view.differing && table.equal.contains(column);
    let columns: Vec<Column> = table
        .columns
        .iter()
        .filter_map(|key| {
            let (kind, rest) = key.split_once(':')?;
            Some(match kind {
                "metric" => Column::Metric(rest.to_owned()),
                _ => Column::Config(rest.to_owned()),
            })
        })
        .collect();
    html! {
        (summary(view, table))
        div.table tabindex="0" role="region" aria-label="Runs" {
            table {
                thead { tr {
                    th { span.unseen { "Tick" } }
                    (head(view, "name", "Name", false))
                    (head(view, "state", "State", false))
                    @for column in &columns {
                        (head(view, &column.key(), column.title(), matches!(column, Column::Metric(_)) || is_numeric(table, column)))
                    }
                    (head(view, "step", "Step", true))
                    @if !hidden("seed") { (head(view, "seed", if view.grouped { "Seeds" } else { "Seed" }, true)) }
                    @if !hidden("experiment") { (head(view, "experiment", "Experiment", false)) }
                    @if !hidden("owner") { (head(view, "owner", "Owner", false)) }
                    (head(view, "created", "Submitted", false))
                } }
                tbody {
                    @for row in &table.rows {
                        tr data-key=(row.id) {
                            td { label.tick { span.unseen { "Tick " (row.name) }
                                @match &row.group {
                                    None => input type="checkbox" form="pick" name="run" value=(row.short);,
                                    Some(group) => input type="checkbox" form="pick" name="run" value=(row.short)
                                        data-runs=(group.runs.iter().map(registry_short).collect::<Vec<_>>().join(" "));,
                                } } }
                            td.name { (name(view, row, who)) }
                            td { @match &row.group {
                                None => (state(&row.state)),
                                Some(group) => (states(group)),
                            } }
                            @for column in &columns { (cell(row, column)) }
                            td.number { (count(row.last_step)) span.quiet { "/" (count(row.total_steps)) } }
                            @if !hidden("seed") {
                                td.number { @match &row.group { None => (row.seed), Some(group) => (group.runs.len()) } }
                            }
                            @if !hidden("experiment") { td.cut title=(row.experiment) { bdi { (row.experiment) } } }
                            @if !hidden("owner") { td.cut title=(row.owner) { bdi { (row.owner) } } }
                            td.nowrap title=(moment(row.created_at)) { (ago(row.created_at)) }
                        }
                    }
                }
            }
        }
        (pages(view, table))
    }
}

fn registry_short(id: &registry::Uuid) -> String {
    registry::short(id)
}

/// `1 to 50 of 10 000 runs`.
fn summary(view: &View, table: &RunTable) -> Markup {
    let first = table.offset + 1;
    let last = table.offset + i64::try_from(table.rows.len()).unwrap_or(0);
    let what = match (view.grouped, table.total) {
        (true, 1) => "setting",
        (true, _) => "settings",
        (false, 1) => "run",
        (false, _) => "runs",
    };
    html! {
        p.quiet.summary role="status" {
            @if table.rows.is_empty() { "0 of " (count(table.total)) " " (what) }
            @else if table.total == last - first + 1 { (count(table.total)) " " (what) }
            @else { (count(first)) " to " (count(last)) " of " (count(table.total)) " " (what) }
            @if view.grouped { " of " (count(table.runs)) " runs; mean ± standard deviation of the newest values over seeds" }
        }
    }
}

fn pages(view: &View, table: &RunTable) -> Markup {
    let last = (table.total + view.rows - 1) / view.rows;
    let to = |page: i64, text: &str| {
        html! {
            a.button href=(View { page, ..view.clone() }.address()) { (text) }
        }
    };
    html! {
        @if last > 1 {
            nav.row.pages aria-label="Pages" {
                @if view.page > 1 { (to(1, "First")) (to(view.page - 1, "Previous")) }
                span { "Page " (count(view.page)) " of " (count(last)) }
                @if view.page < last { (to(view.page + 1, "Next")) (to(last, "Last")) }
            }
        }
    }
}

fn head(view: &View, column: &str, title: &str, numeric: bool) -> Markup {
    let sorted =
        (view.sort == column).then_some(if view.descending { "descending" } else { "ascending" });
    let arrow = match sorted {
        Some("descending") => " ↓",
        Some(_) => " ↑",
        None => "",
    };
    html! {
        th.number[numeric] scope="col" aria-sort=[sorted] {
            a.cut href=(view.sorted(column).address()) title=(format!("Sort by {title}")) { bdi { (title) } (arrow) }
        }
    }
}

fn is_numeric(table: &RunTable, column: &Column) -> bool {
    let Column::Config(key) = column else { return true };
    table.rows.iter().filter_map(|row| row.config.get(key)).all(Value::is_number)
}

fn name(view: &View, row: &RunRow, who: &Who) -> Markup {
    let (deed, mark, says) = match row.starred {
        true => ("unstar", "★", "Take the star from"),
        false => ("star", "☆", "Star"),
    };
    html! {
        div.first {
            @if who.role >= Role::User {
                // Its own form: the ticked boxes do not matter here.
                form method="post" action=(format!("/marks/{deed}")) data-mark {
                    (crate::page::csrf_input(who))
                    input type="hidden" name="back" value=(view.query());
                    button.star name="only" value=(row.id) aria-label=(format!("{says} {}", row.name)) aria-pressed=(row.starred) { (mark) }
                }
            }
            a.cut href=(format!("/runs/{}", row.short)) title=(row.name) { bdi { (row.name) } }
            @if row.archived { span.tag { "archived" } }
        }
        div.second {
            span.mono.quiet { (row.short) }
            @for tag in &row.tags {
                a.tag.cut href=(view.with(|view| view.filter.tags = vec![tag.clone()]).address()) { bdi { (tag) } }
            }
            @if who.role >= Role::User {
                a.edit href=(format!("/marks/edit?run={}&back={}", row.id, encoded(&view.query()))) { "edit" span.unseen { " name, tags and note of " (row.name) } }
            }
        }
        @if let Some(note) = &row.note { div.quiet.small.cut title=(first(note, 300)) { bdi { (first(note, 120)) } } }
    }
}

/// The beginning of a text.
fn first(text: &str, characters: usize) -> String {
    let mut all: String = text.chars().take(characters).collect();
    if all.len() < text.len() {
        all.push('…');
    }
    all
}

fn states(group: &RunsTogether) -> Markup {
    html! {
        @if group.states.len() == 1 {
            @for (name, number) in &group.states {
                (state(name)) @if *number > 1 { " " span.quiet { "×" (number) } }
            }
        } @else {
            @for (name, number) in &group.states { div { (state(name)) " " span.quiet { "×" (number) } } }
        }
    }
}

fn cell(row: &RunRow, column: &Column) -> Markup {
    match (column, &row.group) {
        (Column::Metric(name), Some(group)) => html! {
            td.number { @if let Some(spread) = group.metrics.get(name) { (spread_text(spread, group.runs.len())) } @else { span.quiet { "–" } } }
        },
        (Column::Metric(name), None) => html! {
            td.number { @match row.metrics.get(name) {
                None => span.quiet { "–" },
                Some(None) => span.state.state-lost { "lost" },
                Some(Some(value)) => (number(*value)),
            } }
        },
        (Column::Config(key), _) => {
            let value = row.config.get(key);
            let numeric = value.is_some_and(Value::is_number);
            let text = value.map(plain);
            html! {
                td.number[numeric] { @match text {
                    None => span.quiet { "–" },
                    Some(text) => span.value.cut title=(first(&text, 300)) { bdi { (first(&text, 60)) } },
                } }
            }
        }
    }
}

fn spread_text(spread: &MetricSpread, runs: usize) -> Markup {
    let MetricSpread { measured, lost, mean, deviation } = spread;
    let some =
        (usize::try_from(*measured).unwrap_or(0) < runs).then(|| format!("{measured} of {runs}"));
    html! {
        @if *lost > 0 { span.state.state-lost { "lost" } @if runs > 1 { " " span.quiet.small { (lost) " of " (runs) } } }
        @else if let Some(mean) = mean {
            (number(*mean))
            @if let Some(deviation) = deviation { " ± " (number(*deviation)) }
            @if let Some(some) = some { " " span.quiet.small { "(" (some) ")" } }
        } @else { span.quiet { "–" } }
    }
}

/// A value of a configuration as it was written.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        value => value.to_string(),
    }
}
