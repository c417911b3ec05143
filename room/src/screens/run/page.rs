//! The pages of a run and of a job.

use std::time::Duration;

use maud::{Markup, html};
use serde_json::Value;
use time::OffsetDateTime;

use super::buttons::Button;
use super::log::Piece;
use super::story::{Attempt, JobStory, Neighbour, RunStory, Sampling, Scores};
use super::{again, config, lineage};
use crate::Who;
use crate::access::Role;
use crate::format::{ago, bytes, count, moment, number, span};
use crate::page::{csrf_input, empty, state};
use crate::screens::now::spark::spark;

/// What was done, or why it was not, after a button was pressed.
#[derive(Default)]
pub struct Told {
    /// The action that was done.
    pub done: Option<String>,
    /// Why one was not.
    pub error: Option<String>,
}

impl Told {
    fn line(&self) -> Markup {
        let done = self.done.as_deref().and_then(|action| {
            Some(match action {
                "pause" => "It is asked to pause.",
                "resume" => "It goes on.",
                "retry" => "It has new tries.",
                "cancel" => "It is asked to end.",
                "cancel_now" => "It is ended.",
                "priority" => "The priority is changed.",
                "rename" => "It has the new name.",
                "note" => "The note is kept.",
                "tag" => "The tags are kept.",
                "archive" => "It is archived: lists leave it out.",
                "unarchive" => "Lists show it again.",
                "more" => "It makes another number of steps now.",
                "again" => "It is submitted.",
                _ => return None,
            })
        });
        html! {
            @if let Some(error) = &self.error { p.note.bad role="alert" { "Not done: " (error) } }
            @if let Some(done) = done { p.note.good role="status" { (done) } }
        }
    }
}

/// The page of a run.
pub fn run(story: &RunStory, log: Option<&Piece>, told: &Told, who: &Who) -> Markup {
    let base = format!("/runs/{}", story.short);
    html! {
        (told.line())
        @if !story.namesakes.is_empty() {
            details.quiet.small {
                summary { (story.namesakes.len()) " other runs are called so" }
                @for other in &story.namesakes { a.tag href=(format!("/runs/{other}")) { (other) } " " }
            }
        }
        div #run-top data-live=(format!("{base}/part/top")) { (run_top(story)) }
        @if who.role >= Role::User { (run_actions(story, &base, who)) }
        nav.row.small aria-label="Of this run" {
            a href=(format!("/curves?runs={}", story.short)) { "Curves" }
            a href=(format!("/pictures?runs={}", story.short)) { "Pictures" }
            a href=(format!("/try?weights={}@latest", story.short)) { "Try it" }
            a href="#log-head" { "Log" } a href="#config-head" { "Configuration" }
            a href=(format!("/api/v1/runs/{}", story.short)) { "JSON" }
        }
        @if let (Some(job), Some(log)) = (&story.job, log) { (self::log(job, log)) }
        div #run-rest data-live=(format!("{base}/part/rest")) data-on="jobs" { (run_rest(story)) }
        (configuration(story))
    }
}

/// What changes all the time.
pub fn run_top(story: &RunStory) -> Markup {
    let sketch: Vec<(i64, f64)> =
        story.sketch.iter().filter_map(|(step, value)| Some((*step, (*value)?))).collect();
    html! {
        @match &story.job {
            Some(job) => { (standing(job)) }
            None => { p { span.state { "imported" } " Its weights were brought in from elsewhere; no job makes it." } }
        }
        @if let Some(warning) = &story.warning { p.note.warn #warning { (warning) } }
        @if !sketch.is_empty() {
            div.card.loss #loss {
                div.spread {
                    span { "loss " b { (latest(&story.latest, "loss")) } }
                    span.quiet.small { (metrics_line(story)) }
                }
                a href=(format!("/curves?runs={}", story.short)) {
                    (spark(&sketch, &format!("loss of {}, {} recorded points", story.name, sketch.len())))
                }
            }
        }
    }
}

