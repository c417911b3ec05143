//! The pages of results.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, RawQuery, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use registry::Uuid;

use super::api::{self, Order, Pictures, Scored, StudyFacts};
use super::ranks::{self, BINS};
use super::tables::{self, Cell, Comparison, Number, Table, heading};
use crate::bars::{Series, histogram};
use crate::format::{ago, count, moment};
use crate::page::{Page, empty, fragment};
use crate::work::Long;
use crate::{Answer, Refusal, Room, Who, rows};

const STYLES: &[&str] = &["gallery.css"];
/// Scores whose histograms are drawn over one axis.
const TOGETHER: usize = 8;
/// For how long a page waits for the tables.
const PATIENCE: Duration = Duration::from_millis(1500);

pub async fn all(State(room): State<Arc<Room>>, who: Who) -> Answer<impl IntoResponse> {
    let body = html! {
        h2 { "The paper's tables" }
        div #tables data-live="/results/tables" data-on="tick" { (filled(&room).await) }
        h2 { "Everything that was scored" }
        div #scored data-live="/results/scored" data-on="tick" { (list(&room).await?) }
        h2 { "Human studies" }
        div #studies data-live="/results/studies" data-on="tick" { (progress(&room).await?) }
    };
    Ok(page("Results", &who, body))
}

fn page(title: &str, who: &Who, body: Markup) -> Response {
    Page { title, screen: "/results", who, scripts: &[], styles: STYLES, body }.into_response()
}

pub async fn tables(State(room): State<Arc<Room>>, _: Who) -> impl IntoResponse {
    fragment(filled(&room).await)
}

pub async fn scored(State(room): State<Arc<Room>>, _: Who) -> Answer<impl IntoResponse> {
    Ok(fragment(list(&room).await?))
}

pub async fn studies(State(room): State<Arc<Room>>, _: Who) -> Answer<impl IntoResponse> {
    Ok(fragment(progress(&room).await?))
}

async fn filled(room: &Arc<Room>) -> Markup {
    // Whoever cannot wait leaves it to go on.
    let own = Arc::clone(room);
    let filling = tokio::spawn(async move { tables::filled(&own).await });
    let Ok(Ok(filled)) = tokio::time::timeout(PATIENCE, filling).await else {
        return html! { p.quiet role="status" { "evaluator is filling the tables; they appear by themselves." } };
    };
    match filled {
        Err(refusal) => html! { p.note.bad { (refusal.why) } },
        Ok(None) => empty(
            "The tables need a profile: a file that says where this laboratory has what the tables name. Start the server with one.",
            Some("scheduler room --tables configs/evaluation --profile my-lab.toml"),
        ),
        Ok(Some(tables)) => html! {
            p.quiet { "A number with ± is from here; the other row is the paper's. ± is half of the 95 % interval. "
                b { "Best" } " marks the best of a block that was scored here, ≈ those whose intervals overlap with it: \
                the difference may be chance. Each number leads to its pictures." }
            @for one in tables.iter() { (table(one)) }
        },
    }
}

