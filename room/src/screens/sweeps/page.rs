//! The pages of sweeps, and what is asked of one.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};
use registry::{Kind, Several, Sweep};
use serde::Deserialize;

use super::plot;
use super::story::{self, By, SweepRow, SweepStory, Which};
use crate::format::{ago, moment};
use crate::page::{Page, csrf_input, empty, fragment, state};
use crate::screens::runs::plain;
use crate::screens::runs::view::encoded;
use crate::{Answer, Refusal, Role, Room, Who};

/// `GET /sweeps`.
pub async fn list(
    State(room): State<Arc<Room>>,
    who: Who,
    Query(which): Query<Which>,
) -> Answer<impl IntoResponse> {
    let sweeps = story::all(&room, which.archived).await?;
    let address = format!("/parts/sweeps?archived={}", which.archived);
    let body = html! {
        div #sweeps data-live=(address) { (rows(&sweeps, which.archived)) }
        p.quiet { @if which.archived { a href="/sweeps" { "Back to those that are not archived" } }
            @else { a href="/sweeps?archived=true" { "Archived sweeps" } } }
    };
    let page = Page {
        title: "Sweeps",
        screen: "/sweeps",
        who: &who,
        scripts: &[],
        styles: &["sweeps.css"],
        body,
    };
    Ok(page.into_response())
}

/// `GET /parts/sweeps`.
pub async fn list_part(
    State(room): State<Arc<Room>>,
    Query(which): Query<Which>,
) -> Answer<impl IntoResponse> {
    Ok(fragment(rows(&story::all(&room, which.archived).await?, which.archived)))
}

fn rows(sweeps: &[SweepRow], archived: bool) -> Markup {
    if sweeps.is_empty() && archived {
        return empty("No sweep is archived.", Some("scheduler archive SWEEP"));
    }
    if sweeps.is_empty() {
        return empty(
            "No sweeps yet. A sweep is many runs that are submitted as one, at different values of a key, or with different seeds.",
            Some(
                "trainer submit configs/small/colorization.toml --sweep train.learning_rate=1e-4,2e-4 --seeds 3",
            ),
        );
    }
    html! {
        div.table tabindex="0" role="region" aria-label="Sweeps" { table {
            thead { tr { th scope="col" { "Name" } th scope="col" { "Progress" } th scope="col" { "States" }
                th.number scope="col" { "At once" } th scope="col" { "Owner" } th scope="col" { "Submitted" } } }
            tbody { @for sweep in sweeps { tr data-key=(sweep.id) {
                td { a href=(format!("/sweeps/{}", sweep.short)) { bdi { (sweep.name) } } div.mono.quiet.small { (sweep.short) }
                    @if let Some(note) = &sweep.note { div.quiet.small.cut.note-line title=(note) { bdi { (note) } } } }
                td.progress { (progress(sweep)) }
                td { (states(sweep)) }
                td.number { @match sweep.at_most { Some(limit) => (limit), None => span.quiet { "all" } } }
                td.cut { bdi { (sweep.owner) } }
                td.nowrap title=(moment(sweep.created_at)) { (ago(sweep.created_at)) }
            } } }
        } }
    }
}

fn progress(sweep: &SweepRow) -> Markup {
    html! {
        progress max=(sweep.jobs.max(1)) value=(sweep.ended()) aria-label=(format!("{} of {} runs have ended", sweep.ended(), sweep.jobs)) {}
        span.quiet.small { (sweep.ended()) " of " (sweep.jobs) " ended" }
    }
}

fn states(sweep: &SweepRow) -> Markup {
    html! { @for (name, count) in &sweep.states { span.nowrap { (state(name)) " " span.quiet { "×" (count) } " " } } }
}

/// `GET /sweeps/ID`.
pub async fn page(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<String>,
    Query(by): Query<By>,
) -> Answer<impl IntoResponse> {
    let story = story::read(&room, &id, &by).await?;
    let sweep = &story.sweep;
    let runs: Vec<&str> = story.runs.iter().map(|run| run.short.as_str()).take(100).collect();
    let best: Vec<&str> =
        story.rows.iter().filter_map(|row| row.jobs.first().map(String::as_str)).take(6).collect();
    let part = format!("/parts/sweeps/{}?by={}", sweep.id, encoded(&story.by));
    let open = sweep.jobs > sweep.ended();
    let body = html! {
        p { span.mono { (sweep.short) } " of " bdi { (sweep.owner) } ", submitted " span title=(moment(sweep.created_at)) { (ago(sweep.created_at)) }
            @if sweep.archived { " " span.tag { "archived" } } }
        @if let Some(note) = &sweep.note { p.note { bdi { (note) } } }
        div.row.actions {
            a.button href=(format!("/runs?sweep={}", sweep.id)) { "Its runs" }
            a.button href=(format!("/curves?runs={}", runs.join(","))) { "Curves" }
            a.button href=(format!("/pictures?runs={}", best.join(","))) { "Pictures of the best" }
            a.button href=(format!("/compare?runs={}", best.join(","))) { "Compare the best" }
            @if who.role >= Role::User {
                a.button href=(format!("/sweeps/{}/again", sweep.short)) { "Again with changes" }
                @if open {
                    form.row method="post" action=(format!("/sweeps/{}/limit", sweep.short)) {
                        (csrf_input(&who))
                        label { "At once" input type="number" name="at_most" min="0" max="10000" size="5"
                            value=(sweep.at_most.map(|limit| limit.to_string()).unwrap_or_default()) placeholder="all"; }
                        button { "Change" }
                    }
                    form method="post" action=(format!("/sweeps/{}/cancel", sweep.short)) {
                        (csrf_input(&who))
                        button.danger data-confirm=(format!("Cancel all runs of {} that have not ended?", sweep.name)) { "Cancel the rest" }
                    }
                }
            }
        }
        form.row method="get" data-submit {
            label { "Compared by" select name="by" {
                @for metric in &story.metrics { option value=(metric) selected[*metric == story.by] { (metric) } }
                @if story.metrics.is_empty() { option value="" { (story.by) } }
            } }
            noscript { button { "Show" } }
        }
        div #sweep data-live=(part) { (content(&story)) }
    };
    let title = format!("Sweep {}", sweep.name);
    let page = Page {
        title: &title,
        screen: "/sweeps",
        who: &who,
        scripts: &[],
        styles: &["sweeps.css"],
        body,
    };
    Ok(page.into_response())
}