fn latest(values: &Value, name: &str) -> String {
    match values.get(name) {
        None => "not yet".to_owned(),
        Some(value) => value.as_f64().map_or_else(|| "lost".to_owned(), number),
    }
}

fn metrics_line(story: &RunStory) -> String {
    let shown = [
        ("validation/loss", "validation"),
        ("learning_rate", "learning rate"),
        ("images_per_second", "images/s"),
    ];
    let parts = shown.iter().filter_map(|(name, says)| {
        story.latest.get(name)?;
        Some(format!("{says} {}", latest(&story.latest, name)))
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// State, progress and signs of life of a job.
pub fn standing(job: &JobStory) -> Markup {
    let running = job.state == "running";
    html! {
        div #standing {
            p.row {
                (state(job.state))
                @if !job.outlook.is_empty() { span.outlook.bad[job.state == "failed"] { (job.outlook) } }
            }
            @if let (Some(done), Some(total)) = (job.done, job.total) {
                @if total > 0 {
                    progress value=(done.clamp(0, total)) max=(total) aria-label="progress" {}
                    div.spread.small {
                        span { (count(done)) " of " (count(total)) @if job.kind == "train" { " steps" }
                            @if running && let Some(message) = &job.message { span.quiet { ", " (message) } } }
                        span.quiet {
                            @if running {
                                @match job.left {
                                    Some(left) => { (span(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX))) " left" },
                                    None => { "time left not known yet" },
                                }
                                @if let Some(unseen) = job.unseen { ", " (sign(unseen)) }
                            }
                        }
                    }
                }
            } @else if running && let Some(message) = &job.message { p.quiet.small { (message) } }
        }
    }
}

fn sign(unseen: f64) -> String {
    match unseen < 15.0 {
        true => "alive".to_owned(),
        false => {
            let unseen = Duration::try_from_secs_f64(unseen).unwrap_or_default();
            format!("last sign of life {} ago", span(unseen))
        }
    }
}

fn form(base: &str, button: &Button, who: &Who, more: &Markup) -> Markup {
    let danger = matches!(button.action, "cancel" | "cancel_now");
    html! {
        form.action method="post" action=(format!("{base}/do")) data-confirm=[danger.then_some(button.says)] {
            (csrf_input(who))
            input type="hidden" name="action" value=(button.action);
            button.danger[danger] id=(format!("button-{}", button.action)) disabled[button.refused.is_some()]
                title=(button.refused.as_deref().unwrap_or(button.says)) { (button.label) }
            (more)
        }
    }
}

/// The buttons: those that can be pressed, and the others with why not. They work without scripts.
pub fn actions(base: &str, buttons: &[Button], who: &Who) -> Markup {
    let (can, cannot): (Vec<&Button>, Vec<&Button>) =
        buttons.iter().partition(|button| button.refused.is_none());
    html! {
        div.row.buttons #buttons data-live=(format!("{base}/part/buttons")) data-on="jobs" {
            @for button in &can { (form(base, button, who, &html! {})) }
            @for button in &cannot { (form(base, button, who, &html! {})) }
        }
    }
}

/// What stands within the part of the buttons.
pub fn buttons(base: &str, buttons: &[Button], who: &Who) -> Markup {
    let can = buttons.iter().filter(|button| button.refused.is_none());
    let cannot = buttons.iter().filter(|button| button.refused.is_some());
    html! {
        @for button in can.chain(cannot) { (form(base, button, who, &html! {})) }
    }
}

fn explained(buttons: &[Button]) -> Markup {
    html! {
        dl.facts.small {
            @for button in buttons {
                dt { (button.label) }
                dd { (button.says) @if let Some(why) = &button.refused { " " em { "Not now: " (why) "." } } }
            }
        }
    }
}

