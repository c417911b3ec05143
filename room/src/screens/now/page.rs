//! The page: cards, one below the other on a phone.

use std::time::Duration;

use maud::{Markup, html};
use time::OffsetDateTime;

use super::doctor::Report;
use super::overview::{Card, Failure, Overview};
use super::spark::spark;
use crate::Who;
use crate::access::Role;
use crate::format::{ago, bytes, count, number, span};
use crate::page::{csrf_input, empty};

/// The page, and within it what is kept up to date.
pub fn body(overview: &Overview, seen: OffsetDateTime, who: &Who) -> Markup {
    html! {
        div #now data-live="/now/part" { (parts(overview, seen, who)) }
    }
}

/// What is kept up to date.
pub fn parts(overview: &Overview, seen: OffsetDateTime, who: &Who) -> Markup {
    let news: Vec<&Failure> =
        overview.failed.iter().filter(|failure| failure.at.is_none_or(|at| at > seen)).collect();
    html! {
        div.figures #figures { (figures(overview)) }
        (warnings(overview))
        (failed(&news, seen, who))
        section #running aria-labelledby="running-head" {
            h2 #running-head { "Running" @if overview.running_count > 0 { " " span.quiet { (count(overview.running_count)) } } }
            @if overview.running.is_empty() { (nothing_runs(overview)) }
            div.cards {
                @for card in &overview.running { (self::card(card)) }
            }
            @let more = overview.running_count - overview.running.len() as i64;
            @if more > 0 { p { a href="/queue" { "and " (count(more)) " more" } } }
        }
    }
}

fn figures(overview: &Overview) -> Markup {
    let Overview { gpus_busy, gpus_all, workers, .. } = overview;
    html! {
        a.figure #figure-running href="/queue" { b { (count(overview.running_count)) } "running" }
        a.figure #figure-queued href="/queue" {
            b { (count(overview.queued_count)) } "queued"
            @if overview.paused_count > 0 { span.quiet { ", " (count(overview.paused_count)) " paused" } }
        }
        a.figure #figure-gpus href="/queue" {
            b { @if *gpus_all == 0 && *gpus_busy == 0 { "none" } @else { (gpus_busy) "/" (gpus_all) } }
            "GPUs busy"
            span.quiet { ", " (workers) @if *workers == 1 { " worker" } @else { " workers" } }
        }
        @for (at, disk) in overview.disks.iter().enumerate() {
            div.figure.tight[disk.tight] id=(format!("figure-disk-{at}")) {
                b { (bytes(disk.free)) }
                "free of " (bytes(disk.all))
                span.place title=(disk.place) { (disk.place) }
            }
        }
    }
}

fn warnings(overview: &Overview) -> Markup {
    let Report { at, findings, error } = &overview.doctor;
    let failed = findings.iter().filter(|finding| finding.verdict == "failed").count();
    html! {
        section #doctor aria-label="Warnings" {
            @if overview.workers_lost > 0 {
                p.note.bad {
                    (overview.workers_lost)
                    @if overview.workers_lost == 1 { " worker is lost: it was" } @else { " workers are lost: they were" }
                    " not seen for longer than a lease. " a href="/queue" { "Machines" }
                }
            }
            @if let Some(error) = error { p.note.warn { "The doctor did not answer: " (error) } }
            @if !findings.is_empty() {
                details open[failed > 0] {
                    summary {
                        (findings.len()) @if findings.len() == 1 { " warning" } @else { " warnings" }
                        " of the doctor"
                        @if let Some(at) = at { span.quiet { ", " (ago(*at)) ", on this server's host" } }
                    }
                    @for finding in findings {
                        @let kind = if finding.verdict == "failed" { "note bad" } else { "note warn" };
                        div class=(kind) {
                            b { (finding.area) } ": " (finding.text)
                            @if let Some(remedy) = &finding.remedy { br; span.quiet { (remedy) } }
                        }
                    }
                }
            }
        }
    }
}

