//! `runs`, `checkpoints`, `metrics`: the registry.

use registry::{Blocking, Run, RunKind};

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
        let filter = db.wait(arguments.filter.of(&db, &arguments.kinds))?;
        return terminal::print_json(&db.wait(db.runs(filter))?);
    }
    arguments.watch.print(async |db| {
        let runs = db.runs(arguments.filter.of(db, &arguments.kinds).await?).await?;
        if runs.is_empty() {
            return Ok(arguments.filter.nothing("runs", arguments.kinds.is_empty()));
        }
        Ok(table(&runs).text(terminal::width()) + &arguments.filter.more(runs.len()))
    })
}

fn table(runs: &[Run]) -> terminal::Table {
    let mut table = terminal::Table::new(&[
        "run",
        "name",
        "experiment",
        "owner",
        "state",
        "step",
        "loss",
        "images/s",
        "created",
    ])
    .cut(&["experiment", "name"])
    .omit(&["owner", "images/s", "created", "experiment", "step"]);
    for run in runs {
        table.row([
            run.short.clone(),
            run.name.clone(),
            run.experiment.clone(),
            run.owner.clone(),
            super::run_state(run).to_owned(),
            super::fraction(Some(run.last_step), Some(run.total_steps)),
            super::metric(&run.latest, "loss"),
            super::metric(&run.latest, "images_per_second"),
            super::ago(run.created_at),
        ]);
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
    let points = db.wait(db.metric_series(run.id, arguments.name.as_deref()))?;
    if arguments.json {
        return terminal::print_json(&points);
    }
    if points.is_empty() {
        return terminal::print(&match &arguments.name {
            Some(name) => format!("run {} has no metric `{name}`", run.short),
            None => format!("run {} has no metrics yet", run.short),
        });
    }
    let mut table = terminal::Table::new(&["name", "step", "value"]);
    for point in points {
        table.row([point.name, point.step.to_string(), super::number(point.value)]);
    }
    table.print()
}