fn run_actions(story: &RunStory, base: &str, who: &Who) -> Markup {
    let marks = Marks {
        name: &story.name,
        note: story.note.as_deref(),
        tags: &story.tags,
        priority: story.job.as_ref().map(|job| job.priority),
        archived_at: story.archived_at,
    };
    html! {
        section.actions aria-label="Actions" {
            @if let Some(job) = &story.job { (actions(base, &job.buttons, who)) }
            div.row.buttons {
                a.button href=(format!("{base}/again")) { "Again with changes" }
                a.button href=(format!("/try?weights={}@latest", story.short)) { "Sample" }
            }
            @if let Some(job) = &story.job {
                details #more-actions {
                    summary { "More: steps, from a checkpoint, priority, name, note, tags" }
                    div.forms {
                        form.above method="post" action=(format!("{base}/more")) {
                            (csrf_input(who))
                            label.above { "Steps in all, or +N for N more"
                                input name="steps" inputmode="numeric" placeholder=(format!("+{}", story.total_steps)) required; }
                            button { "More steps" }
                            p.small.quiet { "It goes on from its newest checkpoint and ends as one that was submitted with as many steps." }
                        }
                        @if let Some(event) = back(job) {
                            form.above method="post" action=(format!("{base}/do")) {
                                (csrf_input(who))
                                input type="hidden" name="action" value=(event);
                                label.above { (if event == "retry" { "Retry" } else { "Resume" }) " from"
                                    select name="from" {
                                        option value="" { "the newest checkpoint" }
                                        @for checkpoint in story.checkpoints.iter().rev() {
                                            option value=(checkpoint.step) { "step " (checkpoint.step) }
                                        }
                                        option value="0" { "the beginning" }
                                    } }
                                label { input type="checkbox" name="accept_changed_data" value="1"; "over data that has changed" }
                                button { (if event == "retry" { "Retry" } else { "Resume" }) }
                                p.small.quiet { "Later checkpoints are set aside." }
                            }
                        }
                        (marks.forms(base, who))
                    }
                    (explained(&job.buttons))
                }
            } @else {
                details #more-actions { summary { "Name, note, tags" } div.forms { (marks.forms(base, who)) } }
            }
        }
    }
}

/// Whether it can go on from another checkpoint, and what that is called.
fn back(job: &JobStory) -> Option<&'static str> {
    match job.state {
        "failed" | "cancelled" => Some("retry"),
        "paused" => Some("resume"),
        _ => None,
    }
}

/// What people write on it.
struct Marks<'a> {
    name: &'a str,
    note: Option<&'a str>,
    tags: &'a [String],
    priority: Option<i32>,
    archived_at: Option<OffsetDateTime>,
}

impl Marks<'_> {
    fn forms(&self, base: &str, who: &Who) -> Markup {
        let form = |action: &str, field: Markup, says: &str| {
            html! {
                form.above method="post" action=(format!("{base}/do")) {
                    (csrf_input(who))
                    input type="hidden" name="action" value=(action);
                    (field)
                    button { (says) }
                }
            }
        };
        html! {
            @if let Some(priority) = self.priority {
                (form("priority", html! { label.above { "Priority, higher goes first"
                    input name="priority" type="number" value=(priority) required; } }, "Change priority"))
            }
            (form("rename", html! { label.above { "Name" input name="name" value=(self.name) maxlength="100" required; } }, "Rename"))
            (form("tag", html! { label.above { "Tags, with spaces between" input name="tags" value=(self.tags.join(" ")); } }, "Keep tags"))
            (form("note", html! { label.above { "Note" textarea.note-text name="note" maxlength="10000" { (self.note.unwrap_or_default()) } } }, "Keep note"))
            @if self.archived_at.is_some() { p.small.quiet { "It is archived." } }
        }
    }
}

