//! What is told of a job.

use std::time::Duration;

use registry::{AttemptRow, CommandLine, GpuCount, Holder, Job, JobState, SeatRow, Sweep};
use serde_json::Value;

use super::{JobStory, Lines};
use crate::commands::{ago, fraction, labels, memory, until};

/// How many of the jobs that wait are named.
const NAMED: usize = 6;

pub fn text(story: &JobStory) -> String {
    let job = &story.job;
    let mut lines = Lines::default();
    lines.add("job", format!("{} {} ({}) of {}", job.short, job.name, job.kind, job.owner));
    let separator = if story.outlook.is_empty() { "" } else { ": " };
    let state = terminal::states(job.state.name());
    lines.add("state", format!("{state}{separator}{}", story.outlook));
    lines.add("worker", story.holder.as_ref().map(|it| holder(it, job)).unwrap_or_default());
    if let Some(other) = job.yields_to {
        lines.add("gives way", format!("to job {}", registry::short(&other)));
    }
    lines.add("progress", progress(job));
    if let Some(sweep) = &story.sweep {
        lines.add("sweep", self::sweep(sweep));
        lines.add("point", job.sweep_point.as_ref().map(point).unwrap_or_default());
    }
    lines.add("tags", job.tags.join(", "));
    lines.marks(job.note.as_deref(), job.archived_at);
    lines.add("command", command(job));
    lines.add("needs", needs(job));
    let preempts = if job.preempts { ", may ask lower ones to give way" } else { "" };
    lines.add("priority", format!("{}{preempts}", job.priority));
    lines.add("queued", format!("{} ({})", terminal::moment(job.created_at), ago(job.created_at)));
    let waits = matches!(job.state, JobState::Queued | JobState::Paused);
    if waits && until(job.run_after).is_some() {
        lines.add("not before", terminal::moment(job.run_after));
    }
    if let Some(started) = job.started_at {
        lines.add("started", terminal::moment(started));
        if let Some(ended) = job.ended_at {
            let took = Duration::try_from(ended - started).unwrap_or_default();
            lines.add(
                "ended",
                format!("{} (after {})", terminal::moment(ended), terminal::duration(took)),
            );
        }
    }
    lines.add("tries", format!("{} of {} used", job.attempts_used, job.max_attempts));
    lines.add("after", named(&story.after));
    lines.add("before", named(&story.before));
    lines.add("run", story.about.as_ref().map(super::run_line).unwrap_or_default());
    lines.add("share of", job.share_of().map(|of| registry::short(&of)).unwrap_or_default());
    lines.add("samples", story.sampling.as_ref().map(super::sampling).unwrap_or_default());
    for attempt in &story.attempts {
        let seats: Vec<&SeatRow> =
            story.seats.iter().filter(|seat| seat.attempt == attempt.number).collect();
        add_attempt(&mut lines, attempt, &seats);
        for seat in seats {
            add_seat(&mut lines, seat, attempt.world);
        }
    }
    let scores = super::scores(&story.evaluations);
    std::iter::once(lines.text()).chain(scores).collect::<Vec<_>>().join("\n\n")
}

fn holder(holder: &Holder, job: &Job) -> String {
    let gpus = match holder.gpus.as_deref() {
        Some("") if job.gpus_most > 0 => ", without a gpu".to_owned(),
        None | Some("") => String::new(),
        Some(gpus) => format!(", gpus {gpus}"),
    };
    let lease = match Duration::try_from_secs_f64(holder.lease_left) {
        Ok(left) => format!("lease ends in {}", terminal::duration(left)),
        Err(_) => "the lease has run out".to_owned(),
    };
    format!("{} on {} (pid {}){gpus}; {lease}", holder.worker, holder.host, holder.pid)
}

fn progress(job: &Job) -> String {
    let how_far = fraction(job.progress_done, job.progress_total);
    let parts = std::iter::once(how_far).chain(job.progress_message.clone());
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn sweep(sweep: &Sweep) -> String {
    let limit = sweep.at_most.map(|most| format!(", {most} at most")).unwrap_or_default();
    format!("{} {} ({} running{limit})", sweep.short, sweep.name, sweep.running)
}

/// What a job does that is a command line of its program, as a shell takes it, and the folder that it was submitted from.
fn command(job: &Job) -> String {
    // What is malformed has no such line: the worker says why it does not do it.
    let Ok(Some(line)) = CommandLine::of(job) else { return String::new() };
    let words =
        std::iter::once(job.kind.program()).chain(line.arguments.iter().map(String::as_str));
    let words: Vec<String> = words.map(word).collect();
    format!("{}, in {}", words.join(" "), word(&line.folder.to_string_lossy()))
}

/// A word of a command line, on one line: quoted where a shell would read it as something else.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-=:,@%+".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace(char::is_control, " ").replace('\'', "'\\''")),
    }
}