fn table(table: &Table) -> Markup {
    let blocks = table.lines.iter().any(|line| !line.block.is_empty());
    let columns: Vec<(&str, &str)> = table
        .groups
        .iter()
        .flat_map(|(group, scores)| {
            scores.iter().map(move |score| (group.as_str(), score.as_str()))
        })
        .collect();
    let wide = columns.len() + if blocks { 3 } else { 2 };
    let lacking: Vec<String> = table
        .lines
        .iter()
        .flat_map(|line| line.cells.iter().map(move |(group, cell)| (line, group, cell)))
        .filter_map(|(line, group, cell)| {
            let name: Vec<&str> = [&line.block, &line.system, group]
                .into_iter()
                .map(String::as_str)
                .filter(|part| !part.is_empty())
                .collect();
            Some(format!("{}: {}", name.join(", "), cell.lacks.as_ref()?))
        })
        .collect();
    html! {
        h3 id=(format!("table-{}", table.table)) { (table.title) }
        div.table { table.scores {
            thead {
                tr {
                    @if blocks { th scope="col" { "images" } }
                    th scope="col" { "system" } th scope="col" { "from" }
                    @for (group, score) in &columns {
                        th.number scope="col" { @if !group.is_empty() { (group) " " } (heading(score).0) }
                    }
                }
            }
            tbody {
                @for line in &table.lines {
                    @let here = line.cells.values().any(|cell| cell.here.is_some() || !cell.studied.is_empty());
                    @let paper = line.cells.values().any(|cell| !cell.paper.is_empty());
                    @if paper || !here {
                        tr {
                            @if blocks { td { (line.block) } }
                            td { (line.system) } td.quiet { "paper" }
                            @for (group, score) in &columns {
                                td.number {
                                    @match line.cells.get(*group).and_then(|cell| cell.paper.get(*score)) {
                                        Some(value) => { (value) }
                                        None => { span.quiet { "–" } }
                                    }
                                }
                            }
                        }
                    }
                    @if here {
                        tr.here {
                            @if blocks { td { (line.block) } }
                            td { (line.system) } td { "here" }
                            @for (group, score) in &columns {
                                (found(table, &line.block, &line.system, group, score, line.cells.get(*group)))
                            }
                        }
                    }
                }
                @if table.lines.is_empty() { tr { td colspan=(wide) { "This table has no rows." } } }
            }
        } }
        @if !lacking.is_empty() {
            details id=(format!("lacking-{}", table.table)) {
                summary { "What is not scored here (" (lacking.len()) ")" }
                ul { @for line in &lacking { li { (line) } } }
            }
        }
    }
}

/// A number of a table, which leads to its pictures.
fn found(
    table: &Table,
    block: &str,
    system: &str,
    group: &str,
    score: &str,
    cell: Option<&Cell>,
) -> Markup {
    let here = cell.and_then(|cell| cell.here.as_ref());
    let studied = cell.and_then(|cell| cell.studied.get(score));
    let value = studied.or_else(|| here.and_then(|here| here.numbers.get(score)));
    let Some(value) = value else { return html! { td.number { span.quiet { "–" } } } };
    let own = |one: &&Comparison| one.block == block && one.group == group && one.score == score;
    let compared = table.comparisons.iter().find(own);
    let best = compared.is_some_and(|one| one.best == system);
    let noise = compared.is_some_and(|one| one.within_noise.iter().any(|other| other == system));
    let text = told(value, heading(score).1);
    let evaluation = here.and_then(|here| here.evaluation.as_ref()).filter(|_| studied.is_none());
    html! {
        td class=(if best { "number best" } else { "number" }) title=[ends(value)] {
            @match evaluation {
                Some(id) => { a href=(format!("/results/scores/{id}")) { (text) } }
                None => { (text) }
            }
            @if best { span.unseen { " best" } }
            @if noise { " ≈" span.unseen { " within noise of the best" } }
        }
    }
}

/// `21.53 ± 0.42`.
fn told(number: &Number, digits: usize) -> String {
    let Some(value) = number.value else { return "not finite".into() };
    match number.low.zip(number.high).filter(|(low, high)| low != high) {
        Some((low, high)) => format!("{value:.digits$} ± {:.digits$}", (high - low) / 2.0),
        None => format!("{value:.digits$}"),
    }
}

fn ends(number: &Number) -> Option<String> {
    let (low, high) = number.low.zip(number.high).filter(|(low, high)| low != high)?;
    Some(format!("95 % interval: {low:.3} to {high:.3}"))
}

/// The scores that lists show, in this order, where any has them.
const SHOWN: [&str; 11] = [
    "psnr",
    "mean_absolute_error",
    "picture_psnr",
    "ssim",
    "ms_ssim",
    "fid",
    "perceptual",
    "lpips",
    "accuracy",
    "inception",
    "diversity_ms_ssim",
];

/// How scores are headed where those of whole pictures and of generated pixels stand side by side.
fn title(score: &str) -> &str {
    match score {
        "psnr" => "PSNR of made pixels ↑",
        "picture_psnr" => "PSNR of pictures ↑",
        other => heading(other).0,
    }
}

fn titled(one: &Scored) -> String {
    match (&one.run, one.step) {
        (Some(run), Some(step)) => format!("{run}@{step}"),
        (Some(run), None) => run.clone(),
        (None, _) => one.label.clone(),
    }
}