/// The log, which `run.js` follows.
pub fn log(job: &JobStory, piece: &Piece) -> Markup {
    let newest = piece.newest.unwrap_or(0);
    let base = format!("/api/v1/jobs/{}/log", job.short);
    html! {
        section aria-labelledby="log-head" {
            div.spread {
                h2 #log-head { "Log" }
                div.row.small {
                    @if newest > 1 || job.attempts.iter().any(|attempt| !attempt.seats.is_empty()) {
                        label { "attempt"
                            select #log-choice {
                                @for attempt in job.attempts.iter().rev() {
                                    option value=(attempt.number) { (attempt.number) }
                                    @for seat in &attempt.seats {
                                        option value=(format!("{}.{}", attempt.number, seat.number)) { (attempt.number) " on " (seat.host) }
                                    }
                                }
                            }
                        }
                    }
                    label.scripted hidden { input type="checkbox" #log-follow checked; "follow" }
                    a href=(format!("/jobs/{}/log.txt", job.short)) { "download" }
                }
            }
            @if piece.attempt.is_none() {
                p.quiet #log-none { "No attempt has begun; what it prints appears here." }
            }
            p.small.quiet #log-where hidden[piece.attempt.is_none()] { (place(piece)) }
            pre.log.growing[!piece.ended] #log tabindex="0" role="log" aria-label="log" data-log=(base) data-attempt=[piece.attempt] data-next=(piece.next) {
                (piece.text)
            }
        }
    }
}

/// Where the log comes from, and what of it.
pub fn place(piece: &Piece) -> String {
    let path = piece.path.as_deref().unwrap_or("a file that was removed");
    let before = match piece.from {
        0 => "all of it".to_owned(),
        from => format!("{} before this are left out here", bytes(from.unsigned_abs())),
    };
    match piece.source {
        "file" => format!("{before}; read from {path} on this host"),
        _ => format!(
            "{before}; the worker on {} sends the last 16 KiB each second, the rest is only there, in {path}",
            piece.host
        ),
    }
}

/// What changes with the job's state alone.
pub fn run_rest(story: &RunStory) -> Markup {
    html! {
        section #lineage aria-labelledby="lineage-head" {
            h2 #lineage-head { "Lineage" }
            (lineage::graph(story))
        }
        @if let Some(job) = &story.job { (attempts(job)) (neighbours(job)) }
        (checkpoints(story))
        (samplings("Drawn with it", &story.samplings))
        (scores_table(&story.scores))
        section #facts aria-labelledby="facts-head" {
            h2 #facts-head { "Facts" }
            dl.facts {
                dt { "run" } dd { code { (story.short) } " of experiment " (story.experiment) }
                dt { "owner" } dd { (story.owner) }
                @if let Some(job) = &story.job { (job_facts(job)) }
                @if !story.tags.is_empty() { dt { "tags" } dd { @for tag in &story.tags { span.tag { (tag) } " " } } }
                @if let Some(note) = &story.note { dt { "note" } dd.noted { (note) } }
                @if let Some(at) = story.archived_at { dt { "archived" } dd { (moment(at)) } }
                @if let Some(parent) = &story.parent { dt { "fork" } dd { "of " (link(parent)) ", from its checkpoint of step " (parent.step.unwrap_or(0)) } }
                dt { "seed" } dd { (story.seed) }
                @for data in &story.datasets {
                    dt { (data.role) " data" }
                    dd { (data.name) ", " (count(data.rows)) " images, " code { (data.uri) } br; span.quiet.small { "manifest " (short_digest(&data.manifest_digest)) } }
                }
                @for change in &story.data_changes {
                    dt { "other data" } dd { "from step " (change.step) " on: " code { (change.uri) } ", accepted by " (change.accepted_by) }
                }
                @if let Some(host) = &story.host { dt { "host" } dd { (host) } }
                @if let Some(device) = &story.device { dt { "device" } dd { (device) } }
                @if let Some(libtorch) = &story.libtorch { dt { "libtorch" } dd { (libtorch) } }
                @if let Some(revision) = &story.git_revision { dt { "revision" } dd { code { (revision) } } }
                dt { "folder" } dd { code { (story.uri) } }
            }
        }
    }
}

