//! The workers: who is alive, who was lost, who is of another version.

use std::time::Duration;

use registry::{Result, Server};

use super::Findings;

const AREA: &str = "workers";

/// Whether this host can hold the jobs of a worker to its roots.
pub(super) fn bounds(found: &mut Findings) {
    let check = "bounds";
    match ::storage::roots::available() {
        Ok(()) => {
            found.ok(AREA, check, "this kernel can hold jobs to --data-root and --output-root")
        }
        Err(why) => {
            let remedy = "no worker with --data-root or --output-root starts here: on a shared server use another \
                          kernel, or a container that sees these folders only and --trust-submitters";
            found.warn(AREA, check, why, remedy);
        }
    }
}

pub(super) async fn examine(
    found: &mut Findings,
    server: &mut Server,
    lease: Duration,
) -> Result<()> {
    let rows = server.seen_workers(lease).await?;
    let alive: Vec<String> = rows
        .iter()
        .filter(|row| row.alive)
        .map(|row| {
            let gpus = match row.gpus {
                0 => String::new(),
                gpus => format!(", {}", super::count(gpus as usize, "GPU")),
            };
            format!(
                "{} on {} ({}{gpus})",
                row.name,
                row.host,
                super::count(row.slots as usize, "slot")
            )
        })
        .collect();
    let text = match alive.len() {
        0 => "none is alive".to_owned(),
        number => format!("{number} alive: {}", super::few(&alive)),
    };
    found.ok(AREA, "alive", text);

    let ailing: Vec<String> = rows
        .iter()
        .filter(|row| row.alive)
        .filter_map(|row| Some(format!("{} on {}: {}", row.name, row.host, row.ails.as_ref()?)))
        .collect();
    if !ailing.is_empty() {
        let claim = if ailing.len() == 1 { "claims" } else { "claim" };
        let workers = super::count(ailing.len(), "worker");
        let text = format!("{workers} {claim} nothing: {}", super::few(&ailing));
        let remedy = "mend that host: they look again by themselves, once a minute at the latest";
        found.warn(AREA, "ailing", text, remedy);
    }

    let lost: Vec<String> = rows
        .iter()
        .filter(|row| !row.alive)
        .map(|row| format!("{} on {}, {} ago", row.name, row.host, super::span(row.unseen)))
        .collect();
    if !lost.is_empty() {
        let were = if lost.len() == 1 { "was" } else { "were" };
        let text = format!(
            "{} {were} lost today, last seen: {}",
            super::count(lost.len(), "worker"),
            super::few(&lost)
        );
        let remedy = "killed, or cut off from the database: look at that host; other workers take its \
                      jobs back";
        found.warn(AREA, "lost", text, remedy);
    }

    let ours = env!("CARGO_PKG_VERSION");
    let others: Vec<String> = rows
        .iter()
        .filter(|row| row.alive && row.version.as_deref() != Some(ours))
        .map(|row| {
            let version = row.version.as_deref().unwrap_or("an unknown version");
            format!("{} on {} is {version}", row.name, row.host)
        })
        .collect();
    if !others.is_empty() {
        let text =
            format!("other versions than this program, which is {ours}: {}", super::few(&others));
        found.warn(AREA, "versions", text, "install the same version on every host");
    }
    Ok(())
}
