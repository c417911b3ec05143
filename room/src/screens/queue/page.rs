//! The page, and its parts that are kept up to date.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse};
use maud::{Markup, html};
use time::OffsetDateTime;

use super::api::Part;
use super::chart;
use super::look::{self, Brief, Group, Machine, Machines, Other, Queue, Waiting};
use crate::access::Role;
use crate::page::{Page, csrf_input, empty, fragment, state};
use crate::{Answer, Room, Who, format};

/// `GET /queue`.
pub async fn page(
    State(room): State<Arc<Room>>,
    who: Who,
    Query(part): Query<Part>,
) -> Answer<impl IntoResponse> {
    let from = part.from.clamp(0, 10_000_000);
    let queue = look::queue(&room, from).await?;
    let machines = look::machines(&room).await?;
    let body = html! {
        p.unseen #moved role="status" { }
        div #jobs data-live=(format!("/queue/jobs?from={from}")) { (jobs_part(&queue, from, &who)) }
        div #machines data-live="/queue/machines" data-on="tick" { (machines_part(&machines)) }
    };
    let page = Page {
        title: "Queue and machines",
        screen: "/queue",
        who: &who,
        scripts: &["queue.js"],
        styles: &["queue.css"],
        body,
    };
    Ok(page.into_response())
}

/// `GET /queue/jobs`.
pub async fn jobs(
    State(room): State<Arc<Room>>,
    who: Who,
    Query(part): Query<Part>,
) -> Answer<Html<String>> {
    let from = part.from.clamp(0, 10_000_000);
    Ok(fragment(jobs_part(&*look::queue(&room, from).await?, from, &who)))
}

/// `GET /queue/machines`.
pub async fn machines(State(room): State<Arc<Room>>, _who: Who) -> Answer<Html<String>> {
    Ok(fragment(machines_part(&*look::machines(&room).await?)))
}

fn jobs_part(queue: &Queue, from: i64, who: &Who) -> Markup {
    let may = who.role >= Role::User;
    html! {
        h2 #waiting { "Waiting " span.quiet { (format::count(queue.waiting_total)) } }
        @if queue.waiting.is_empty() {
            @if from > 0 { (empty("Nothing waits so far behind.", None)) p { a href="/queue" { "Back to the front" } } }
            @else { (empty("Nothing waits. What is submitted and has no worker yet stands here.", Some("trainer submit CONFIG"))) }
        } @else {
            p.quiet {
                "Workers take the first that fits them. "
                @if may { "Drag a job by its handle, use the arrow keys on it, or give it a number; nothing else moves." }
            }
            ol.queue #order start=(from + 1) data-next=[queue.next.as_deref()] {
                @for job in &queue.waiting { (waiting(job, who, may)) }
            }
            @if from > 0 || queue.next.is_some() {
                nav.row aria-label="Pages of the queue" {
                    @if from > 0 { a.button href=(format!("/queue?from={}", (from - look::PAGE).max(0))) { "Before" } }
                    span.quiet { (format::count(from + 1)) "–" (format::count(from + queue.waiting.len() as i64)) " of " (format::count(queue.waiting_total)) }
                    @if queue.next.is_some() { a.button href=(format!("/queue?from={}", from + look::PAGE)) { "Behind" } }
                }
            }
        }
        h2 #running { "Running " span.quiet { (format::count(queue.running_total)) } }
        @if queue.running.is_empty() {
            (empty("Nothing runs.", Some("scheduler worker")))
        } @else {
            ul.queue { @for job in &queue.running { (other(job, "running", who, may)) } }
        }
        @if !queue.paused.is_empty() {
            h2 #paused { "Set aside " span.quiet { (format::count(queue.paused_total)) } }
            ul.queue { @for job in &queue.paused { (other(job, "paused", who, may)) } }
        }
    }
}

fn waiting(waiting: &Waiting, who: &Who, may: bool) -> Markup {
    let job = &waiting.job;
    html! {
        li data-key=(job.id) data-job=(job.id) {
            @if may {
                button.grip type="button" aria-label=(format!("Move {} ({}), number {}: arrow keys, or drag", job.name, job.id, waiting.position)) title="Drag, or arrow keys" { span aria-hidden="true" { "⠿" } }
            }
            span.position { (format::count(waiting.position)) }
            div.what {
                (head(job))
                p.why { (sentence(&waiting.why)) }
                @if let Some(remedy) = &waiting.remedy { p.why.quiet { "To do: " (remedy) "." } }
            }
            @if may {
                details.more {
                    summary { "Change" }
                    div.row {
                        (number_form(job, "move", "Number", waiting.position, "Move", who))
                        (number_form(job, "priority", "Priority", i64::from(job.priority), "Set", who))
                        (button_form(job, "pause", "Pause", None, who))
                        (button_form(job, "cancel", "Cancel", Some(&format!("Cancel {}? What waits for it is cancelled too.", job.name)), who))
                    }
                }
            }
        }
    }
}

