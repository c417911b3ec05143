//! `/curves`: charts of chosen runs, and the choice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::IntoResponse;
use axum::routing::get;
use maud::{Markup, html};
use registry::{Run, RunFilter};
use utoipa_axum::router::OpenApiRouter;

use super::{SCRIPTS, STYLES, chart};
use crate::format;
use crate::page::{Page, empty};
use crate::{Answer, Room, Who};

/// Runs to choose from.
const OFFERED: i64 = 60;
/// Runs that are shown where none is chosen.
const FIRST: usize = 3;

pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new().route("/curves", get(curves))
}

/// The address: repeated `run` and `metric`, and lists of them.
struct View {
    runs: String,
    metrics: Vec<String>,
}

impl View {
    fn new(pairs: &[(String, String)]) -> Self {
        let all = |one: &str, many: &str| -> Vec<String> {
            let values = pairs.iter().filter(|(key, _)| key == one || key == many);
            values
                .flat_map(|(_, value)| value.split(','))
                .map(str::trim)
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
                .collect()
        };
        Self { runs: all("run", "runs").join(","), metrics: all("metric", "metrics") }
    }
}

async fn curves(
    State(room): State<Arc<Room>>,
    Query(pairs): Query<Vec<(String, String)>>,
    who: Who,
) -> Answer<impl IntoResponse> {
    let view = View::new(&pairs);
    let newest = room
        .shared
        .get("curves/newest", Duration::from_secs(2), async {
            let filter = RunFilter { limit: Some(OFFERED), ..RunFilter::default() };
            Ok(room.database.runs(filter).await?)
        })
        .await?;
    let chosen = match view.runs.is_empty() {
        false => super::runs(&room, &view.runs).await?,
        true => {
            // What runs, or else the newest that has come anywhere.
            let running = |run: &&Run| run.state == Some(registry::JobState::Running);
            let mut first: Vec<Run> = newest.iter().filter(running).take(FIRST).cloned().collect();
            if first.is_empty() {
                first = newest.iter().filter(|run| run.last_step > 0).take(1).cloned().collect();
            }
            first
        }
    };
    let body = body(&newest, &chosen, &view.metrics);
    let page = Page {
        title: "Curves",
        screen: "/curves",
        who: &who,
        scripts: SCRIPTS,
        styles: STYLES,
        body,
    };
    Ok(page.into_response())
}

fn body(newest: &[Run], chosen: &[Run], metrics: &[String]) -> Markup {
    if newest.is_empty() && chosen.is_empty() {
        return empty(
            "There are no runs. A run that trains records its loss here.",
            Some("trainer submit configs/small/colorization.toml"),
        );
    }
    let names = names(chosen);
    let shown: Vec<&str> = match metrics.is_empty() {
        false => metrics.iter().map(String::as_str).collect(),
        true => names.iter().map(String::as_str).filter(|name| by_default(name)).collect(),
    };
    html! {
        (choice(newest, chosen, &names, &shown))
        @if chosen.is_empty() {
            (empty("No run has recorded anything yet. Choose runs above; curves begin with a run's first step.", Some("scheduler worker")))
        } @else if shown.is_empty() {
            (empty("These runs have recorded no metrics yet. Curves begin with the first step.", Some("scheduler worker")))
        } @else {
            (view())
            div.charts {
                @for (title, metrics) in groups(&shown, chosen.len()) {
                    (chart(&title, &chosen.iter().map(|run| run.short.clone()).collect::<Vec<_>>(), &metrics))
                }
            }
            (latest(chosen, &names))
        }
    }
}

/// The runs and metrics to choose from; works without scripts.
fn choice(newest: &[Run], chosen: &[Run], names: &BTreeSet<String>, shown: &[&str]) -> Markup {
    let is_chosen = |run: &Run| chosen.iter().any(|one| one.id == run.id);
    let others = newest.iter().filter(|run| !is_chosen(run));
    html! {
        form.choice method="get" action="/curves" {
            details open[chosen.is_empty()] {
                summary { "Runs " span.quiet { (chosen.len()) " shown" } }
                div.options {
                    @for run in chosen.iter().chain(others) {
                        label title=(run.experiment) {
                            input type="checkbox" name="run" value=(run.short) checked[is_chosen(run)];
                            span.cut { (run.name) }
                            code.quiet { (run.short) }
                        }
                    }
                }
                label.above { "Others, by name or id, with commas between" input type="text" name="runs" size="40" autocomplete="off"; }
            }
            @if !names.is_empty() {
                details {
                    summary { "Metrics " span.quiet { (shown.len()) " of " (names.len()) " shown" } }
                    div.options {
                        @for name in names {
                            label { input type="checkbox" name="metric" value=(name) checked[shown.contains(&name.as_str())]; span.cut { (name) } }
                        }
                    }
                }
            }
            button type="submit" { "Show these" }
        }
    }
}

