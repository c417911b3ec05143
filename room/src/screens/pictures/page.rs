//! The page of previews: one slider of steps over all runs.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::IntoResponse;
use maud::{Markup, html};
use registry::Run;

use super::grid::{Asked, Cell, Column, Grid, Row, Under, escaped, grid};
use super::shared;
use super::view::{Shown, small, tools, view};
use crate::format::count;
use crate::page::{Page, empty, fragment, state};
use crate::{Answer, Room, Who};

/// Runs that can be chosen from.
const CHOICE: i64 = 60;

/// `GET /pictures`.
pub async fn page(
    State(room): State<Arc<Room>>,
    who: Who,
    RawQuery(query): RawQuery,
) -> Answer<impl IntoResponse> {
    let asked = Asked::parse(query.as_deref())?;
    let grid = grid(&room, &asked).await?;
    let runs = choice(&room).await?;
    // A step that is named changes no more.
    let follows = asked.step.is_none() && grid.runs.iter().any(|run| run.state == "running");
    let body = html! {
        @if grid.steps.is_empty() && asked.runs.is_empty() {
            (empty(
                "No run has pictures yet. A training draws fixed inputs as it goes where its configuration has [train.preview].",
                Some("trainer submit CONFIG --set 'train.preview={ every = 500, images = 8 }'"),
            ))
        } @else {
            (choose(&runs, &grid))
            form.row.steps action="/pictures" method="get" {
                @if !asked.runs.is_empty() { input type="hidden" name="runs" value=(asked.runs.join(",")); }
                label { "Step" input #step.number type="number" name="step" min="0" value=[grid.step]; }
                label {
                    "Compare with"
                    select #under name="under" {
                        option value="source" selected[asked.under == Under::Source] { "what was given" }
                        option value="reference" selected[asked.under == Under::Reference] { "the photograph" }
                    }
                }
                button type="submit" data-plain { "Show" }
                span.row data-scripted hidden {
                    button #back type="button" aria-label="Earlier step" title="Earlier step (←)" { "◀" }
                    input #slider type="range" min="0" max="0" value="0" aria-label="Step";
                    button #forward type="button" aria-label="Later step" title="Later step (→)" { "▶" }
                    button #play type="button" aria-pressed="false" title="Play the steps (space)" { "Play" }
                }
            }
            (tools(true))
            div #grid.grid data-live=(asked.address("/pictures/grid", asked.step)) data-on=(if follows { "tick jobs" } else { "jobs" })
                data-base=(Asked { step: None, ..asked.clone() }.address("/pictures", None)) {
                (table(&asked, &grid))
            }
        }
        p.more { a href="/samples" { "Outputs of sampling jobs" } }
    };
    let page = Page {
        title: "Pictures",
        screen: "/pictures",
        who: &who,
        scripts: &["pictures.js"],
        styles: &["pictures.css"],
        body,
    };
    Ok(page.into_response())
}

/// `GET /pictures/grid`: the table alone.
pub async fn part(
    State(room): State<Arc<Room>>,
    RawQuery(query): RawQuery,
) -> Answer<impl IntoResponse> {
    let asked = Asked::parse(query.as_deref())?;
    let grid = grid(&room, &asked).await?;
    Ok(fragment(table(&asked, &grid)))
}

async fn choice(room: &Room) -> Answer<Arc<Vec<Run>>> {
    let make = async {
        let ids = room.database.pictured_runs(CHOICE).await?;
        let mut runs = room.database.runs_by_id(&ids).await?;
        runs.sort_by_key(|run| ids.iter().position(|id| *id == run.id));
        Ok(runs)
    };
    shared(room, "pictures/choice", Duration::from_secs(5), Box::pin(make)).await
}