fn other(other: &Other, name: &str, who: &Who, may: bool) -> Markup {
    let job = &other.job;
    html! {
        li data-key=(job.id) {
            div.what {
                (head(job))
                @if let Some((done, total)) = other.done.zip(other.total).filter(|(_, total)| *total > 0) {
                    progress max=(total) value=(done.clamp(0, total)) aria-label=(format!("{} of {}", done, total)) {}
                    p.why { (format::count(done)) " of " (format::count(total)) @if let Some(text) = &other.message { " · " (text) } }
                }
                @if name == "running" {
                    p.why.quiet {
                        @if let Some(worker) = &other.worker { "on " (worker) " " }
                        @if let Some(began) = job.started_at { "since " (format::ago(began).trim_end_matches(" ago")) }
                        @if let Some(asked) = &other.asked { "; " strong { "asked to " (asked) } " at its next checkpoint" }
                    }
                } @else if let Some(reason) = &other.reason { p.why { (sentence(reason)) } }
            }
            @if may {
                details.more {
                    summary { "Change" }
                    div.row {
                        @if name == "paused" { (button_form(job, "resume", "Resume", None, who)) }
                        @else { (button_form(job, "pause", "Pause", None, who)) }
                        (number_form(job, "priority", "Priority", i64::from(job.priority), "Set", who))
                        (button_form(job, "cancel", "Cancel", Some(&format!("Cancel {}? It ends at its next checkpoint, and what waits for it is cancelled too.", job.name)), who))
                    }
                }
            }
        }
    }
}

fn head(job: &Brief) -> Markup {
    let labels = look::shown(&job.labels);
    html! {
        div.row {
            a.name href=(job.address()) { (job.name) }
            span.tag { (job.kind) }
            @if job.gpus > 0 { span.tag { (job.gpus) " GPU" @if job.gpus != 1 { "s" } @if job.hosts > 1 { " × " (job.hosts) " hosts" } } }
            @if !labels.is_empty() { span.tag { (labels) } }
            @if job.priority != 0 { span.tag { "priority " (job.priority) } }
            span.quiet.small { (job.owner) " · " (job.id) " · queued " (format::ago(job.created_at)) }
        }
    }
}

fn number_form(
    job: &Brief,
    what: &str,
    label: &str,
    value: i64,
    button: &str,
    who: &Who,
) -> Markup {
    let id = format!("{what}-{}", job.id);
    html! {
        form.row method="post" action=(format!("/queue/{}/{what}", job.id)) {
            (csrf_input(who))
            label for=(id) { (label) }
            input.few #(id) type="number" name="to" value=(value) required step="1";
            button { (button) }
        }
    }
}

fn button_form(job: &Brief, what: &str, label: &str, confirm: Option<&str>, who: &Who) -> Markup {
    html! {
        form method="post" action=(format!("/queue/{}/{what}", job.id)) data-confirm=[confirm] {
            (csrf_input(who))
            button.danger[what == "cancel"] { (label) span.unseen { " " (job.name) } }
        }
    }
}

/// A reason as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

fn machines_part(machines: &Machines) -> Markup {
    html! {
        h2 #workers { "Machines" }
        @if machines.groups.is_empty() {
            (empty("No worker was here within a day.", Some("scheduler worker")))
        }
        @for group in &machines.groups { (machine_group(group)) }
        h2 #owners { "Hours by owner, last 7 days" }
        @if machines.owners.is_empty() {
            (empty("Nothing ran in the last 7 days. What runs is counted from its first attempt on.", None))
        } @else {
            div.table tabindex="0" role="region" aria-labelledby="owners" {
                table {
                    thead { tr { th { "Owner" } th.number { "GPU hours" } th.number { "Hours" } th.number { "Jobs" } } }
                    tbody {
                        @for row in &machines.owners {
                            tr data-key=(row.owner) { td { (row.owner) } td.number { (hours(row.gpu_hours)) } td.number { (hours(row.hours)) } td.number { (format::count(row.jobs)) } }
                        }
                    }
                }
            }
        }
    }
}

