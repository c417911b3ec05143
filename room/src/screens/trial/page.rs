//! The page where a picture is given and painted, and the page of a try.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Form, Path, Query, State};
use axum::response::{Html, IntoResponse, Redirect};
use maud::{Markup, html};
use pipeline::Task;
use registry::{Job, JobState, RunFilter, TRY_PROCESSES, Try, TryPart, TryPicture, TryState, Uuid};
use serde::Deserialize;

use super::api::{self, address};
use super::service::Standing;
use crate::access::Role;
use crate::format::{ago, bytes, span};
use crate::page::{Page, csrf_input, empty, fragment};
use crate::{Answer, Refusal, Room, Who};

/// Tries on the page.
const SHOWN: i64 = 24;
/// Runs that are offered.
const RUNS: i64 = 200;
/// How long lists are good enough for other pages.
const AGE: Duration = Duration::from_millis(500);
/// How long the list of runs is.
const RUNS_AGE: Duration = Duration::from_secs(5);

/// With what the page begins.
#[derive(Deserialize)]
pub struct Begin {
    /// The picture and the values of this try.
    of: Option<Uuid>,
    /// These weights.
    weights: Option<String>,
}

/// A run that has weights.
struct Offer {
    name: String,
    tasks: Vec<String>,
}

/// `GET /try`.
pub async fn start(
    State(room): State<Arc<Room>>,
    who: Who,
    Query(begin): Query<Begin>,
) -> Answer<impl IntoResponse> {
    let earlier = match begin.of {
        Some(id) => Some(api::found(&room, id).await?),
        None => None,
    };
    let offers = offers(&room).await?;
    let earlier = earlier.as_deref();
    let weights = begin.weights.or_else(|| earlier.map(|(row, _)| row.weights.clone()));
    let body = html! {
        p.quiet { "Give a picture to a trained network, and see what it makes of it. JPEG, PNG or WebP, 8 MiB at most." }
        @if who.role < Role::User {
            p.note.warn { "You may look at what others tried. To try a picture yourself you need the token of a user." }
        } @else if offers.is_empty() && weights.is_none() {
            (empty("No run has a checkpoint yet. Once one is there, its weights can be tried here. Train one:",
                Some("trainer submit configs/small/colorization.toml")))
        } @else {
            (editor(earlier, &offers, weights.as_deref()))
        }
        h2 { "Tried before" }
        div #tries data-live="/try/parts/list" data-on="tries" { (recent(&room).await?) }
    };
    let page = Page {
        title: "Try",
        screen: "/try",
        who: &who,
        scripts: &["try.js"],
        styles: &["try.css"],
        body,
    };
    Ok(page.into_response())
}

async fn offers(room: &Room) -> Answer<Arc<Vec<Offer>>> {
    let made = async {
        let filter = RunFilter { limit: Some(RUNS), ..RunFilter::default() };
        let runs = room.database.runs(filter).await?;
        let mut names = std::collections::HashSet::new();
        let offers = runs
            .into_iter()
            .filter(|run| run.last_step > 0)
            .filter(|run| names.insert(run.name.clone()));
        Ok(offers
            .map(|run| {
                let tasks = run.config.pointer("/data/tasks").and_then(|tasks| tasks.as_object());
                let tasks = tasks.map(|tasks| {
                    let trained =
                        tasks.iter().filter(|(_, share)| share.as_f64().unwrap_or(0.0) > 0.0);
                    trained.map(|(task, _)| task.clone()).collect()
                });
                Offer { name: run.name, tasks: tasks.unwrap_or_default() }
            })
            .collect::<Vec<_>>())
    };
    room.shared.get("runs/try", RUNS_AGE, made).await
}