async fn list(room: &Room) -> Answer<Markup> {
    let all = api::listed(room).await?;
    if all.is_empty() {
        return Ok(empty(
            "Nothing was scored yet.",
            Some(
                "sampler submit --run RUN --dataset DATASET --task colorization --out outputs/colorization\n\
                  evaluator run --outputs outputs/colorization",
            ),
        ));
    }
    let columns: Vec<&str> = SHOWN
        .into_iter()
        .filter(|name| all.iter().any(|one| one.scores.contains_key(*name)))
        .collect();
    Ok(html! {
        form method="get" action="/results/histograms" {
            div.table { table.scores {
                thead { tr {
                    th scope="col" { span.unseen { "compare" } }
                    th scope="col" { "outputs of" } th scope="col" { "task" } th.number scope="col" { "outputs" }
                    @for name in &columns { th.number scope="col" { (title(name)) } }
                    th scope="col" { "scored" }
                } }
                tbody {
                    @for one in all.iter() {
                        tr id=(format!("scores-{}", one.id)) {
                            td { input type="checkbox" name="id" value=(one.id) data-keep="" id=(format!("choose-{}", one.id))
                                aria-label=(format!("compare {}", titled(one))); }
                            td {
                                a href=(format!("/results/scores/{}", one.id)) { (titled(one)) }
                                @if one.run.is_some() && !one.label.contains('@') { div.quiet.small { (one.label) } }
                            }
                            td.nowrap { (one.task.as_deref().unwrap_or("–")) }
                            td.number { (one.count.map_or("–".into(), |all| count(all.cast_signed()))) }
                            @for name in &columns {
                                td.number title=[one.scores.get(*name).and_then(ends)] {
                                    @match one.scores.get(*name) {
                                        Some(number) => { (told(number, heading(name).1)) }
                                        None => { span.quiet { "–" } }
                                    }
                                }
                            }
                            td.nowrap title=(moment(one.recorded_at)) { (ago(one.recorded_at)) }
                        }
                    }
                }
            } }
            p.row { button type="submit" { "Histograms of those marked" } span.quiet.small { "at most " (TOGETHER) ", over one axis" } }
        }
    })
}

pub async fn one(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<Uuid>,
    Query(order): Query<Order>,
) -> Answer<impl IntoResponse> {
    let scored = api::found(&room, id).await?;
    let task = scored.task.as_deref().unwrap_or_default();
    let title = format!("{} {task}", titled(&scored));
    let worst = order.order == "worst";
    let part = format!(
        "/results/scores/{id}/pictures?order={}&page={}",
        if worst { "worst" } else { "best" },
        order.page
    );
    let (rows, waits) = shown(&room, &scored, &order).await;
    let body = html! {
        p { a href="/results" { "All results" } }
        dl.facts {
            dt { "Label" } dd { (scored.label) }
            @if let Some(run) = &scored.run_id {
                dt { "Run" } dd { a href=(format!("/runs/{run}")) { (scored.run.as_deref().unwrap_or_default()) }
                    @if let Some(step) = scored.step { " at step " (count(step)) } }
            }
            dt { "Outputs" } dd { code { (scored.outputs) } }
            @if let Some(reference) = scored.reference.as_ref().filter(|one| **one != scored.outputs) {
                dt { "Compared with" } dd { code { (reference) } }
            }
            dt { "Scored" } dd { (moment(scored.recorded_at)) " UTC" }
        }
        div.table { table.scores {
            thead { tr { th scope="col" { "score" } th.number scope="col" { "value" } th scope="col" { "95 % interval" } } }
            tbody {
                @for (name, number) in &scored.scores {
                    tr {
                        td { (self::title(name)) } td.number { (told(number, heading(name).1)) }
                        td { @match ends(number) {
                            Some(_) => { (format!("{:.3} to {:.3}", number.low.unwrap_or_default(), number.high.unwrap_or_default())) }
                            None => { span.quiet { "none" } }
                        } }
                    }
                }
            }
        } }
        p.quiet.small { "An interval says where the score would lie with other inputs of the same kind, in 95 of 100 cases. None is \
            given of sums over all outputs, and for too few inputs." }
        @if let Some(bins) = &scored.likeness {
            div.charts { div.card {
                (histogram("likeness of outputs of one input (MS-SSIM)", &[Series { name: &title, counts: bins }], [0.0, 1.0], ""))
            } }
        }
        h2 #pictures { (if worst { "Worst pictures first" } else { "Best pictures first" }) }
        nav.row aria-label="Order" {
            a.button href=(format!("/results/scores/{id}?order=best#pictures")) aria-current=[(!worst).then_some("true")] { "Best first" }
            a.button href=(format!("/results/scores/{id}?order=worst#pictures")) aria-current=[worst.then_some("true")] { "Worst first" }
        }
        div #rows data-live=(part) data-on=(if waits { "tick" } else { "never" }) { (rows) }
    };
    Ok(page(&title, &who, body))
}

