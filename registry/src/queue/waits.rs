//! Why a queued job waits, and why no worker can do it: `scheduler show`, `scheduler doctor` and the control room say the same.
//! Owns nothing; spans and sizes are written as the caller writes them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;

use crate::{Job, Offer, Sweep, Wants, WorkerRow, WorkerState};

/// What a queued job waits for: the jobs `parents` (short id and name), its time, a place in its sweep, a worker.
pub fn waiting(
    job: &Job,
    parents: &[String],
    sweep: Option<&Sweep>,
    workers: &[WorkerRow],
    span: fn(Duration) -> String,
) -> String {
    if let [first, others @ ..] = parents {
        return match others {
            [] => format!("waits for {first}"),
            others => format!("waits for {first} and {} more", others.len()),
        };
    }
    let tries = match job.attempts_used {
        0 => String::new(),
        used => format!(", try {} of {}", used + 1, job.max_attempts),
    };
    let left = Duration::try_from(job.run_after - OffsetDateTime::now_utc()).unwrap_or_default();
    if left > Duration::ZERO {
        let when = if job.attempts_used > 0 { "again in" } else { "not for" };
        return format!("{when} {}{tries}", span(left));
    }
    if let Some(Sweep { at_most: Some(most), running, .. }) = sweep
        && *running >= i64::from(*most)
    {
        return format!("waits for its sweep, {running} of {most} at most run{tries}");
    }
    let alive: Vec<&WorkerRow> =
        workers.iter().filter(|worker| worker.state == WorkerState::Alive).collect();
    let ailing = workers.iter().filter(|it| it.state == WorkerState::Ailing).count();
    let fit = alive.iter().filter(|worker| fits(job, worker)).count();
    let what = match (alive.len(), fit) {
        (0, _) if ailing > 0 => format!("the workers that are there ({ailing}) are ailing"),
        (0, _) => "no worker is there (`scheduler worker` starts one)".to_owned(),
        (there, 0) => format!("none of the workers that are there ({there}) can do it"),
        _ if let Some(short) = short_of_hosts(job, workers) => short,
        _ => "waits for a free worker".to_owned(),
    };
    format!("{what}{tries}")
}

/// Of a job that wants more hosts than have workers that could do it: that this is so.
pub fn short_of_hosts(job: &Job, workers: &[WorkerRow]) -> Option<String> {
    if job.hosts == 1 {
        return None;
    }
    let fit = workers.iter().filter(|it| it.state == WorkerState::Alive && fits(job, it));
    let hosts: BTreeSet<&str> = fit.map(|worker| worker.host.as_str()).collect();
    let there = hosts.len();
    let have = if there == 1 { "has" } else { "have" };
    let wants = job.hosts;
    (i64::try_from(there).is_ok_and(|there| there < wants.into()))
        .then(|| format!("wants {wants} hosts, {there} {have} workers that can do it"))
}

/// Whether a worker could do a job; a worker whose kinds are not known can do any.
fn fits(job: &Job, worker: &WorkerRow) -> bool {
    let kind = worker.kinds.is_empty() || worker.kinds.iter().any(|kind| kind == job.kind.name());
    let big_enough = worker.gpu_sizes.iter().filter(|memory| **memory >= job.gpu_memory).count();
    kind && usize::try_from(job.gpus).is_ok_and(|least| least <= big_enough)
        && carries(&worker.labels, &job.labels)
}

fn carries(labels: &Value, wanted: &Value) -> bool {
    let mut wanted = wanted.as_object().into_iter().flatten();
    wanted.all(|(key, value)| labels.get(key) == Some(value))
}