fn editor(
    earlier: Option<&(Try, Vec<TryPicture>)>,
    offers: &[Offer],
    weights: Option<&str>,
) -> Markup {
    let row = earlier.map(|(row, _)| row);
    let picture = |what: TryPart| {
        earlier
            .and_then(|(_, all)| all.iter().find(|one| one.what == what))
            .map(|one| address(&one.digest))
    };
    let newest = offers.first().map(|offer| format!("{}@best", offer.name));
    let weights = weights.map(str::to_owned).or(newest).unwrap_or_default();
    let task = row.map_or("inpainting", |row| &row.task);
    let first = offers.iter().find(|offer| weights.split('@').next() == Some(&offer.name));
    // A task that these weights were trained for.
    let task = match first {
        Some(offer)
            if row.is_none()
                && !offer.tasks.is_empty()
                && !offer.tasks.iter().any(|known| known == task) =>
        {
            &offer.tasks[0]
        }
        _ => task,
    };
    let size = row.map_or("square", |row| &row.framing);
    html! {
        noscript { p.note.warn { "Painting a mask needs scripts. Without them: " code { "sampler run --help" } "." } }
        form.try #try data-of=[row.map(|row| row.id)] data-picture=[picture(TryPart::Input)]
            data-mask=[picture(TryPart::Mask)] data-name=[row.map(|row| &row.name)] {
            section.paint aria-label="Picture" {
                label.drop #drop {
                    span { b { "Drop a picture here" } ", paste one, or choose a file" }
                    input #file type="file" accept="image/jpeg,image/png,image/webp";
                }
                div.tools #tools role="toolbar" aria-label="Mask" hidden {
                    span.group role="radiogroup" aria-label="Tool" {
                        label { input type="radio" name="tool" value="brush" checked; "Brush" }
                        label { input type="radio" name="tool" value="erase"; "Eraser" }
                        label { input type="radio" name="tool" value="box"; "Box" }
                    }
                    label { "Width" input #width type="range" min="1" max="100" value="25" aria-label="Width of the brush"; }
                    button type="button" #undo { "Undo" }
                    button type="button" #invert { "Invert" }
                    button type="button" #clear { "Clear" }
                }
                div.stage #stage hidden {
                    canvas #canvas aria-label="The picture with its mask: what is tinted will be made" {}
                }
                p.small.quiet #about role="status" {}
                details.numbers #numbers hidden {
                    summary { "Mask by numbers, or from a file" }
                    div.row {
                        @for (name, text, value) in [("left", "Left", 25), ("top", "Top", 25), ("wide", "Width", 50), ("high", "Height", 50)] {
                            label.above { (text) " %" input type="number" #(format!("box-{name}")) min="0" max="100" value=(value) step="any" inputmode="decimal"; }
                        }
                        button type="button" #box-mark { "Mark the box" }
                        button type="button" #box-free { "Free the box" }
                    }
                    label.above { "Mask file, white where pixels are to be made" input #mask type="file" accept="image/png,image/webp,image/jpeg"; }
                }
            }
            section.options aria-label="How it is made" {
                label.above { "Weights"
                    input #weights name="weights" required list="offers" value=(weights) autocomplete="off" spellcheck="false" maxlength="500" aria-describedby="weights-help";
                }
                p.small.quiet #weights-help { "A run with @best, @latest or @STEP; or the place of imported weights." }
                datalist #offers {
                    @for offer in offers {
                        option value=(format!("{}@best", offer.name)) data-tasks=(offer.tasks.join(" ")) {}
                    }
                }
                label.above { "Task"
                    select name="task" {
                        @for known in Task::ALL {
                            option value=(known.name()) data-hole=[known.has_hole().then_some("1")] selected[known.name() == task] { (known.name()) }
                        }
                    }
                }
                p.note.warn.small #untrained hidden {
                    "These weights were not trained for this task. "
                    label { input type="checkbox" name="any_task" checked[row.is_some_and(|row| row.any_task)]; "Try it all the same" }
                }
                label.above { "Samples"
                    input type="number" name="samples" min="1" max="16" required value=(row.map_or(2, |row| row.samples));
                }
                label.above { "Size"
                    select name="size" {
                        @for (value, text) in [("square", "Middle square, at the network's size"), ("short-side", "Shorter side, in pixels"), ("own", "The picture's own (large ones take long)")] {
                            option value=(value) selected[value == size] { (text) }
                        }
                    }
                }
                label.above #short-side hidden[size != "short-side"] { "Shorter side"
                    input type="number" name="short_side" min="8" max="2048" value=(row.and_then(|row| row.short_side).unwrap_or(256));
                }
                details open[row.is_some_and(|row| row.process != TRY_PROCESSES[0] || row.steps.is_some())] {
                    summary { "Reverse process and seed" }
                    label.above { "Process"
                        select name="process" {
                            @for process in TRY_PROCESSES {
                                option value=(process) selected[row.is_some_and(|row| row.process == process)] { (process) }
                            }
                        }
                    }
                    label.above { "Steps"
                        input type="number" name="steps" min="1" max="2000" placeholder="as the process says" value=[row.and_then(|row| row.steps)];
                    }
                    label.above { "η (noise of ddim)"
                        input type="number" name="eta" min="0" max="1" step="any" value=(row.map_or(0.0, |row| row.eta));
                    }
                    label.above { "Seed"
                        input type="number" name="seed" min="0" max="9007199254740991" required value=(row.map_or(0, |row| row.seed));
                    }
                }
                p.note.bad #wrong role="alert" hidden {}
                button.main type="submit" { "Try it" }
            }
        }
    }
}