fn choose(runs: &[Run], grid: &Grid) -> Markup {
    let shown = |run: &Run| grid.runs.iter().any(|column| column.short == run.short);
    html! {
        details.choose open[grid.runs.is_empty()] {
            summary { "Runs: " (grid.runs.len()) " of " (runs.len()) " with pictures" }
            form action="/pictures" method="get" {
                div.choice {
                    @for run in runs {
                        label {
                            input type="checkbox" name="run" value=(run.short) checked[shown(run)];
                            span.cut { (run.name) } " " span.quiet.small.mono { (run.short) }
                        }
                    }
                }
                button.main type="submit" { "Show these" }
            }
        }
    }
}

/// Rows are inputs, columns runs.
fn table(asked: &Asked, grid: &Grid) -> Markup {
    let steps: Vec<String> = grid.steps.iter().map(ToString::to_string).collect();
    html! {
        div.unseen #steps data-steps=(steps.join(",")) data-step=[grid.step] role="status" {
            @if let Some(step) = grid.step { "Step " (step) }
        }
        @if grid.rows.is_empty() {
            (empty("These runs have no pictures: their configurations have no [train.preview], or its first step is still to come.", None))
        } @else {
            div.table.pictures {
                table {
                    thead { tr {
                        th scope="col" { "Input" }
                        @for run in &grid.runs { (head(grid, run)) }
                    } }
                    tbody { @for row in &grid.rows { (line(asked, grid, row)) } }
                }
            }
        }
    }
}

fn head(grid: &Grid, run: &Column) -> Markup {
    let late = run.step != grid.step;
    html! {
        th.run scope="col" data-key=(format!("run-{}", run.short)) {
            a href=(format!("/runs/{}", run.short)) { (run.name) }
            " " span.quiet.mono { (run.short) } " " (state(&run.state))
            @match run.step {
                Some(step) => {
                    div.step.late[late] {
                        "step " (count(step))
                        @if late { " (none at " (count(grid.step.unwrap_or(0))) ")" }
                    }
                }
                None => { div.step.late { "no pictures up to here" } }
            }
            @if !run.differs.is_empty() {
                dl.differs {
                    @for one in &run.differs {
                        dt title=(one.key) { (one.key) }
                        dd { @match &one.value { Some(value) => { (plain(value)) } None => { "–" } } }
                    }
                }
            }
        }
    }
}

/// A value without the quotes of a text.
fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn line(asked: &Asked, grid: &Grid, row: &Row) -> Markup {
    let given = row.cells.iter().flatten().next();
    html! {
        tr data-key=(format!("row-{}-{}-{}", row.task, row.nth, row.key)) {
            th.input scope="row" {
                div { (row.task) }
                div.quiet.small.key title=(row.key) { (row.key) @if row.nth > 0 { " (" (row.nth + 1) ")" } }
                @if let Some(given) = given { (parts(given)) }
            }
            @for (run, cell) in grid.runs.iter().zip(&row.cells) {
                td data-key=(format!("cell-{}", run.short)) { (self::cell(asked, run, row, cell.as_ref())) }
            }
        }
    }
}

/// What was given, and the photograph.
fn parts(cell: &Cell) -> Markup {
    html! {
        div.parts {
            @if let Some(source) = &cell.source { (small(&Shown::from(source), "source", "what the network is given")) }
            @if let Some(mask) = &cell.mask { (small(&Shown::from(mask), "mask", "mask: white is generated")) }
            @if let Some(reference) = &cell.reference { (small(&Shown::from(reference), "photograph", "the photograph")) }
        }
    }
}

fn cell(asked: &Asked, run: &Column, row: &Row, cell: Option<&Cell>) -> Markup {
    let Some((cell, output)) = cell.and_then(|cell| Some((cell, cell.outputs.first()?))) else {
        return html! { span.none.quiet { "–" } };
    };
    let under = match asked.under {
        Under::Source => &cell.source,
        Under::Reference => &cell.reference,
    };
    let step = run.step.unwrap_or(0);
    let alt = format!("{} of {} by {} at step {step}", row.task, row.key, run.name);
    let href =
        format!("/pictures/input?run={}&input={}&step={step}", escaped(&run.short), cell.input);
    view("view", &alt, &Shown::from(output), under.as_ref().map(Shown::from).as_ref(), Some(&href))
}