fn short_digest(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

fn job_facts(job: &JobStory) -> Markup {
    html! {
        dt { "needs" } dd { (job.needs) }
        dt { "priority" } dd { (job.priority) }
        dt { "queued" } dd { (moment(job.created_at)) span.quiet { ", " (ago(job.created_at)) } }
        @if let Some(at) = job.started_at { dt { "started" } dd { (moment(at)) } }
        @if let (Some(from), Some(at)) = (job.started_at, job.ended_at) {
            dt { "ended" } dd { (moment(at)) span.quiet { ", after " (span((at - from).unsigned_abs())) } }
        }
        dt { "tries" } dd { (job.attempts_used) " of " (job.attempts_most) " used" }
        @if let Some(sweep) = &job.sweep { dt { "sweep" } dd { a href=(format!("/sweeps/{sweep}")) { (sweep) } } }
    }
}

fn link(other: &Neighbour) -> Markup {
    let address = crate::screens::now::address(other.trains, &other.short);
    html! { a href=(address) { (other.name) } " " span.quiet.small { (other.short) } }
}

fn neighbours(job: &JobStory) -> Markup {
    html! {
        @if !job.after.is_empty() || !job.before.is_empty() || job.about.is_some() {
            section #neighbours aria-labelledby="neighbours-head" {
                h2 #neighbours-head { "Before and after" }
                dl.facts {
                    @if let Some(about) = &job.about { dt { "about run" } dd { (link(about)) } }
                    @for (head, all) in [("waits for", &job.after), ("waited for by", &job.before)] {
                        @if !all.is_empty() {
                            dt { (head) }
                            dd { @for one in all { div { (link(one)) " " (state(one.state)) } } }
                        }
                    }
                }
            }
        }
    }
}

fn attempts(job: &JobStory) -> Markup {
    html! {
        section #attempts aria-labelledby="attempts-head" {
            h2 #attempts-head { "Attempts" }
            @if job.attempts.is_empty() { (empty("No worker has taken it yet.", Some("scheduler worker"))) }
            @else {
                ol.attempts {
                    @for attempt in job.attempts.iter().rev() { (self::attempt(attempt)) }
                }
            }
        }
    }
}

fn attempt(attempt: &Attempt) -> Markup {
    let ended = attempt.ended_at.unwrap_or_else(OffsetDateTime::now_utc);
    html! {
        li.card id=(format!("attempt-{}", attempt.number)) {
            div.spread {
                b { "Attempt " (attempt.number) }
                (state(attempt.outcome.unwrap_or("running")))
            }
            div.small {
                (attempt.worker) " on " (attempt.host) ", " (moment(attempt.started_at))
                span.quiet { ", " (span((ended - attempt.started_at).unsigned_abs())) }
            }
            @if let Some(reason) = &attempt.reason { div.reason { (reason) } }
            div.small.quiet {
                @match attempt.resumed_at { Some(0) => "from the beginning", Some(step) => { "went on from step " (step) }, None => "" }
                @if let (Some(ranks), Some(world)) = (attempt.ranks, attempt.world) {
                    @if world > 1 { " · ranks 0 to " (ranks - 1) " of " (world) " here" }
                }
                @if !attempt.gpus.is_empty() { " · " (attempt.gpus.len()) @if attempt.gpus.len() == 1 { " GPU: " } @else { " GPUs: " } (attempt.gpus.join(", ")) }
            }
            @for seat in &attempt.seats {
                div.small.seat {
                    @match (seat.first, seat.ranks) {
                        (Some(first), Some(1)) => { "rank " (first) },
                        (Some(first), Some(ranks)) => { "ranks " (first) " to " (first + i64::from(ranks) - 1) },
                        _ => { "seat " (seat.number) },
                    }
                    " on " (seat.host)
                    @if let Some(worker) = &seat.worker { span.quiet { " (" (worker) ")" } }
                    @if let Some(reason) = &seat.reason { span.reason { ": " (reason) } }
                }
            }
        }
    }
}