/// `GET /try/parts/list`.
pub async fn list_part(State(room): State<Arc<Room>>, _who: Who) -> Answer<Html<String>> {
    Ok(fragment(recent(&room).await?))
}

async fn recent(room: &Room) -> Answer<Markup> {
    let made = async {
        let rows = room.database.tries(None, None, SHOWN).await?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let pictures: HashMap<Uuid, TryPicture> =
            room.database.try_thumbnails(&ids).await?.into_iter().collect();
        Ok(html! {
            @if rows.is_empty() {
                (empty("Nothing was tried yet. What you try is listed here, and goes by and by unless you keep it.", None))
            } @else {
                div.cards.tried {
                    @for row in &rows { (card(row, pictures.get(&row.id))) }
                }
            }
        })
    };
    let made = room.shared.get("try/list", AGE, made).await?;
    Ok((*made).clone())
}

fn card(row: &Try, picture: Option<&TryPicture>) -> Markup {
    html! {
        a.card.tried href=(format!("/try/{}", row.id)) data-key=(row.id) {
            span.thumb {
                @if let Some(picture) = picture {
                    img class=[small(picture)] src=(address(&picture.digest)) alt="" loading="lazy" width=(picture.width) height=(picture.height);
                }
            }
            span.text {
                b.cut { (row.name) }
                span.cut { (row.task) " · " (row.weights) }
                span.quiet.small { (mark(row)) " " (row.owner) ", " (ago(row.created_at)) @if row.kept { " · kept" } }
            }
        }
    }
}

/// Small pictures are shown pixel by pixel.
fn small(picture: &TryPicture) -> Option<&'static str> {
    (picture.width.max(picture.height) < 200).then_some("pixelated")
}

fn mark(row: &Try) -> Markup {
    let class = match row.state {
        TryState::Waiting => "queued",
        TryState::Done => "succeeded",
        other => other.name(),
    };
    html! { span class=(format!("state state-{class}")) { (row.state.name()) } }
}

/// `GET /try/ID`.
pub async fn one(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<Uuid>,
) -> Answer<impl IntoResponse> {
    let found = api::found(&room, id).await?;
    let body = html! {
        div #part data-live=(format!("/try/parts/{id}")) data-on="tries tick" { (shown(&room, &found.0, &found.1, &who).await?) }
    };
    let title = format!("Try: {}", found.0.name);
    let page = Page {
        title: &title,
        screen: "/try",
        who: &who,
        scripts: &["try.js"],
        styles: &["try.css"],
        body,
    };
    Ok(page.into_response())
}

/// `GET /try/parts/ID`.
pub async fn part(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<Uuid>,
) -> Answer<Html<String>> {
    let found = api::found(&room, id).await?;
    Ok(fragment(shown(&room, &found.0, &found.1, &who).await?))
}

async fn shown(room: &Room, row: &Try, pictures: &[TryPicture], who: &Who) -> Answer<Markup> {
    let given = pictures.iter().find(|one| one.what == TryPart::Given);
    let may = who.role >= Role::User && (row.owner == who.name || who.role >= Role::Admin);
    let steps = row.steps.map_or_else(String::new, |steps| format!(" in {steps} steps"));
    Ok(html! {
        p.spread {
            span { (mark(row)) " " (row.task) " with "
                @match row.run_id {
                    Some(run) => a href=(format!("/runs/{run}")) { (row.weights) },
                    None => span { (row.weights) },
                }
                @if let Some(step) = row.step { " (step " (step) ")" }
                ", " (row.process) (steps) ", seed " (row.seed)
            }
            span.quiet.small { (row.owner) ", " (ago(row.created_at))
                @if let (Some(began), Some(ended)) = (row.started_at, row.ended_at) {
                    ", took " (span((ended - began).unsigned_abs()))
                }
            }
        }
        @if row.state.is_open() { (waiting(room, row, who).await?) }
        @if row.state == TryState::Failed {
            p.note.bad role="alert" { b { "It could not be made: " } (row.reason.as_deref().unwrap_or("no reason was given")) }
        }
        @if row.state == TryState::Cancelled { p.note { "It was cancelled. What was seen until then is below." } }
        div.results {
            @if let Some(given) = given {
                figure.result data-key="given" {
                    img class=[small(given)] src=(address(&given.digest)) width=(given.width) height=(given.height) alt="What the network was given";
                    figcaption { "Given" }
                }
            }
            @for sample in 0..row.samples { (result(row, sample, given, pictures)) }
        }
        @if may { (buttons(row, who)) }
        (again(row, pictures))
    })
}