/// `GET /parts/sweeps/ID`.
pub async fn part(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    Query(by): Query<By>,
) -> Answer<impl IntoResponse> {
    Ok(fragment(content(&*story::read(&room, &id, &by).await?)))
}

fn content(story: &SweepStory) -> Markup {
    let failed: Vec<_> = story.runs.iter().filter(|run| run.state == "failed").collect();
    let all_failed = !failed.is_empty() && failed.len() == story.runs.len();
    let seeds = story.rows.iter().any(|row| row.jobs.len() > 1);
    html! {
        div.head { div { (progress(&story.sweep)) } div { (states(&story.sweep)) } }
        @if all_failed { p.note.bad { "All of its runs have failed; the first one: " bdi { (failed[0].reason.as_deref().unwrap_or("no reason is known")) } } }
        p.quiet { (story.explained) "." @if !story.lower_is_better { " Whether less of it is better is not known, so that none is marked as the best." } }
        (plot::scatters(story))
        (plot::parallel(story))
        h2 { "Points" }
        div.table tabindex="0" role="region" aria-label="Points" { table {
            thead { tr {
                @for key in &story.keys { th scope="col" { bdi { (key) } } }
                th.number scope="col" { (story.by) } th scope="col" { "State" } th scope="col" { "Step" }
                @if seeds { th.number scope="col" { "Seeds" } }
                th scope="col" { "Runs" }
            } }
            tbody { @for row in &story.rows { tr {
                @for key in &story.keys { td.mono { @match row.point.get(key) { Some(value) => bdi { (plain(value)) }, None => span.quiet { "–" } } } }
                td.number.best[row.best] { (row.value) @if row.best { " " span.tag { "best" } } }
                td { @if row.states.contains(' ') { (row.states) } @else { (state(&row.states)) } }
                td.nowrap { (row.steps) }
                @if seeds { td.number { (row.jobs.len()) } }
                td.mono { @for job in &row.jobs { a href=(format!("/runs/{job}")) { (job) } " " } }
            } } }
        } }
        @if !failed.is_empty() {
            h2 { "Failed" }
            @for run in failed.iter().take(50) { p.note.bad { a.mono href=(format!("/runs/{}", run.short)) { (run.short) } ": "
                bdi { (run.reason.as_deref().unwrap_or("no reason is known")) } } }
            @if failed.len() > 50 { p.quiet { (failed.len() - 50) " more" } }
        }
    }
}

/// How many may run at once.
#[derive(Deserialize)]
pub struct Limit {
    #[serde(default)]
    at_most: String,
}

/// `POST /sweeps/ID/limit`.
pub async fn limit(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<String>,
    Form(limit): Form<Limit>,
) -> Answer<impl IntoResponse> {
    who.demand(Role::User)?;
    let sweep = one(&room, &id).await?;
    let limit = match limit.at_most.trim() {
        "" | "0" => None,
        text => {
            let number = text.parse().ok().filter(|number| (1..=10_000).contains(number));
            Some(number.ok_or_else(|| {
                Refusal::bad("how many may run at once is a number from 1 to 10000; empty for all")
            })?)
        }
    };
    room.database.limit_sweep(sweep.id, limit).await?;
    changed(&room);
    Ok(Redirect::to(&format!("/sweeps/{}", sweep.short)))
}

/// `POST /sweeps/ID/cancel`.
pub async fn cancel(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<String>,
) -> Answer<impl IntoResponse> {
    who.demand(Role::User)?;
    let sweep = one(&room, &id).await?;
    for job in room.database.sweep_jobs(sweep.id).await? {
        if job.state.is_final() {
            continue;
        }
        match room.database.cancel(job.id).await {
            Ok(_) => {}
            Err(error) if error.is_outage() => return Err(error.into()),
            // It has ended meanwhile.
            Err(error) => tracing::debug!("job {}: {error}", job.short),
        }
    }
    changed(&room);
    Ok(Redirect::to(&format!("/sweeps/{}", sweep.short)))
}

/// The sweep that is to be changed: named by one name alone.
pub async fn one(room: &Room, id: &str) -> Answer<Sweep> {
    let target = room.database.find_among(id, &[Kind::Sweep], Several::Refuse).await?;
    Ok(room.database.sweep(target.id).await?)
}

/// What is kept is forgotten, and all pages look again.
pub fn changed(room: &Room) {
    room.shared.forget("sweeps/");
    room.shared.forget("runs/");
    room.live.tell("jobs");
}