fn checkpoints(story: &RunStory) -> Markup {
    let total: i64 = story.checkpoints.iter().map(|checkpoint| checkpoint.bytes).sum();
    html! {
        section #checkpoints aria-labelledby="checkpoints-head" {
            h2 #checkpoints-head { "Checkpoints " @if total > 0 { span.quiet.small { (story.checkpoints.len()) ", " (bytes(total.unsigned_abs())) } } }
            @if story.checkpoints.is_empty() {
                (empty("None yet. The first comes after train.checkpoint.every steps, or when it is paused.", None))
            } @else {
                div.table {
                    table {
                        thead { tr { th.number { "step" } th.number { "size" } th { "needed by" } th { "written" } th { "" } } }
                        tbody {
                            @for one in story.checkpoints.iter().rev() {
                                tr {
                                    td.number { (count(one.step)) }
                                    td.number { (bytes(one.bytes.unsigned_abs())) }
                                    td { @if one.needed.is_empty() { span.quiet { "nobody: may be removed" } } @else { (one.needed.join(", ")) }
                                        @if let Some(value) = one.metric { " " span.quiet.small { (number(value)) } } }
                                    td.nowrap { span title=(moment(one.created_at)) { (ago(one.created_at)) } }
                                    td { a href=(format!("/try?weights={}@{}", story.short, one.step)) { "try" } }
                                }
                            }
                        }
                    }
                }
            }
            @if !story.set_aside.is_empty() {
                p.small.quiet { "Set aside (damaged, or left behind when it was taken back): steps "
                    (story.set_aside.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")) }
            }
        }
    }
}

fn samplings(head: &str, all: &[Sampling]) -> Markup {
    html! {
        @if !all.is_empty() {
            section #samplings aria-labelledby="samplings-head" {
                h2 #samplings-head { (head) }
                ul.plain {
                    @for one in all {
                        li { a href=(format!("/jobs/{}", one.short)) { (one.name) } " " (state(one.state)) " "
                            span.quiet { (one.task) @if let Some(step) = one.step { ", step " (step) } ", " (one.done) " of " (one.total) " chunks" }
                            div.small { a href=(format!("/samples/{}", one.short)) { "Pictures" } " in " code { (one.output_uri) } } }
                    }
                }
            }
        }
    }
}

/// A value with as many digits as tell something; a count is whole.
pub fn figure(value: f64) -> String {
    match value.fract() == 0.0 && value.abs() < 1e9 {
        true => format!("{value:.0}"),
        false => number(value),
    }
}

/// The number of a score.
pub fn score(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| ["value", "mean"].iter().find_map(|key| value.get(key)?.as_f64()))
}