/// How all charts are drawn; `curves.js` keeps it in the address.
fn view() -> Markup {
    html! {
        form.row.view #curves-view aria-label="How the charts are drawn" {
            label { "Across" select name="x" { option value="step" { "steps" } option value="images" { "images" } option value="time" { "hours since the start" } } }
            label { input type="checkbox" name="logx"; "log" }
            label { "Up" select name="y" { option value="linear" { "linear" } option value="log" { "log" } } }
            label { "Smoothing" input type="range" name="smooth" min="0" max="0.99" step="0.01" value="0"; output name="smoothing" { "0" } }
            label { input type="checkbox" name="marks" checked; "restarts, rewinds, checkpoints" }
            label title="Runs that differ in nothing but the seed are one curve: their mean, and a band of one standard deviation" {
                input type="checkbox" name="seeds"; "mean ± sd of seeds"
            }
            button type="button" name="reset" disabled { "Whole range" }
            noscript { span.quiet { "These settings need scripts." } }
            p.quiet.small.keys { "Drag to zoom all charts; double click, or " kbd { "0" } ", for the whole range. With a chart in focus " kbd { "←" } " " kbd { "→" } " move the cursor, " kbd { "+" } " " kbd { "−" } " zoom, " kbd { "Shift" } " with the arrows moves the range." }
        }
    }
}

/// The latest values, also for who has no scripts or does not see the charts.
fn latest(runs: &[Run], names: &BTreeSet<String>) -> Markup {
    let value = |run: &Run, name: &str| match run.latest.get(name) {
        None => String::new(),
        Some(value) => format::number(value.as_f64().unwrap_or(f64::NAN)),
    };
    html! {
        details {
            summary { "Latest values" }
            div.table { table {
                thead { tr { th scope="col" { "metric" } @for run in runs { th.number scope="col" { (run.name) " " code { (run.short) } } } } }
                tbody {
                    tr { th scope="row" { "step" } @for run in runs { td.number { (format::count(run.last_step)) } } }
                    @for name in names {
                        tr { th scope="row" { (name) } @for run in runs { td.number { (value(run, name)) } } }
                    }
                }
            } }
        }
        @if let [run] = runs {
            p.small { "All points of this run: "
                @for kind in ["csv", "parquet", "arrow", "json"] {
                    a href=(format!("/api/v1/runs/{}/metrics.{kind}", run.short)) { (kind) } " "
                }
            }
        }
    }
}

/// The metrics that runs have recorded.
fn names(runs: &[Run]) -> BTreeSet<String> {
    let values = runs.iter().flat_map(|run| [&run.latest, &run.initial]);
    values
        .filter_map(serde_json::Value::as_object)
        .flat_map(|values| values.keys().cloned())
        .collect()
}

/// What is shown where nothing was chosen.
fn by_default(name: &str) -> bool {
    const FEW: [&str; 4] = ["loss", "gradient_norm", "learning_rate", "images_per_second"];
    FEW.contains(&name)
        || name.starts_with("loss/")
        || name.starts_with("noise/")
        || name.starts_with("validation/loss")
}

/// The charts, with their titles. Of one run what is alike shares a chart: the loss of training and validation, the
/// tasks, the fifths of the noise schedule. Of several runs each metric has its own.
fn groups<'a>(shown: &[&'a str], runs: usize) -> Vec<(String, Vec<&'a str>)> {
    let title = |name: &str| match name.strip_prefix("noise/") {
        Some(fifth) => {
            format!("Loss in fifth {fifth} of the noise schedule (0 has the least noise)")
        }
        None => name.to_owned(),
    };
    let group = |name: &str| match name {
        "loss" | "validation/loss" | "nothing" | "validation/nothing" => (0, "Loss"),
        name if name.starts_with("loss/") => (1, "Loss of each task"),
        name if name.starts_with("noise/") => {
            (2, "Loss by fifth of the noise schedule (noise/0 has the least noise)")
        }
        name if name.starts_with("validation/loss/") => (3, "Validation loss of each task"),
        name if name.starts_with("validation/noise/") => {
            (4, "Validation loss by fifth of the noise schedule")
        }
        _ => (5, ""),
    };
    let mut sorted = shown.to_vec();
    sorted.sort_by_key(|name| (group(name).0, *name));
    if runs != 1 {
        return sorted.into_iter().map(|name| (title(name), vec![name])).collect();
    }
    let mut charts: Vec<(String, Vec<&str>)> = Vec::new();
    for name in sorted {
        let (_, shared) = group(name);
        match charts.last_mut() {
            Some((title, metrics)) if title == shared => metrics.push(name),
            _ if shared.is_empty() => charts.push((name.to_owned(), vec![name])),
            _ => charts.push((shared.to_owned(), vec![name])),
        }
    }
    charts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_has_what_is_alike_in_one_chart_and_several_runs_do_not() {
        let names = ["gradient_norm", "loss", "noise/0", "noise/1", "validation/loss"];
        let one: Vec<_> = groups(&names, 1).into_iter().map(|(_, metrics)| metrics.len()).collect();
        assert_eq!(one, [2, 2, 1]);
        assert_eq!(groups(&names, 2).len(), names.len());
    }

    #[test]
    fn an_address_names_runs_one_by_one_or_in_a_list() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let view = View::new(&[pair("run", "a"), pair("runs", "b, c"), pair("metric", "loss")]);
        assert_eq!((view.runs.as_str(), view.metrics.len()), ("a,b,c", 1));
    }
}