/// Why none of these workers can do the job, and what to do; none where one can. The workers are
/// narrowed down by one wish after the other, so that the reason is the first that leaves nobody.
pub fn why_not(
    wants: &Wants,
    offers: &[Offer],
    size: fn(u64) -> String,
) -> Option<(String, String)> {
    let kind = wants.kind.name();
    let left: Vec<&Offer> = offers
        .iter()
        .filter(|offer| offer.kinds.is_empty() || offer.kinds.iter().any(|it| it == kind))
        .collect();
    if left.is_empty() {
        let program = wants.kind.program();
        return Some((
            format!("is of kind {kind}, and no alive worker has the program {program}"),
            format!("put {program} beside `scheduler` (or into PALETTE_BIN) where a worker runs"),
        ));
    }
    let labels = wants.labels.as_object().cloned().unwrap_or_default();
    let mut fitting = left;
    for (label, value) in &labels {
        fitting.retain(|offer| offer.labels.get(label) == Some(value));
        if fitting.is_empty() {
            let label = format!("{label}={}", value.as_str().unwrap_or_default());
            return Some((
                format!(
                    "asks for the label {label}, and no alive worker that could do it carries it"
                ),
                format!("start a worker with --label {label}"),
            ));
        }
    }
    let least = usize::try_from(wants.gpus).unwrap_or(0);
    let most = fitting.iter().map(|offer| offer.gpus.len()).max().unwrap_or(0);
    fitting.retain(|offer| offer.gpus.len() >= least);
    if fitting.is_empty() {
        return Some((
            format!(
                "asks for {} GPUs, and alive workers that could do it have {most} at most",
                wants.gpus
            ),
            "start a worker where there are so many, or cancel it".into(),
        ));
    }
    // The size of the last of as many as it needs, on the worker where that is the biggest.
    let last = |offer: &&Offer| {
        let mut sizes = offer.gpus.clone();
        sizes.sort_unstable_by_key(|one| std::cmp::Reverse(*one));
        least.checked_sub(1).and_then(|last| sizes.get(last).copied())
    };
    let most = fitting.iter().filter_map(last).max().unwrap_or(0);
    if wants.gpus > 0 && most < wants.gpu_memory {
        let bytes = |count: i64| size(u64::try_from(count).unwrap_or(0));
        return Some((
            format!(
                "asks for GPUs of {}, and those of alive workers that could do it have {} at most",
                bytes(wants.gpu_memory),
                bytes(most)
            ),
            "start a worker where there are bigger ones, or cancel it".into(),
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::JobKind;

    fn gigabytes(count: u64) -> String {
        format!("{:.1} GB", count as f64 / 1e9)
    }

    fn offer(kinds: &[&str], gpus: usize, gpu_memory: i64, labels: Value) -> Offer {
        let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect::<Vec<_>>();
        let gpus = vec![gpu_memory; gpus];
        Offer { kinds, gpus, labels }
    }

    #[test]
    fn the_reason_is_the_first_wish_that_leaves_no_worker() {
        let wants = |gpus, gpu_memory, labels| Wants {
            kind: JobKind::Train,
            gpus,
            gpu_memory,
            labels,
            count: 1,
            oldest: String::new(),
        };
        let small = offer(&["train"], 1, 8 << 30, json!({"site": "a"}));
        let big = offer(&["train"], 8, 80 << 30, json!({"site": "b"}));
        let sampler = offer(&["sample"], 8, 80 << 30, json!({"site": "c"}));
        let all = [small, big, sampler];
        let reason = |wants: &Wants, offers: &[Offer]| {
            why_not(wants, offers, gigabytes).map(|(reason, _)| reason)
        };

        assert_eq!(reason(&wants(8, 80 << 30, json!({"site": "b"})), &all), None);
        assert_eq!(reason(&wants(0, 1 << 60, json!({})), &all), None, "no GPU, no memory of one");
        let text = reason(&wants(0, 0, json!({})), &all[2..]).unwrap();
        assert!(text.contains("no alive worker has the program trainer"), "{text}");
        let text = reason(&wants(0, 0, json!({"site": "c"})), &all).unwrap();
        assert!(text.contains("the label site=c"), "{text}");
        let text = reason(&wants(2, 0, json!({"site": "a"})), &all).unwrap();
        assert!(text.contains("asks for 2 GPUs") && text.contains("have 1 at most"), "{text}");
        let text = reason(&wants(1, 81 << 30, json!({})), &all).unwrap();
        assert!(text.contains("GPUs of 87.0 GB") && text.contains("85.9 GB at most"), "{text}");
        // Of unequal ones enough must be big enough.
        let mut mixed = offer(&["train"], 1, 8 << 30, json!({}));
        mixed.gpus.push(80 << 30);
        let mixed = [mixed];
        assert_eq!(reason(&wants(1, 80 << 30, json!({})), &mixed), None);
        let text = reason(&wants(2, 80 << 30, json!({})), &mixed).unwrap();
        assert!(text.contains("8.6 GB at most"), "{text}");
        // A worker of an older version does not say what it can do.
        assert_eq!(reason(&wants(0, 0, json!({})), &[offer(&[], 0, 0, json!({}))]), None);
    }
}