fn hours(hours: f64) -> String {
    if hours < 10.0 { format!("{hours:.1}") } else { format!("{hours:.0}") }
}

fn machine_group(group: &Group) -> Markup {
    let slots: i32 = group.workers.iter().filter(|it| it.state != "lost").map(|it| it.slots).sum();
    let busy: usize = group.workers.iter().map(|worker| worker.jobs.len()).sum();
    let now = OffsetDateTime::now_utc();
    let of = |value: fn(&look::Stretch) -> Option<f64>| -> Vec<_> {
        group.day.iter().map(|stretch| (stretch.at, value(stretch))).collect()
    };
    html! {
        section.card.machines data-key=(format!("labels {}", group.labels)) {
            div.spread {
                h3 { @if group.labels.is_empty() { "Without labels" } @else { (group.labels) } }
                span.quiet { (busy) " of " (slots) " slot" @if slots != 1 { "s" } " in use" }
            }
            @if group.day.is_empty() {
                p.quiet { "No sample within a day: workers note one a minute." }
            } @else {
                div.days {
                    (chart::day("Slots in use", now, &of(|it| it.busy)))
                    (chart::day("GPU use", now, &of(|it| it.gpu_use)))
                    (chart::day("GPU memory", now, &of(|it| it.gpu_memory)))
                    (chart::day("Processors", now, &of(|it| it.cpu)))
                }
            }
            @if group.workers.is_empty() { p.quiet { "None of these workers is here now." } }
            ul.workers { @for worker in &group.workers { (machine(worker)) } }
        }
    }
}

fn machine(worker: &Machine) -> Markup {
    let gpus = gpus(&worker.gpus);
    html! {
        li data-key=(format!("{} {}", worker.host, worker.name)) {
            div.row {
                strong { (worker.name) }
                span.quiet { (worker.host) }
                (worker_state(worker.state))
                @if worker.state != "alive" { span.quiet { "seen " (format::span(Duration::try_from_secs_f64(worker.unseen.max(0.0)).unwrap_or_default())) " ago" } }
            }
            @if let Some(ails) = &worker.ails { p.note.bad { "Claims nothing: " (ails) } }
            p.why.quiet {
                (worker.jobs.len()) " of " (worker.slots) " slot" @if worker.slots != 1 { "s" }
                @if !gpus.is_empty() { " · " (gpus) }
                @if let Some(sample) = &worker.sample {
                    @if let Some(mean) = mean(&sample.gpu_use) { " · GPU use " (percent(mean)) }
                    @if let Some(used) = total(&sample.gpu_memory_used) { " · GPU memory " (bytes(used)) }
                    @if let Some(cpu) = sample.cpu { " · processors " (percent(cpu)) }
                    @if let Some((used, all)) = sample.memory_used.zip(sample.memory) { " · memory " (bytes(used)) " of " (bytes(all)) }
                    @if let Some((left, all)) = sample.disk_left.zip(sample.disk) {
                        " · " span.scarce[left < all / 10] { "disk " (bytes(left)) " left of " (bytes(all)) }
                    }
                }
            }
        }
    }
}

fn worker_state(name: &str) -> Markup {
    match name {
        "alive" => html! { span.state.state-succeeded { "alive" } },
        "ailing" => html! { span.state.state-failed { "ailing" } },
        name => state(name),
    }
}

/// `8 × NVIDIA H100`.
fn gpus(names: &[String]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for name in names {
        match counted.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => counted.push((name, 1)),
        }
    }
    let texts = counted.iter().map(|(name, count)| match count {
        1 => (*name).to_owned(),
        count => format!("{count} × {name}"),
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn mean(values: &[Option<f32>]) -> Option<f32> {
    let known: Vec<f32> = values.iter().flatten().copied().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f32>() / known.len() as f32)
}

fn total(values: &[Option<i64>]) -> Option<i64> {
    values.iter().any(Option::is_some).then(|| values.iter().flatten().sum())
}

fn percent(share: f32) -> String {
    format!("{:.0} %", share * 100.0)
}

fn bytes(value: i64) -> String {
    format::bytes(u64::try_from(value).unwrap_or(0))
}
