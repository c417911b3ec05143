//! `sweeps` and `sweep`: many runs as one.

use std::collections::{BTreeMap, BTreeSet};

use registry::{Blocking, Job, Run, Sweep};
use serde::Serialize;
use serde_json::Value;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler sweeps")]
pub struct ListArguments {
    /// List at most N
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler sweep colorization --metric validation/loss
  scheduler sweep colorization --at-most 2")]
pub struct Arguments {
    /// The sweep
    sweep: String,
    /// Let at most N of its jobs run at once from now on; 0 lifts the limit
    #[arg(long, value_name = "N")]
    at_most: Option<u16>,
    /// The metric to compare its runs by [default: the one by which they choose their best checkpoint]
    #[arg(long)]
    metric: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Story {
    sweep: Sweep,
    points: Vec<Point>,
}

#[derive(Serialize)]
struct Point {
    job: Job,
    run: Option<Run>,
}

pub fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let sweeps = db.wait(db.sweeps(arguments.limit.into()))?;
    if arguments.json {
        return terminal::print_json(&sweeps);
    }
    if sweeps.is_empty() {
        return terminal::print("no sweeps (`trainer submit --sweep KEY=V1,V2` queues one)");
    }
    let mut table =
        terminal::Table::new(&["sweep", "name", "owner", "jobs", "at most", "states", "created"])
            .cut(&["name", "states"]);
    for sweep in &sweeps {
        table.row([
            sweep.short.clone(),
            sweep.name.clone(),
            sweep.owner.clone(),
            sweep.jobs.to_string(),
            sweep.at_most.map(|limit| limit.to_string()).unwrap_or_default(),
            states(sweep),
            super::ago(sweep.created_at),
        ]);
    }
    table.print()
}

pub fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let mut sweep = db.wait(db.find_sweep(&arguments.sweep))?;
    if let Some(limit) = arguments.at_most {
        let limit = (limit > 0).then_some(i32::from(limit));
        sweep = db.wait(db.limit_sweep(sweep.id, limit))?;
    }
    let jobs = db.wait(db.sweep_jobs(sweep.id))?;
    let ids: Vec<_> = jobs.iter().filter_map(|job| job.run_id).collect();
    let mut runs: BTreeMap<_, _> =
        db.wait(db.runs_by_id(&ids))?.into_iter().map(|run| (run.id, run)).collect();
    let points = jobs
        .into_iter()
        .map(|job| Point { run: job.run_id.and_then(|run| runs.remove(&run)), job })
        .collect();
    let story = Story { sweep, points };
    if arguments.json { terminal::print_json(&story) } else { print(&story, arguments) }
}

fn print(story: &Story, arguments: &Arguments) -> anyhow::Result<()> {
    let Story { sweep, points } = story;
    let limit = sweep.at_most.map(|limit| format!(", at most {limit} at once")).unwrap_or_default();
    terminal::print(&format!(
        "sweep {} {} of {}: {}{limit}",
        sweep.short,
        sweep.name,
        sweep.owner,
        states(sweep)
    ))?;
    let metric = arguments
        .metric
        .as_deref()
        .or_else(|| points.iter().find_map(|point| Some(point.run.as_ref()?.best_metric.as_str())))
        .unwrap_or("loss");
    let changed = |point: &Point| point.job.sweep_point.clone();
    let keys: BTreeSet<String> = points
        .iter()
        .filter_map(changed)
        .filter_map(|point| Some(point.as_object()?.keys().cloned().collect::<Vec<_>>()))
        .flatten()
        .collect();
    let mut headings = vec!["job"];
    headings.extend(keys.iter().map(String::as_str));
    headings.extend(["state", "step", metric]);
    let mut table = terminal::Table::new(&headings);
    for point in points {
        let mut row = vec![point.job.short.clone()];
        let changed = changed(point).unwrap_or_default();
        row.extend(keys.iter().map(|key| changed.get(key).map(plain).unwrap_or_default()));
        row.push(point.job.state.to_string());
        let run = point.run.as_ref();
        row.push(
            run.map(|run| super::fraction(Some(run.last_step), Some(run.total_steps)))
                .unwrap_or_default(),
        );
        row.push(run.map(|run| super::metric(&run.latest, metric)).unwrap_or_default());
        table.row(row);
    }
    table.print()
}

/// A value as it was typed: texts without quotation marks.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `3 succeeded, 1 running, 12 queued`.
fn states(sweep: &Sweep) -> String {
    let counts = [
        (sweep.failed, "failed"),
        (sweep.succeeded, "succeeded"),
        (sweep.running, "running"),
        (sweep.queued, "queued"),
        (sweep.paused, "paused"),
        (sweep.cancelled, "cancelled"),
    ];
    let there = counts.iter().filter(|(count, _)| *count > 0);
    there.map(|(count, state)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}
