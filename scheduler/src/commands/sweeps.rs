//! `sweeps` and `sweep`: many runs as one.

use std::collections::{BTreeMap, BTreeSet};

use registry::{Blocking, Job, Kind, Run, Several, Sweep, ranking};
use serde::Serialize;
use serde_json::Value;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler sweeps
  scheduler sweeps --archived")]
pub struct ListArguments {
    /// List at most N
    #[arg(long, value_name = "N", default_value_t = 50, conflicts_with = "all")]
    limit: u32,
    /// As many as there are, archived ones too
    #[arg(long, conflicts_with = "archived")]
    all: bool,
    /// Only archived ones (`scheduler archive`), which are left out otherwise
    #[arg(long)]
    archived: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler sweep colorization --by validation/loss
  scheduler sweep colorization --at-most 2")]
pub struct Arguments {
    /// The sweep
    sweep: String,
    /// Let at most N of its jobs run at once from now on; 0 lifts the limit
    #[arg(long, value_name = "N")]
    at_most: Option<u16>,
    /// The metric to compare its runs by, lowest first [default: validation/loss, which is measured with the
    /// EMA weights, where a run has it; else loss]
    #[arg(long, visible_alias = "metric", value_name = "METRIC")]
    by: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Story {
    sweep: Sweep,
    points: Vec<Point>,
    /// The metric that the rows are compared by.
    by: String,
    /// Points that differ by their seed only, the best first.
    rows: Vec<ranking::Row>,
}

#[derive(Serialize)]
struct Point {
    job: Job,
    run: Option<Run>,
}

pub fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let limit = (!arguments.all).then_some(arguments.limit.into());
    let archived = (!arguments.all).then_some(arguments.archived);
    let sweeps = db.wait(db.sweeps(archived, limit))?;
    if arguments.json {
        return terminal::print_json(&sweeps);
    }
    if sweeps.is_empty() && arguments.archived {
        return terminal::print("no archived sweeps");
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
            states(sweep) + if sweep.archived_at.is_some() { ", archived" } else { "" },
            super::ago(sweep.created_at),
        ]);
    }
    table.print()
}

pub fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    // To change its limit it must be clear which one it is.
    let several = if arguments.at_most.is_some() { Several::Refuse } else { Several::Newest };
    let id = db.wait(db.find_among(&arguments.sweep, &[Kind::Sweep], several))?.id;
    let mut sweep = db.wait(db.sweep(id))?;
    if let Some(limit) = arguments.at_most {
        let limit = (limit > 0).then_some(i32::from(limit));
        sweep = db.wait(db.limit_sweep(sweep.id, limit))?;
    }
    let jobs = db.wait(db.sweep_jobs(sweep.id))?;
    let ids: Vec<_> = jobs.iter().filter_map(|job| job.run_id).collect();
    let runs = db.wait(db.runs_by_id(&ids))?;
    let by = match &arguments.by {
        Some(metric) => {
            super::runs::check_metric(metric, &runs, &format!("sweep {} --json", sweep.short))?;
            metric.clone()
        }
        None => ranking::judge(&runs).to_owned(),
    };
    let mut levels = BTreeMap::new();
    for run in runs.iter().filter(|run| run.latest.get(&by).is_some()) {
        let points = db.wait(db.metric_series(run.id, Some(&by)))?;
        levels.extend(
            registry::compare::final_level(&by, &points).map(|level| (run.id, level.value)),
        );
    }
    let mut runs: BTreeMap<_, _> = runs.into_iter().map(|run| (run.id, run)).collect();
    let points: Vec<Point> = jobs
        .into_iter()
        .map(|job| Point { run: job.run_id.and_then(|run| runs.remove(&run)), job })
        .collect();
    let measured = points.iter().map(|point| ranking::Measured {
        job: point.job.short.clone(),
        point: point.job.sweep_point.clone().unwrap_or_default(),
        state: point.job.state,
        steps: point.run.as_ref().map(|run| [run.last_step, run.total_steps]),
        value: point.run.as_ref().and_then(|run| levels.get(&run.id).copied()),
    });
    let rows = ranking::rank(measured, &by);
    let story = Story { sweep, points, by, rows };
    if arguments.json { terminal::print_json(&story) } else { print(&story) }
}

fn print(story: &Story) -> anyhow::Result<()> {
    let Story { sweep, by, rows, .. } = story;
    let limit = sweep.at_most.map(|limit| format!(", at most {limit} at once")).unwrap_or_default();
    let (short, name, owner) = (&sweep.short, &sweep.name, &sweep.owner);
    terminal::print(&format!("sweep {short} {name} of {owner}: {}{limit}", states(sweep)))?;
    if let Some(note) = &sweep.note {
        terminal::print(&format!("note: {note}"))?;
    }
    if let Some(at) = sweep.archived_at {
        terminal::print(&format!("archived {}", terminal::moment(at)))?;
    }
    let keys: BTreeSet<&str> = rows.iter().flat_map(ranking::Row::keys).collect();
    let seeds = rows.iter().any(|row| row.jobs.len() > 1);
    let mut headings = vec!["job"];
    headings.extend(&keys);
    headings.extend(seeds.then_some("seeds"));
    headings.extend(["state", "step", by.as_str(), ""]);
    let mut table = terminal::Table::new(&headings).cut(&["job"]);
    for row in rows {
        let mut cells = vec![row.jobs.join(" ")];
        cells.extend(keys.iter().map(|key| row.point.get(*key).map(plain).unwrap_or_default()));
        cells.extend(seeds.then(|| row.jobs.len().to_string()));
        cells.extend([row.states(), row.steps(), row.value()]);
        cells.push(if row.best { "best".to_owned() } else { String::new() });
        table.row(cells);
    }
    table.print()?;
    terminal::print(&ranking::explained(by, rows))
}

/// A value as it was typed: texts without quotation marks.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        value => value.to_string(),
    }
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
