//! Pages of the outputs of sampling jobs.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::IntoResponse;
use maud::{Markup, html};
use outputs::OutputName;

use super::api::MOST_JOBS;
use super::{Opened, input as rows_of_input, job, names, open, psnr};
use crate::format::{count, moment, number as number_text};
use crate::page::{Page, empty, state};
use crate::screens::pictures::grid::{number, pairs};
use crate::screens::pictures::input::{ERROR, panel, score_text};
use crate::screens::pictures::view::{Shown, small, tools, view};
use crate::{Answer, Refusal, Room, Who};
use registry::Evaluation;

/// Rows of a page.
const PAGE: u64 = 48;

/// `GET /samples`: the jobs.
pub async fn list(State(room): State<Arc<Room>>, who: Who) -> Answer<impl IntoResponse> {
    let jobs = room.database.newest_sample_jobs(MOST_JOBS).await?;
    let body = html! {
        @if jobs.is_empty() {
            (empty("No sampling job was submitted yet.", Some("sampler submit --run RUN --dataset DATASET --task TASK --out FOLDER")))
        } @else {
            div.table { table {
                thead { tr { th { "Job" } th { "State" } th { "Tasks" } th { "Run" } th.number { "Chunks" } th { "Outputs" } } }
                tbody { @for job in &jobs {
                    tr {
                        td { a href=(format!("/samples/{}", job.short)) { (job.name) } " " span.quiet.small.mono { (job.short) } }
                        td { (state(job.state.name())) }
                        td { (job.task) }
                        td { @match (job.run_id, job.step) {
                            (Some(run), Some(step)) => { a href=(format!("/runs/{}", registry::short(&run))) { (registry::short(&run)) } "@" (step) }
                            (Some(run), None) => { a href=(format!("/runs/{}", registry::short(&run))) { (registry::short(&run)) } }
                            _ => { "–" }
                        } }
                        td.number {
                            @if job.chunks.total == 0 { "–" } @else { (job.chunks.done) " of " (job.chunks.total) }
                        }
                        td.small.mono { (secrets::address(&job.output_uri)) }
                    }
                } }
            } }
        }
    };
    Ok(page_of("Outputs of sampling jobs", &who, body))
}

/// `GET /samples/JOB?first=ROW`: some of its outputs.
pub async fn page(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<impl IntoResponse> {
    let mut first = 0;
    for (name, value) in pairs(query.as_deref()) {
        if name == "first" && !value.is_empty() {
            first = number(&value, "first")?.cast_unsigned();
        }
    }
    let opened = match open(&room, &name).await {
        Ok(opened) => opened,
        Err(refusal) => {
            let job = job(&room, &name).await?;
            if job.state.is_final() {
                return Err(refusal);
            }
            let body = html! {
                p.row { span.mono.quiet { (job.short) } (state(job.state.name())) span { (job.task) } }
                (empty(&super::unfinished(&job), None))
            };
            return Ok(page_of(&format!("Outputs of {}", job.name), &who, body));
        }
    };
    let scores = scores(&room, &opened).await?;
    let all = opened.dataset.len();
    let found = names(&opened, first..first.saturating_add(PAGE)).await?;
    // A last input that goes on behind the page comes on the next.
    let whole = match first + (found.len() as u64) < all {
        true => whole(&found),
        false => found.len(),
    };
    let inputs = inputs(first, &found[..whole]);
    let next = first + whole as u64;
    let samples = inputs.iter().map(|input| input.rows.len()).max().unwrap_or(0);
    let body = html! {
        (about(&opened))
        @if !scores.is_empty() { (score_table(&scores)) }
        (tools(true))
        form.row action=(format!("/samples/{}", opened.job.short)) method="get" {
            (pager(&opened, first, next, all))
            label { "From row" input.number type="number" name="first" min="0" max=(all.saturating_sub(1)) value=(first); }
            button type="submit" { "Go" }
        }
        @if inputs.is_empty() {
            (empty("There are no outputs here.", None))
        } @else {
            div.grid #grid { div.table.pictures { table {
                thead { tr {
                    th scope="col" { "Input" }
                    @for sample in 0..samples { th scope="col" { "Sample " (sample) } }
                } }
                tbody { @for input in &inputs { (line(&opened, input, samples)) } }
            } } }
            p.row { (pager(&opened, first, next, all)) }
        }
    };
    let title = format!("Outputs of {}", opened.job.name);
    Ok(page_of(&title, &who, body))
}

