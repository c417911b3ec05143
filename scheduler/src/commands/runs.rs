//! `runs`, `checkpoints`, `metrics`: the registry.

use registry::{Blocking, Database, Error, Run, RunKind};
use serde_json::Value;

use super::filter::Filter;
use super::watch::Watch;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler runs --experiment colorization
  scheduler runs --state succeeded --since 1w --json")]
pub struct ListArguments {
    /// Only runs of these kinds: train, import; a list with commas, or repeated
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<RunKind>,
    #[command(flatten)]
    filter: Filter,
    /// Sort by the latest value of this metric, lowest first, and show it
    #[arg(long, value_name = "METRIC")]
    sort: Option<String>,
    #[command(flatten)]
    watch: Watch,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler checkpoints palette")]
pub struct RunArguments {
    /// The run
    run: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler metrics palette --name validation/loss")]
pub struct MetricsArguments {
    /// The run
    run: String,
    /// Only this metric (loss, images_per_second, …)
    #[arg(long)]
    name: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    if arguments.json {
        let db = Blocking::open()?;
        return terminal::print_json(&db.wait(read(&db, arguments))?);
    }
    arguments.watch.print(async |db| {
        let runs = read(db, arguments).await?;
        if runs.is_empty() {
            return Ok(arguments.filter.nothing("runs", arguments.kinds.is_empty()));
        }
        let table = table(&runs, arguments.sort.as_deref());
        Ok(table.text(terminal::width()) + &arguments.filter.more(runs.len()))
    })
}

/// The newest runs; where they are sorted the first of all that fit.
async fn read(db: &Database, arguments: &ListArguments) -> registry::Result<Vec<Run>> {
    let mut filter = arguments.filter.of(db, &arguments.kinds).await?;
    let Some(metric) = &arguments.sort else { return db.runs(filter).await };
    let limit = filter.limit.take();
    let mut runs = db.runs(filter).await?;
    check_metric(metric, &runs, "runs --json")?;
    let value = |run: &Run| run.latest.get(metric).map(|value| value.as_f64().unwrap_or(f64::NAN));
    // What is lost comes behind all numbers, what has no such metric behind that.
    runs.sort_by(|a, b| match (value(a), value(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    });
    runs.truncate(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX));
    Ok(runs)
}

/// That at least one of the runs has the metric, where there are any.
pub fn check_metric(metric: &str, runs: &[Run], list: &str) -> registry::Result<()> {
    let names = || {
        let values = runs.iter().flat_map(|run| [&run.latest, &run.initial]);
        values.filter_map(Value::as_object).flat_map(|values| values.keys().map(String::as_str))
    };
    if runs.is_empty() || names().any(|name| name == metric) {
        return Ok(());
    }
    Err(Error::NotFound {
        what: "metric".to_owned(),
        name: metric.to_owned(),
        meant: registry::meant(metric, names()),
        list: list.to_owned(),
    })
}

fn table(runs: &[Run], sorted_by: Option<&str>) -> terminal::Table {
    let mut headings =
        vec!["run", "name", "experiment", "owner", "state", "step", "loss", "images/s"];
    let own = sorted_by.filter(|metric| *metric != "loss");
    headings.extend(own);
    headings.push("created");
    let mut table = terminal::Table::new(&headings).cut(&["experiment", "name"]).omit(&[
        "owner",
        "images/s",
        "created",
        "experiment",
        "step",
    ]);
    for run in runs {
        let archived = if run.archived_at.is_some() { ", archived" } else { "" };
        let mut row = vec![
            run.short.clone(),
            run.name.clone(),
            run.experiment.clone(),
            run.owner.clone(),
            format!("{}{archived}", super::run_state(run)),
            super::fraction(Some(run.last_step), Some(run.total_steps)),
            super::metric(&run.latest, "loss"),
            super::metric(&run.latest, "images_per_second"),
        ];
        row.extend(own.map(|metric| super::metric(&run.latest, metric)));
        row.push(super::ago(run.created_at));
        table.row(row);
    }
    table
}

pub fn checkpoints(arguments: &RunArguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let run = db.wait(db.find_run(&arguments.run))?;
    let checkpoints = db.wait(db.checkpoints(run.id))?;
    if arguments.json {
        return terminal::print_json(&checkpoints);
    }
    let aside = db.wait(db.set_aside(run.id))?;
    if checkpoints.is_empty() && aside.is_empty() {
        return terminal::print(&format!("run {} has no checkpoint yet", run.short));
    }
    let mut table = terminal::Table::new(&["step", "size", "written", "loss", "folder"]);
    for checkpoint in checkpoints {
        table.row([
            checkpoint.step.to_string(),
            terminal::bytes(u64::try_from(checkpoint.bytes).unwrap_or(0)),
            super::ago(checkpoint.created_at),
            super::metric(&checkpoint.metrics, "loss"),
            checkpoint.uri,
        ]);
    }
    table.print()?;
    if !aside.is_empty() {
        let steps: Vec<String> = aside.iter().map(ToString::to_string).collect();
        let steps = steps.join(", ");
        terminal::print(&format!(
            "set aside, because they are damaged or the run was taken back: {steps}"
        ))?;
    }
    Ok(())
}

pub fn metrics(arguments: &MetricsArguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let run = db.wait(db.find_run(&arguments.run))?;
    if let Some(name) = &arguments.name {
        let list = format!("metrics {}", run.short);
        check_metric(name, std::slice::from_ref(&run), &list)?;
    }
    let points = db.wait(db.metric_series(run.id, arguments.name.as_deref()))?;
    if arguments.json {
        return terminal::print_json(&points);
    }
    if points.is_empty() {
        return terminal::print(&format!("run {} has no metrics yet", run.short));
    }
    let mut table = terminal::Table::new(&["name", "step", "value"]);
    for point in points {
        table.row([point.name, point.step.to_string(), super::number(point.value)]);
    }
    table.print()
}
