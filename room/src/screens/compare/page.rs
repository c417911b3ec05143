//! The page of a comparison, and the same as JSON.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::answer::{self, Compared, ComparedLevel, Comparison};
use crate::page::{Page, empty, fragment};
use crate::screens::curves;
use crate::screens::runs::view::encoded;
use crate::{Answer, Refusal, Room, Who};

/// What is compared.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// Names or ids of runs, with commas between; the others are compared with the first.
    #[serde(default)]
    runs: String,
}

/// Configurations, metrics over the same steps and scores of runs side by side.
#[utoipa::path(get, path = "/api/v1/compare", params(Asked), responses((status = 200, body = Comparison)))]
pub async fn api(
    State(room): State<Arc<Room>>,
    Query(asked): Query<Asked>,
) -> Answer<Json<Comparison>> {
    let comparison = answer::read(&room, &asked.runs).await?;
    if comparison.runs.len() < 2 {
        return Err(Refusal::bad("a comparison needs two runs or more: runs=A,B"));
    }
    Ok(Json(comparison.as_ref().clone()))
}

/// `GET /compare?runs=A,B`.
pub async fn page(
    State(room): State<Arc<Room>>,
    who: Who,
    Query(asked): Query<Asked>,
) -> Answer<impl IntoResponse> {
    let comparison = answer::read(&room, &asked.runs).await?;
    let shorts: Vec<String> = comparison.runs.iter().map(|run| run.short.clone()).collect();
    let list = shorts.join(",");
    let body = html! {
        form.row.chosen method="get" action="/compare" {
            label.above { "Runs, with commas between; the first is what the others are compared with"
                input name="runs" value=(asked.runs); }
            button.main { "Compare" }
        }
        @if comparison.runs.len() < 2 {
            (empty("A comparison needs two runs or more. Tick them in the table of runs, and press Compare; or write their \
                names here.", Some("scheduler diff RUN-A RUN-B")))
        } @else {
            p.row {
                a.button href=(format!("/curves?runs={list}")) { "All curves" }
                a.button href=(format!("/pictures?runs={list}")) { "Pictures side by side" }
            }
            div #compared data-live=(format!("/parts/compare?runs={}", encoded(&list))) data-on="tick" { (content(&comparison)) }
            h2 { "Curves" }
            div.cards.wide {
                (curves::chart("loss", &shorts, &["loss"]))
                @if comparison.metrics.iter().any(|metric| metric.name == "validation/loss") {
                    (curves::chart("validation/loss", &shorts, &["validation/loss"]))
                }
            }
        }
    };
    let styles: Vec<&str> = curves::STYLES.iter().copied().chain(["compare.css"]).collect();
    let page = Page {
        title: "Compare",
        screen: "/runs",
        who: &who,
        scripts: curves::SCRIPTS,
        styles: &styles,
        body,
    };
    Ok(page.into_response())
}

/// `GET /parts/compare`: the tables alone.
pub async fn part(
    State(room): State<Arc<Room>>,
    Query(asked): Query<Asked>,
) -> Answer<impl IntoResponse> {
    Ok(fragment(content(&*answer::read(&room, &asked.runs).await?)))
}

fn content(all: &Comparison) -> Markup {
    html! {
        h2 { "Configuration" }
        @if all.config.is_empty() { p.quiet { "All values are the same." } }
        @else { (table(all, "Key", html! { @for row in &all.config { (values(row)) } })) }
        @if !all.config_equal.is_empty() {
            details #equal { summary { (all.config_equal.len()) " values are the same in all" }
                dl.facts.small { @for row in &all.config_equal {
                    dt.mono { bdi { (row.key) } } dd.mono { bdi { (row.values[0].as_ref().map(plain).unwrap_or_default()) } } } }
            }
        }
        @if !all.facts.is_empty() {
            h2 { "How they were made" }
            (table(all, "Fact", html! { @for row in &all.facts { (values(row)) } }))
        }
        @if !all.results.is_empty() {
            h2 { "How far they are" }
            (table(all, "Result", html! { @for row in &all.results { (values(row)) } }))
        }
        h2 { "Metrics over the same steps" }
        @if all.metrics.is_empty() { p.quiet { "No losses are recorded yet." } }
        @else {
            p.quiet { "Means of the last tenth of the steps that all have, ± half the interval of 95 %. "
                b { "Within noise" } ": the intervals overlap." }
            (table(all, "Metric, steps", html! { @for metric in &all.metrics {
                tr { th scope="row" { bdi { (metric.name) } div.quiet.small { (metric.first) " to " (metric.last) } }
                    @for level in &metric.levels { (cell(level.as_ref())) } }
            } }))
        }
        h2 { "Scores of their outputs" }
        @if all.scores.is_empty() {
            (empty("None of them was scored yet. Draw samples and score them:", Some("sampler submit RUN@best --dataset DATA\nevaluator submit --help")))
        } @else {
            p.quiet { "With intervals of 95 % where the evaluation has them. " b { "Within noise" } ": the intervals overlap; "
                b { "no interval" } ": how much of the difference is noise is not known." }
            (table(all, "Score", html! { @for score in &all.scores {
                tr { th scope="row" { bdi { (score.score) } div.quiet.small { bdi { (score.label) } ", " bdi { (score.task) } } }
                    @for level in &score.levels { (cell(level.as_ref())) } }
            } }))
        }
    }
}

fn table(all: &Comparison, what: &str, rows: Markup) -> Markup {
    html! {
        div.table.compared tabindex="0" role="region" aria-label=(what) {
            table {
                thead { tr { th scope="col" { (what) }
                    @for run in &all.runs { th scope="col" { a.cut href=(format!("/runs/{}", run.short)) title=(run.name) { bdi { (run.name) } }
                        div.mono.small { (run.short) } } } } }
                tbody { (rows) }
            }
        }
    }
}

fn values(row: &Compared) -> Markup {
    html! {
        tr { th.mono scope="row" { bdi { (row.key) } }
            @for value in &row.values {
                @let differs = *value != row.values[0];
                td.mono.differs[differs] { @match value { None => span.quiet { "–" }, Some(value) => bdi { (plain(value)) } } }
            } }
    }
}

fn cell(level: Option<&ComparedLevel>) -> Markup {
    html! {
        td.level {
            @match level {
                None => span.quiet { "–" },
                Some(level) => {
                    (level.text)
                    @if let Some(verdict) = level.verdict.as_deref() { div { span class=(format!("verdict {}", verdict.replace(' ', "-"))) { (verdict) } } }
                    @if let Some(step) = level.step { div.quiet.small { "step " (step) } }
                }
            }
        }
    }
}

/// A value as it was written; a dataset by what identifies it.
fn plain(value: &Value) -> String {
    if let Some(digest) = value["digest"].as_str() {
        let digest: String = digest.chars().take(12).collect();
        return format!("{digest} ({} images, weight {})", value["rows"], value["weight"]);
    }
    let text = match value {
        Value::Number(number) if number.is_f64() => number.to_string(),
        value => crate::screens::runs::plain(value),
    };
    match text.chars().count() > 300 {
        true => text.chars().take(300).collect::<String>() + "…",
        false => text,
    }
}