/// Why it is not done yet.
async fn waiting(room: &Room, row: &Try, who: &Who) -> Answer<Markup> {
    if row.state == TryState::Running {
        let total = row.steps_total.unwrap_or(0).max(1);
        return Ok(html! {
            div #progress {
                progress max=(total) value=(row.steps_done) aria-label="Steps done" {}
                p.small.quiet {
                    @match row.steps_total {
                        Some(total) => { (row.steps_done) " of " (total) " steps" },
                        None => "The network is loaded.",
                    }
                }
            }
        });
    }
    let made =
        async { Ok((room.database.try_job().await?, room.database.tries_before(row.id).await?)) };
    let key = format!("try/wait/{}", row.id);
    let found = room.shared.get(&key, AGE, made).await?;
    let (job, before) = &*found;
    let standing = room.tries.standing();
    Ok(html! {
        div.note.warn #progress {
            p { (why(job.as_ref(), *before, &standing)) }
            @if let Some(failure) = &standing.failure { p.bad { "Beside the server: " (failure) } }
            @if who.role >= Role::User && !standing.here {
                form method="post" action=(format!("/try/{}/here", row.id)) {
                    (csrf_input(who))
                    button { "Make it here, on the server's processor" }
                }
            }
        }
    })
}

fn why(job: Option<&Job>, before: i64, standing: &Standing) -> Markup {
    let queue = match before {
        0 => String::new(),
        1 => " One other picture is before it.".into(),
        more => format!(" {more} other pictures are before it."),
    };
    html! {
        @match job {
            _ if standing.here => "It is made beside this server; the process is starting.",
            Some(job) if job.state == JobState::Running => "It is next.",
            Some(job) if job.state == JobState::Queued => {
                "It waits for a worker: job " a href=(format!("/jobs/{}", job.id)) { (job.short) } " is queued. "
                "A network stays loaded for three minutes after a picture, so the next ones are faster."
            },
            _ => "It begins in a moment. Where no worker lives, it is made beside this server.",
        }
        (queue)
    }
}

fn result(row: &Try, sample: i32, given: Option<&TryPicture>, pictures: &[TryPicture]) -> Markup {
    let of =
        |what: TryPart| pictures.iter().filter(move |one| one.what == what && one.sample == sample);
    let frames: Vec<&TryPicture> = of(TryPart::Frame).collect();
    let output = of(TryPart::Output).next();
    let number = sample + 1;
    html! {
        figure.result data-key=(format!("sample-{sample}")) {
            @match (output, given) {
                (Some(output), Some(given)) => {
                    div.wipe {
                        img class=[small(output)] src=(address(&output.digest)) width=(output.width) height=(output.height) alt=(format!("Sample {number}"));
                        img class=(format!("before {}", small(given).unwrap_or_default())) src=(address(&given.digest)) width=(given.width) height=(given.height) alt="";
                    }
                    input.wiper type="range" min="0" max="100" value="0" aria-label=(format!("Sample {number}: show what was given"));
                },
                _ => @match frames.last() {
                    Some(frame) => img class=[small(frame)] src=(address(&frame.digest)) width=(frame.width) height=(frame.height) alt=(format!("Sample {number} after step {}", frame.step));,
                    None => div.blank { @if row.state.is_open() { "…" } },
                },
            }
            figcaption {
                "Sample " (number)
                @if let Some(output) = output {
                    " · " (output.width) "×" (output.height) " · "
                    a href=(format!("{}?save={}-{number}", address(&output.digest), urlish(&row.name))) download { "Download" }
                    " " span.quiet { "(" (bytes(output.size.unsigned_abs())) ")" }
                } @else if let Some(frame) = frames.last() { " · step " (frame.step) }
            }
            @if output.is_some() && frames.len() > 1 {
                details.film data-key="film" {
                    summary { "The denoising" }
                    img.pixelated src=(address(&frames[0].digest)) width=(frames[0].width) height=(frames[0].height) alt=(format!("Sample {number} on its way"));
                    div.row {
                        button.play type="button" { "Play" }
                        input.reel type="range" min="0" max=(frames.len() - 1) value="0" aria-label="Step"
                            data-frames=(frames.iter().map(|one| format!("{} {}", one.step, address(&one.digest))).collect::<Vec<_>>().join(","));
                        output { "step " (frames[0].step) }
                    }
                }
            }
        }
    }
}