fn failed(news: &[&Failure], seen: OffsetDateTime, who: &Who) -> Markup {
    html! {
        section #failed aria-labelledby="failed-head" {
            @if !news.is_empty() {
                div.spread {
                    h2 #failed-head { "Failed since you looked " span.quiet { (news.len()) } }
                    @if who.role >= Role::User {
                        form method="post" action="/seen" {
                            (csrf_input(who))
                            button title=(format!("shows what failed after now; until now: after {}", ago(seen))) { "Mark as seen" }
                        }
                    }
                }
                ul.failures {
                    @for failure in news {
                        li id=(format!("failed-{}", failure.short)) {
                            div.spread {
                                a href=(address(failure.trains, &failure.short)) { (failure.name) }
                                span.quiet.small { (failure.owner) @if let Some(at) = failure.at { ", " (ago(at)) } }
                            }
                            div.reason { (failure.reason) }
                        }
                    }
                }
            }
        }
    }
}

fn nothing_runs(overview: &Overview) -> Markup {
    match (overview.queued_count, overview.workers) {
        (0, _) => empty(
            "Nothing runs and nothing waits. Queue an experiment, and let a worker take it:",
            Some("trainer submit configs/small/multitask.toml\nscheduler worker"),
        ),
        (_, 0) => empty("Jobs wait, and no worker is there. Start one:", Some("scheduler worker")),
        _ => html! { div.empty { p { "Nothing runs. " a href="/queue" { "Why jobs wait" } } } },
    }
}

/// The page of a job.
pub fn address(trains: bool, short: &str) -> String {
    if trains { format!("/runs/{short}") } else { format!("/jobs/{short}") }
}

fn card(card: &Card) -> Markup {
    let sketch: Vec<(i64, f64)> =
        card.sketch.iter().filter_map(|(step, value)| Some((*step, (*value)?))).collect();
    html! {
        article.card.run id=(format!("card-{}", card.short)) {
            h3 { a href=(address(card.trains, &card.short)) { (card.name) } }
            p.quiet.small { (card.owner) ", " (card.kind) @if let Some(host) = &card.host { " on " (host) } }
            @if card.trains {
                div.shown {
                    a.sketch href=(format!("/curves?runs={}", card.short)) {
                        (spark(&sketch, &format!("loss of {}, {} recorded points", card.name, sketch.len())))
                        span.small {
                            "loss "
                            @match (card.loss, card.loss_lost) {
                                (Some(loss), _) => b { (number(loss)) },
                                (None, true) => b.bad { "lost" },
                                (None, false) => span.quiet { "not yet" },
                            }
                        }
                    }
                    a.picture href=(format!("/pictures?runs={}", card.short)) {
                        @if let Some(picture) = &card.picture {
                            img src=(format!("/pictures/{picture}/small")) alt=(format!("newest preview of {}", card.name)) width="72" height="72";
                        } @else { span.quiet.small { "no preview" } }
                    }
                }
            }
            (progress(card))
            (signs(card))
        }
    }
}

fn progress(card: &Card) -> Markup {
    html! {
        div.progress {
            @match (card.done, card.total) {
                (Some(done), Some(total)) if total > 0 => {
                    progress value=(done.clamp(0, total)) max=(total) aria-label=(format!("progress of {}", card.name)) {}
                    div.spread.small {
                        span { (count(done)) " of " (count(total)) @if card.trains { " steps" } }
                        span.quiet { @match card.left {
                            Some(left) => { (span(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX))) " left" },
                            None => { "time left not known yet" },
                        } }
                    }
                }
                (Some(done), _) => div.small { (count(done)) " done" },
                _ => div.small.quiet { "no progress yet" },
            }
            @if let Some(message) = &card.message { div.small.quiet.cut title=(message) { (message) } }
        }
    }
}

fn signs(card: &Card) -> Markup {
    html! {
        p.small.signs {
            @match card.unseen {
                Some(unseen) if card.lost => span.bad { "no sign of life for " (span(seconds(unseen))) },
                Some(unseen) if unseen < 15.0 => span.quiet { "alive" },
                Some(unseen) => span.quiet { "seen " (span(seconds(unseen))) " ago" },
                None => span.quiet { "runs in the foreground" },
            }
            @match card.asked {
                Some("pause") => ", is asked to pause",
                Some("cancel") => ", is asked to end",
                Some(_) => ", is asked to give way",
                None => "",
            }
        }
        @if let Some(tried) = &card.tried { p.note.warn.small { "tried again after: " (tried) } }
    }
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or_default()
}