pub async fn pictures(
    State(room): State<Arc<Room>>,
    _: Who,
    Path(id): Path<Uuid>,
    Query(order): Query<Order>,
) -> Answer<impl IntoResponse> {
    let scored = api::found(&room, id).await?;
    Ok(fragment(shown(&room, &scored, &order).await.0))
}

/// The pictures, and whether their errors are still being computed.
async fn shown(room: &Room, scored: &Scored, order: &Order) -> (Markup, bool) {
    let ranks = api::ranked(room, scored, order).await;
    let waits = matches!(ranks, Ok(Err(_)));
    let markup = match ranks {
        Err(refusal) => html! { p.note.warn { (refusal.why) } },
        Ok(Err(computing)) => html! {
            p role="status" { "Comparing outputs with their references: " (count(computing.done.cast_signed())) " of "
                (count(computing.of.cast_signed())) ". The pictures appear by themselves." }
            progress max=(computing.of.max(1)) value=(computing.done) aria-label="outputs compared" {}
        },
        Ok(Ok(pictures)) => ranked(scored, order, &pictures),
    };
    (markup, waits)
}

fn ranked(scored: &Scored, order: &Order, pictures: &Pictures) -> Markup {
    let worst = order.order == "worst";
    let direction = if worst { "worst" } else { "best" };
    let address =
        |page: u64| format!("/results/scores/{}?order={direction}&page={page}#pictures", scored.id);
    let pages = html! {
        nav.row aria-label="Pages of pictures" {
            @if order.page > 0 { a.button rel="prev" href=(address(order.page - 1)) { "Previous" } }
            span.quiet { "page " (count(order.page.saturating_add(1).cast_signed())) " of " (count(pictures.pages.cast_signed()))
                ", " (count(pictures.inputs.cast_signed())) " inputs" }
            @if order.page.saturating_add(1) < pictures.pages { a.button rel="next" href=(address(order.page + 1)) { "Next" } }
        }
    };
    html! {
        @if pictures.inputs == 0 {
            (empty("The outputs hold nothing of this task.", None))
        } @else {
            div.charts { div.card {
                (histogram("PSNR of whole pictures", &[Series { name: "outputs", counts: &pictures.histogram }], [0.0, BINS as f64], "dB; the last bar holds all above"))
            } }
            @if pictures.cut { p.note.warn { "There are more inputs than are ranked here; the rest is left out." } }
            p.quiet.small { "By the mean PSNR of an input's outputs over whole pictures, computed from the stored outputs. Error: mean \
                absolute error over the pixels that were to be made, in levels of 0 to 255." }
            @if pictures.shown.is_empty() { p { "There is no such page." } }
            div.pairs {
                @for input in &pictures.shown {
                    article.pair {
                        h3 { (input.key) " " span.quiet.small { "PSNR " (format!("{:.2}", input.psnr)) " dB, error " (format!("{:.2}", input.error)) } }
                        @for (number, output) in input.outputs.iter().enumerate() {
                            @let first = number == 0;
                            div.strip {
                                @for (name, what) in [("source", "input"), ("mask", "mask"), ("output", "output"), ("reference", "reference")] {
                                    @if let Some(address) = output.pictures.get(name) {
                                        figure {
                                            a href=(address) { img loading="lazy" decoding="async" src=(address) alt=(format!("{what} of {}", input.key)); }
                                            figcaption {
                                                (what)
                                                @if name == "output" {
                                                    @if input.outputs.len() > 1 { " " (output.sample + 1) }
                                                    ": " (format!("{:.2} dB, {:.2}", output.psnr, output.error))
                                                }
                                                @if !first && name != "output" { span.unseen { " again" } }
                                            }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
            (pages)
        }
    }
}

/// Histograms of the scores that are marked, over one axis.
pub async fn histograms(
    State(room): State<Arc<Room>>,
    who: Who,
    RawQuery(query): RawQuery,
) -> Answer<impl IntoResponse> {
    let query = query.unwrap_or_default();
    let mut ids: Vec<Uuid> = Vec::new();
    for id in query.split('&').filter_map(|pair| pair.strip_prefix("id=")) {
        let id = id.parse().map_err(|_| Refusal::bad("an id in the address is none"))?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if ids.is_empty() || ids.len() > TOGETHER {
        return Err(Refusal::bad(format!("mark one to {TOGETHER} rows of /results")));
    }
    let mut all = Vec::new();
    for id in ids {
        all.push(api::found(&room, id).await?);
    }
    let (mut psnr, mut problems, mut waiting) = (Vec::new(), Vec::new(), false);
    for one in &all {
        let name = format!("{} {}", titled(one), one.task.as_deref().unwrap_or_default());
        let task = one.task.as_deref().unwrap_or("pictures");
        let ranks = match api::outputs(&room, one).await {
            Ok(dataset) => ranks::of(&room, &dataset, task).await,
            Err(refusal) => Err(refusal),
        };
        match ranks {
            Ok(Long::Done(ranks)) => psnr.push((name, ranks.histogram.clone())),
            Ok(Long::Running(..)) => waiting = true,
            Err(refusal) => problems.push(format!("{name}: {}", refusal.why)),
        }
    }
    let likeness: Vec<(String, &Vec<u64>)> = all
        .iter()
        .filter_map(|one| {
            Some((
                format!("{} {}", titled(one), one.task.as_deref().unwrap_or_default()),
                one.likeness.as_ref()?,
            ))
        })
        .collect();
    let drawn = |all: Vec<(&str, &[u64])>, label: &str, ends: [f64; 2], unit: &str| {
        let series: Vec<Series> =
            all.into_iter().map(|(name, counts)| Series { name, counts }).collect();
        html! { div.card { (histogram(label, &series, ends, unit)) } }
    };
    let body = html! {
        p { a href="/results" { "All results" } }
        p.quiet { "Shares of each system's own outputs, over one axis." }
        @if waiting { p.note role="status" { "Outputs are still being compared with their references; reload in a moment." } }
        @for problem in &problems { p.note.warn { (problem) } }
        div.charts {
            @if !psnr.is_empty() {
                (drawn(psnr.iter().map(|(name, counts)| (name.as_str(), counts.as_slice())).collect(),
                    "PSNR of whole pictures", [0.0, BINS as f64], "dB; the last bar holds all above"))
            }
            @if !likeness.is_empty() {
                (drawn(likeness.iter().map(|(name, counts)| (name.as_str(), counts.as_slice())).collect(),
                    "likeness of outputs of one input (MS-SSIM)", [0.0, 1.0], ""))
            }
        }
        h2 { "Scores" }
        div.table { table.scores {
            thead { tr { th scope="col" { "outputs of" } @for name in SHOWN { @if all.iter().any(|one| one.scores.contains_key(name)) { th.number scope="col" { (title(name)) } } } } }
            tbody { @for one in &all { tr {
                td { a href=(format!("/results/scores/{}", one.id)) { (titled(one)) " " (one.task.as_deref().unwrap_or_default()) } }
                @for name in SHOWN { @if all.iter().any(|one| one.scores.contains_key(name)) {
                    td.number { (one.scores.get(name).map_or("–".into(), |number| told(number, heading(name).1))) }
                } }
            } } }
        } }
    };
    Ok(page("Histograms", &who, body))
}

async fn progress(room: &Room) -> Answer<Markup> {
    let all = api::all_studies(room).await?;
    if all.is_empty() {
        return Ok(empty(
            "No human study was made yet.",
            Some(
                "evaluator study create colorization --system \"Palette=outputs/colorization\"\n\
                  evaluator study invite colorization --raters 200\n\
                  evaluator study serve colorization",
            ),
        ));
    }
    Ok(html! {
        div.table { table {
            thead { tr { th scope="col" { "study" } th scope="col" { "systems" } th.number scope="col" { "images" }
                th.number scope="col" { "raters" } th.number scope="col" { "answers" } th scope="col" { "made" } } }
            tbody { @for one in all.iter() { tr id=(format!("study-{}", one.name)) {
                td { a href=(format!("/results/studies/{}", one.name)) { (one.name) } div.quiet.small { (one.owner) } }
                td { (one.systems.join(", ")) }
                td.number { (count(one.images)) } td.number { (count(one.raters)) } td.number { (count(one.answers)) }
                td.nowrap title=(moment(one.created_at)) { (ago(one.created_at)) }
            } } }
        } }
    })
}

pub async fn study(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(name): Path<String>,
) -> Answer<impl IntoResponse> {
    let facts = api::study_facts(&room, &name).await?;
    let StudyFacts { study, raters, rates, problem } = &*facts;
    let finished = raters.iter().filter(|one| one.trials > 0 && one.answers == one.trials).count();
    let begun = raters.iter().filter(|one| one.started_at.is_some()).count();
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let body = html! {
        p { a href="/results" { "All results" } }
        div.figures {
            div.figure { b { (count(study.raters)) } "raters invited" }
            div.figure { b { (begun) } "began" }
            div.figure { b { (finished) } "finished" }
            div.figure { b { (count(study.answers)) } "answers" }
        }
        h2 { "Fool rates" }
        @if let Some(problem) = problem { p.note.warn { (problem) } }
        @else if rates.is_empty() { (empty("Nobody has answered yet. Raters open the links that an invitation printed.", Some(&format!("evaluator study serve {}", study.name)))) }
        @else {
            p.quiet { "Of the answers to pairs with a system's output, how many took the output for the photograph. 50 % is what guessing \
                gives. The interval is over raters, since the answers of one person depend on each other; Wilson's takes all answers for \
                independent." }
            div.table { table.scores {
                thead { tr { th scope="col" { "system" } th scope="col" { "set" } th scope="col" { "shown for" } th.number scope="col" { "fool rate" }
                    th scope="col" { "95 % interval" } th scope="col" { "Wilson's" } th.number scope="col" { "answers" } th.number scope="col" { "raters" } } }
                tbody { @for rate in rates { tr {
                    td { (rate.system) }
                    td { (rate.set.map_or("both".into(), |set| set.to_string())) }
                    td { (rate.seconds.map_or("any time".into(), |seconds| format!("{seconds} s"))) }
                    td.number { b { (percent(rate.fool_rate)) } }
                    td { @match rate.interval { Some([low, high]) => { (percent(low)) " to " (percent(high)) } None => { span.quiet { "too few raters" } } } }
                    td { (percent(rate.wilson[0])) " to " (percent(rate.wilson[1])) }
                    td.number { (rate.answers) } td.number { (rate.raters) }
                } } }
            } }
        }
        h2 { "Raters" }
        @if raters.is_empty() { (empty("Nobody is invited yet.", Some(&format!("evaluator study invite {} --raters 20", study.name)))) }
        @else {
            div.table { table {
                thead { tr { th scope="col" { "rater" } th scope="col" { "set" } th scope="col" { "shown for" } th scope="col" { "began" } th scope="col" { "answered" } } }
                tbody { @for rater in raters.iter().take(1000) { tr {
                    td { (rater.number + 1) } td { (rater.set) } td { (rater.seconds) " s" }
                    td { (rater.started_at.map_or("not yet".into(), ago)) }
                    td { progress max=(rater.trials.max(1)) value=(rater.answers) aria-label=(format!("rater {}", rater.number + 1)) {}
                        span.small.quiet { (rater.answers) " of " (rater.trials) } }
                } } }
            } }
            @if raters.len() > 1000 { p.quiet { "The first 1000 of " (raters.len()) "." } }
        }
    };
    Ok(page(&study.name, &who, body))
}

/// Which outputs a picture is of.
#[derive(serde::Deserialize)]
pub struct Wanted {
    /// The beginning of their digest.
    #[serde(default)]
    of: String,
}

pub async fn picture(
    State(room): State<Arc<Room>>,
    _: Who,
    Path((id, row, image)): Path<(Uuid, u64, String)>,
    Query(wanted): Query<Wanted>,
) -> Answer<Response> {
    let image = rows::column(&image)?;
    let scored = api::found(&room, id).await?;
    let dataset = api::outputs(&room, &scored).await?;
    if !wanted.of.is_empty() && !dataset.digest().starts_with(&wanted.of) {
        return Err(Refusal::conflict("these outputs were replaced since: reload the page"));
    }
    rows::image(&room, &dataset, row, image).await
}
