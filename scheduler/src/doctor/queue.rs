//! The queue: jobs that nobody works on though they look so, and jobs that nobody can do.

use std::time::Duration;

use registry::{Result, Server, why_not};

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
        let Some((reason, remedy)) = why_not(&row, &offers, terminal::bytes) else { continue };
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