/// A name within an address.
fn urlish(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .collect()
}

fn buttons(row: &Try, who: &Who) -> Markup {
    let form = |action: &str, text: &str, class: Option<&str>, question: Option<&str>| {
        html! {
            form method="post" action=(format!("/try/{}/{action}", row.id)) data-confirm=[question] {
                (csrf_input(who))
                button class=[class] { (text) }
            }
        }
    };
    html! {
        div.row.actions {
            @if row.state.is_open() { (form("cancel", "Cancel", Some("danger"), None)) }
            @else {
                (form("again", "Again with another seed", Some("main"), None))
                @match row.kept {
                    true => (form("release", "Keep no longer", None, None)),
                    false => (form("keep", "Keep", None, None)),
                }
                (form("remove", "Remove", Some("danger"), Some("Remove this try with its pictures?")))
            }
            a.button href=(format!("/try?of={}", row.id)) { "Change and try again" }
        }
        p.small.quiet {
            @if row.kept { "It is kept until you remove it." }
            @else { "Tries that nobody keeps are removed when there are many, or by " code { "scheduler gc --tries" } "." }
        }
    }
}

/// The command that makes the same files.
fn again(row: &Try, pictures: &[TryPicture]) -> Markup {
    let input = pictures.iter().find(|one| one.what == TryPart::Input);
    let mask = pictures.iter().find(|one| one.what == TryPart::Mask);
    let ending = |one: &TryPicture| match &*one.media {
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        _ => "png",
    };
    let file = input.map_or_else(String::new, |one| format!("{}.{}", row.name, ending(one)));
    let option = if row.run_id.is_some() { "--run" } else { "--checkpoint" };
    let weights = match (row.run_id, row.step) {
        (Some(_), Some(step)) => {
            format!("{}@{step}", row.weights.split('@').next().unwrap_or_default())
        }
        _ => row.weights.clone(),
    };
    let mut line = format!("sampler run {option} {weights} --input {file} --task {}", row.task);
    if mask.is_some() {
        line += if row.mask_invert { " --mask mask.png --mask-invert" } else { " --mask mask.png" };
    }
    match (&*row.framing, row.short_side) {
        ("square", _) => line += " --square",
        ("short-side", Some(side)) => line += &format!(" --short-side {side}"),
        _ => {}
    }
    line += &format!(" --process {}", row.process);
    if let Some(steps) = row.steps {
        line += &format!(" --steps {steps}");
    }
    if row.eta > 0.0 {
        line += &format!(" --eta {}", row.eta);
    }
    line += &format!(" --samples {} --seed {}", row.samples, row.seed);
    if row.any_task {
        line += " --any-task";
    }
    html! {
        details data-key="command" {
            summary { "The same by the command line" }
            p.small.quiet { "On the same machine it makes the same files, bit by bit. "
                @if let Some(input) = input { a href=(address(&input.digest)) { "The picture" } }
                @if let Some(mask) = mask { ", " a href=(address(&mask.digest)) { "the mask" } }
            }
            pre { code #line { (line) } }
            button type="button" data-copy="#line" { "Copy" }
        }
    }
}

/// What a button sends; the token is looked at before.
#[derive(Deserialize)]
pub struct Sent {}

/// `POST /try/ID/ACTION`.
pub async fn act(
    State(room): State<Arc<Room>>,
    who: Who,
    Path((id, action)): Path<(Uuid, String)>,
    Form(_): Form<Sent>,
) -> Answer<Redirect> {
    let path = (State(Arc::clone(&room)), who.clone(), Path(id));
    match &*action {
        "cancel" => drop(api::cancel(path.0, path.1, path.2).await?),
        "keep" => {
            drop(api::keep(path.0, path.1, path.2, axum::Json(api::Keep { kept: true })).await?)
        }
        "release" => {
            drop(api::keep(path.0, path.1, path.2, axum::Json(api::Keep { kept: false })).await?);
        }
        "here" => drop(api::here(path.0, path.1).await?),
        "again" => {
            let row = room.database.find_try(id).await?;
            let made = api::enter(&room, &who, api::Wanted::again(&row)).await?;
            return Ok(Redirect::to(&format!("/try/{}", made.id)));
        }
        "remove" => {
            api::remove(path.0, path.1, path.2).await?;
            return Ok(Redirect::to("/try"));
        }
        _ => return Err(Refusal::missing("there is no such button")),
    }
    Ok(Redirect::to(&format!("/try/{id}")))
}
