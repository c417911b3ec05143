//! The queue: jobs that nobody works on though they look so, and jobs that nobody can do.

use std::time::Duration;

use registry::{Offer, Result, Server, Wants};

use super::Findings;

const AREA: &str = "queue";

pub(super) async fn examine(
    found: &mut Findings,
    server: &mut Server,
    lease: Duration,
) -> Result<()> {
    dead_leases(found, server, lease).await?;
    stranded(found, server).await?;
    out_of_reach(found, server, lease).await
}

/// Any worker takes back what was lost within seconds; what has been lost for longer shows that none
/// is there.
async fn dead_leases(found: &mut Findings, server: &mut Server, lease: Duration) -> Result<()> {
    let dead = server.expired(lease).await?;
    match dead.first() {
        None => found.ok(AREA, "leases", "every running job is held by a worker"),
        Some(oldest) => {
            let names: Vec<String> = dead.iter().map(|row| row.short.clone()).collect();
            let text = format!(
                "the lease of {} ran out {} ago and nobody took it back: {}",
                super::count(dead.len(), "running job"),
                super::span(oldest.seconds),
                super::few(&names),
            );
            let remedy = "no worker is alive: start one (`scheduler worker`), it takes them back";
            found.fail(AREA, "leases", text, remedy);
        }
    }
    Ok(())
}

/// What fails cancels whatever waits for it. A row that was written by other hands may be left behind.
async fn stranded(found: &mut Findings, server: &mut Server) -> Result<()> {
    let stranded = server.stranded().await?;
    match stranded.first() {
        None => found.ok(AREA, "parents", "no job waits for one that has failed or was cancelled"),
        Some((job, parent)) => {
            let text = format!(
                "{} can never begin: {job} waits for {parent}, which has failed or was cancelled",
                super::count(stranded.len(), "job"),
            );
            let remedy = format!("`scheduler retry {parent}`, or `scheduler cancel {job}`");
            found.warn(AREA, "parents", text, remedy);
        }
    }
    Ok(())
}

async fn out_of_reach(found: &mut Findings, server: &mut Server, lease: Duration) -> Result<()> {
    let offers = server.offers(lease).await?;
    let queued = server.wants().await?;
    let all: i64 = queued.iter().map(|row| row.count).sum();
    if offers.is_empty() && all > 0 {
        let text = format!("{} and no worker is alive", super::count(all as usize, "queued job"));
        found.warn(AREA, "reach", text, "start one: `scheduler worker`");
        return Ok(());
    }
    let mut stuck = false;
    for row in queued {
        let Some((reason, remedy)) = why_not(&row, &offers) else { continue };
        stuck = true;
        let others =
            if row.count > 1 { format!(" and {} like it", row.count - 1) } else { String::new() };
        found.warn(AREA, "reach", format!("queued job {}{others} {reason}", row.oldest), remedy);
    }
    if !stuck {
        let text = match all {
            0 => "no job is queued".to_owned(),
            1 => "the queued job can be done by a worker that is alive".to_owned(),
            all => format!("the {all} queued jobs can be done by workers that are alive"),
        };
        found.ok(AREA, "reach", text);
    }
    Ok(())
}

/// Why none of these workers can do the job, and what to do; none where one can. The workers are
/// narrowed down by one wish after the other, so that the reason is the first that leaves nobody.
fn why_not(wants: &Wants, offers: &[Offer]) -> Option<(String, String)> {
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
    let size = |offer: &&Offer| {
        let mut sizes = offer.gpus.clone();
        sizes.sort_unstable_by_key(|size| std::cmp::Reverse(*size));
        least.checked_sub(1).and_then(|last| sizes.get(last).copied())
    };
    let most = fitting.iter().filter_map(size).max().unwrap_or(0);
    if wants.gpus > 0 && most < wants.gpu_memory {
        let bytes = |count: i64| terminal::bytes(u64::try_from(count).unwrap_or(0));
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
    use registry::JobKind;
    use serde_json::{Value, json};

    use super::*;

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
        let reason =
            |wants: &Wants, offers: &[Offer]| why_not(wants, offers).map(|(reason, _)| reason);

        assert_eq!(reason(&wants(8, 80 << 30, json!({"site": "b"})), &all), None);
        assert_eq!(reason(&wants(0, 1 << 60, json!({})), &all), None, "no GPU, no memory of one");
        let text = reason(&wants(0, 0, json!({})), &all[2..]).unwrap();
        assert!(text.contains("no alive worker has the program trainer"), "{text}");
        let text = reason(&wants(0, 0, json!({"site": "c"})), &all).unwrap();
        assert!(text.contains("the label site=c"), "{text}");
        let text = reason(&wants(2, 0, json!({"site": "a"})), &all).unwrap();
        assert!(text.contains("asks for 2 GPUs") && text.contains("have 1 at most"), "{text}");
        let text = reason(&wants(1, 81 << 30, json!({})), &all).unwrap();
        assert!(text.contains("GPUs of 87 GB") && text.contains("86 GB at most"), "{text}");
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