/// What a job changes within its sweep.
fn point(point: &Value) -> String {
    let Some(point) = point.as_object() else { return point.to_string() };
    let texts = point.iter().map(|(key, value)| match value.as_str() {
        Some(text) => format!("{key}={text}"),
        None if value.is_null() => format!("{key}=none"),
        None => format!("{key}={value}"),
    });
    texts.collect::<Vec<_>>().join(" ")
}

fn needs(job: &Job) -> String {
    let mut needs = Vec::new();
    let hosts = GpuCount { least: job.hosts, most: job.hosts_most };
    if hosts.most > 1 {
        needs.push(format!("{hosts} hosts"));
    }
    if job.ranks > 1 {
        let each = if hosts.most > 1 { " on each" } else { "" };
        needs.push(format!("{} ranks{each}", job.ranks));
    }
    let gpus = GpuCount { least: job.gpus, most: job.gpus_most };
    if gpus.most > 0 {
        let plural = if gpus == GpuCount::exactly(1) { "" } else { "s" };
        let memory = match job.gpu_memory {
            0 => String::new(),
            bytes => format!(" with {}{}", memory(bytes), if gpus.most > 1 { " each" } else { "" }),
        };
        needs.push(format!("{gpus} gpu{plural}{memory}"));
    }
    needs.push(labels(&job.labels));
    needs.retain(|need| !need.is_empty());
    needs.join(", ")
}

/// Jobs by id, name and state; of many the first.
fn named(jobs: &[Job]) -> String {
    let name = |job: &Job| format!("{} {} ({})", job.short, job.name, job.state);
    let mut names: Vec<String> = jobs.iter().take(NAMED).map(name).collect();
    if jobs.len() > NAMED {
        names.push(format!("and {} more", jobs.len() - NAMED));
    }
    names.join(", ")
}

/// The ranks of a seat, the first and how many, where it takes part in an attempt of `world` ranks: those that were
/// ready and not needed come behind.
pub fn its_ranks(seat: &SeatRow, world: Option<i32>) -> Option<(i64, i64)> {
    let (first, ranks) = (seat.first?, i64::from(seat.ranks?));
    (first + ranks <= i64::from(world?)).then_some((first, ranks))
}

/// Another host of an attempt.
fn add_seat(lines: &mut Lines, seat: &SeatRow, world: Option<i32>) {
    let host = seat.host.as_deref().unwrap_or_default();
    let ranks = match its_ranks(seat, world) {
        Some((first, 1)) => format!("rank {first}"),
        Some((first, ranks)) => format!("ranks {first} to {}", first + ranks - 1),
        None => "no rank".to_owned(),
    };
    let state = if seat.ended_at.is_some() { "" } else { ", at work" };
    let reason = seat.reason.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    lines.add("  with", format!("{ranks} on {host}{state}{reason}"));
}

fn add_attempt(lines: &mut Lines, attempt: &AttemptRow, seats: &[&SeatRow]) {
    let state = match (attempt.outcome, attempt.ended_at) {
        (Some(outcome), Some(end)) => {
            let took = Duration::try_from(end - attempt.started_at).unwrap_or_default();
            let outcome = format!("{outcome:?}").to_lowercase();
            format!("{outcome} after {}", terminal::duration(took))
        }
        _ => "running".to_owned(),
    };
    let from = match attempt.resumed_at {
        Some(step) if step > 0 => format!(", from step {step}"),
        _ => String::new(),
    };
    let reason = attempt.reason.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    let hosts = 1 + seats.iter().filter_map(|seat| its_ranks(seat, attempt.world)).count();
    let ranks = match (attempt.world, hosts) {
        (None | Some(1), _) => String::new(),
        (Some(ranks), 1) => format!(", {ranks} ranks"),
        (Some(ranks), hosts) => format!(", {ranks} ranks on {hosts} hosts"),
    };
    let label = format!("attempt {}", attempt.number);
    let state = terminal::states(&state);
    lines.add(&label, format!("{state} on {}{ranks}{from}{reason}", attempt.host));
    lines.add("  log", attempt.log_path.as_deref().unwrap_or_default());
}