fn scores_table(all: &[Scores]) -> Markup {
    html! {
        section #scores aria-labelledby="scores-head" {
            h2 #scores-head { "Scores" }
            @if all.is_empty() {
                (empty("None yet. Draw with the run, then score what was drawn:", Some("sampler submit --run RUN --dataset DATA --task TASK --out OUTPUTS\nevaluator run --outputs OUTPUTS")))
            } @else {
                div.table {
                    table {
                        thead { tr { th { "scores" } th { "task" } th.number { "step" } th { "score" } th.number { "value" } } }
                        tbody {
                            @for row in all {
                                @for (name, value) in &row.scores {
                                    @if let Some(value) = score(value) {
                                        tr { td { (row.label) } td { (row.task.as_deref().unwrap_or("")) }
                                            td.number { @if let Some(step) = row.step { (step) } }
                                            td { (name) } td.number { (figure(value)) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn configuration(story: &RunStory) -> Markup {
    html! {
        section #config aria-labelledby="config-head" {
            div.spread {
                h2 #config-head { "Configuration" }
                div.row.small {
                    label.scripted hidden { input type="checkbox" #config-short; "hide defaults" }
                    button.scripted hidden data-copy="#config-text" { "Copy TOML" }
                }
            }
            @match config::lines(&story.config) {
                Ok(lines) => {
                    p.small.quiet { "Every default is written out; grey lines say what would be so without them. sha256 " (short_digest(&story.config_digest)) }
                    pre.config tabindex="0" aria-label="configuration" { code #config-text {
                        @for line in &lines { span class=[line.default.then_some("default")] { (line.text) "\n" } }
                    } }
                }
                Err(why) => { p.note.warn { "It is no TOML: " (why) } pre { (story.config.to_string()) } }
            }
        }
    }
}

/// The page of a job that makes no run.
pub fn job(story: &JobStory, log: &Piece, told: &Told, who: &Who) -> Markup {
    let base = format!("/jobs/{}", story.short);
    let marks = Marks {
        name: &story.name,
        note: story.note.as_deref(),
        tags: &story.tags,
        priority: Some(story.priority),
        archived_at: story.archived_at,
    };
    html! {
        (told.line())
        div #run-top data-live=(format!("{base}/part/top")) { (standing(story)) }
        @if who.role >= Role::User {
            section.actions aria-label="Actions" {
                (actions(&base, &story.buttons, who))
                details #more-actions {
                    summary { "More: priority, name, note, tags" }
                    div.forms { (marks.forms(&base, who)) }
                    (explained(&story.buttons))
                }
            }
        }
        (self::log(story, log))
        div #run-rest data-live=(format!("{base}/part/rest")) data-on="jobs" { (job_rest(story)) }
    }
}

/// What changes with its state alone.
pub fn job_rest(story: &JobStory) -> Markup {
    html! {
        (attempts(story))
        (neighbours(story))
        @if let Some(one) = &story.sampling { (samplings("Draws", std::slice::from_ref(one))) }
        @if !story.scores.is_empty() { (scores_table(&story.scores)) }
        section #facts aria-labelledby="facts-head" {
            h2 #facts-head { "Facts" }
            dl.facts {
                dt { "job" } dd { code { (story.short) } ", kind " (story.kind) }
                dt { "owner" } dd { (story.owner) }
                (job_facts(story))
                @if !story.tags.is_empty() { dt { "tags" } dd { @for tag in &story.tags { span.tag { (tag) } " " } } }
                @if let Some(note) = &story.note { dt { "note" } dd.noted { (note) } }
            }
            @if let Some(payload) = &story.payload {
                details open {
                    summary { "What it was told to do" }
                    @match config::text(payload) {
                        Ok(text) => pre { code { (text) } },
                        Err(_) => pre { code { (serde_json::to_string_pretty(payload).unwrap_or_default()) } },
                    }
                }
            }
        }
    }
}

/// The form of a run once more.
pub fn again(
    story: &registry::Run,
    form: &again::Form,
    steps: &[i64],
    error: Option<&str>,
    who: &Who,
) -> Markup {
    html! {
        @if let Some(error) = error { p.note.bad role="alert" { "Not submitted: " (error) } }
        p { "A new run from the configuration of " a href=(format!("/runs/{}", story.short)) { (story.name) } ", owned by " b { (who.name) } ". What is submitted waits in the queue for a worker." }
        form.again method="post" action=(format!("/runs/{}/again", story.short)) {
            (csrf_input(who))
            input type="hidden" name="nonce" value=(form.nonce);
            label.above { "Changes, one KEY=VALUE a line"
                textarea.set name="set" spellcheck="false" placeholder="name=another-name\ntrain.steps=20000\ntrain.learning_rate=2e-4" { (form.set) } }
            label.above { "Configuration (TOML)"
                textarea.toml name="config" spellcheck="false" { (form.config) } }
            div.row {
                label.above { "Begin with"
                    select name="from" {
                        option value="" selected[form.from.is_empty()] { "fresh weights, or those of train.init" }
                        @for choice in ["best", "latest"] {
                            option value=(choice) selected[form.from == choice] { "its " (choice) " checkpoint" }
                        }
                        @for step in steps { option value=(step) selected[form.from == step.to_string()] { "its checkpoint of step " (step) } }
                    } }
                label.above { "Priority" input name="priority" inputmode="numeric" value=(form.priority) placeholder="0"; }
                label.above { "GPUs" input name="gpus" value=(form.gpus) placeholder="as the program chooses"; }
            }
            div.row { button.main { "Submit" } a.button href=(format!("/runs/{}", story.short)) { "Back" } }
        }
    }
}