/// `GET /samples/JOB/ROW`: all samples of the input that a row is of.
pub async fn input(
    State(room): State<Arc<Room>>,
    who: Who,
    Path((name, row)): Path<(String, String)>,
) -> Answer<impl IntoResponse> {
    let row = number(&row, "the row")?.cast_unsigned();
    let opened = open(&room, &name).await?;
    let (rows, names) = rows_of_input(&opened, row).await?;
    let Some(first) = names.first() else { return Err(Refusal::missing("there is no such row")) };
    let mut scores = Vec::new();
    for row in rows.clone() {
        scores.push(psnr(&room, &opened, row).await.ok().filter(|psnr| psnr.is_finite()));
    }
    let shown = |row: u64, column: &str| self::shown(&opened, row, column);
    let source = shown(rows.start, "source");
    let body = html! {
        p.row {
            a href=(format!("/samples/{}?first={}", opened.job.short, rows.start)) { "Back to " (opened.job.name) }
            span.quiet { "rows " (rows.start) " to " (rows.end - 1) }
            @if rows.start > 0 { a.button #earlier rel="prev" href=(format!("/samples/{}/{}", opened.job.short, rows.start - 1)) { "◀ Input before" } }
            @if rows.end < opened.dataset.len() { a.button #later rel="next" href=(format!("/samples/{}/{}", opened.job.short, rows.end)) { "Next input ▶" } }
        }
        (tools(true))
        div.panels {
            (panel("Given", "what the network was given", view("source", "what the network was given", &source, None, None)))
            (panel("Mask", "white where the network generates", view("mask", "mask", &shown(rows.start, "mask"), None, None)))
            (panel("Photograph", "", view("reference", "the photograph", &shown(rows.start, "reference"), None, None)))
        }
        div.panels {
            @for ((row, name), psnr) in rows.clone().zip(&names).zip(&scores) {
                @let label = format!("Sample {}", name.sample);
                (panel(&label, &score_text(*psnr), view(&format!("output-{row}"), &label, &shown(row, "output"), Some(&source), None)))
                (panel("Error", ERROR, view(&format!("error-{row}"), "difference from the photograph", &shown(row, "error"), None, None)))
            }
        }
    };
    Ok(page_of(&format!("{} of {}", first.task, first.key), &who, body))
}

/// Rows of one key and task that follow one another.
struct Input<'a> {
    rows: Vec<(u64, &'a OutputName)>,
}

fn inputs(first: u64, names: &[OutputName]) -> Vec<Input<'_>> {
    let same = |a: &OutputName, b: &OutputName| a.key == b.key && a.task == b.task;
    let mut row = first;
    let mut inputs = Vec::new();
    for of_one in names.chunk_by(same) {
        inputs.push(Input { rows: (row..).zip(of_one).collect() });
        row += of_one.len() as u64;
    }
    inputs
}

/// Rows without those of the last input, where there are others.
fn whole(names: &[OutputName]) -> usize {
    let Some(last) = names.last() else { return 0 };
    let of_last =
        names.iter().rev().take_while(|one| one.key == last.key && one.task == last.task).count();
    match names.len() - of_last {
        0 => names.len(),
        whole => whole,
    }
}

fn shown(opened: &Opened, row: u64, column: &str) -> Shown {
    Shown {
        url: opened.address(row, column, false),
        small: opened.address(row, column, true),
        size: None,
    }
}

fn about(opened: &Opened) -> Markup {
    let job = &opened.job;
    html! {
        p.row {
            span.mono.quiet { (job.short) } (state(job.state.name()))
            span { (job.task) }
            @if let Some(run) = job.run_id {
                span { "by " a href=(format!("/runs/{}", registry::short(&run))) { (registry::short(&run)) } @if let Some(step) = job.step { " at step " (count(step)) } }
            }
            span.quiet { (count(opened.dataset.len().cast_signed())) " outputs in " span.mono { (secrets::address(&job.output_uri)) } }
        }
    }
}

/// What was scored of these outputs.
async fn scores(room: &Room, opened: &Opened) -> Answer<Vec<Evaluation>> {
    let Some(run) = opened.job.run_id else { return Ok(Vec::new()) };
    let mut all = room.database.evaluations(run).await?;
    all.retain(|one| one.outputs_uri == opened.job.output_uri);
    Ok(all)
}

fn score_table(scores: &[Evaluation]) -> Markup {
    html! {
        details {
            summary { "Scores of these outputs: " (scores.len()) }
            div.table { table {
                thead { tr { th { "Task" } th { "Scores" } th { "Scored" } } }
                tbody { @for one in scores {
                    tr {
                        td { (one.task.as_deref().unwrap_or("all")) }
                        td { @for (name, value) in one.scores.as_object().into_iter().flatten() {
                            span.tag { (name) " " (value.as_f64().map_or_else(|| value.to_string(), number_text)) } " "
                        } }
                        td.nowrap { (moment(one.created_at)) }
                    }
                } }
            } }
        }
    }
}

fn pager(opened: &Opened, first: u64, next: u64, all: u64) -> Markup {
    let at = |row: u64| format!("/samples/{}?first={row}", opened.job.short);
    html! {
        @if first > 0 { a.button #earlier rel="prev" href=(at(first.saturating_sub(PAGE))) { "◀ Before" } }
        @if next < all { a.button #later rel="next" href=(at(next)) { "Next ▶" } }
        span.quiet { "rows " (first) " to " (next.saturating_sub(1)) " of " (all) }
    }
}

fn line(opened: &Opened, input: &Input, samples: usize) -> Markup {
    let Some((first, name)) = input.rows.first() else { return html! {} };
    let source = shown(opened, *first, "source");
    html! {
        tr {
            th.input scope="row" {
                div { (name.task) }
                div.quiet.small.key title=(name.key) { (name.key) }
                div.parts {
                    (small(&source, "source", "what the network is given"))
                    (small(&shown(opened, *first, "mask"), "mask", "mask: white is generated"))
                    (small(&shown(opened, *first, "reference"), "photograph", "the photograph"))
                }
            }
            @for (row, name) in &input.rows {
                td {
                    @let alt = format!("sample {} of {}", name.sample, name.key);
                    (view("view", &alt, &shown(opened, *row, "output"), Some(&source), Some(&format!("/samples/{}/{row}", opened.job.short))))
                    span.quiet.small.score data-score=(format!("/api/v1/samples/{}/{row}", opened.job.short)) {}
                }
            }
            @for _ in input.rows.len()..samples { td { span.none.quiet { "–" } } }
        }
    }
}

fn page_of(title: &str, who: &Who, body: Markup) -> axum::response::Response {
    let page = Page {
        title,
        screen: "/pictures",
        who,
        scripts: &["pictures.js"],
        styles: &["pictures.css"],
        body,
    };
    page.into_response()
}
