//! `runs`, `checkpoints`, `metrics`: the registry.

use scheduler::{Blocking, JobState, RunFilter};

#[derive(clap::Args)]
pub struct ListArguments {
    /// Only runs in this state: queued, running, paused, succeeded, failed, cancelled
    #[arg(long)]
    state: Option<JobState>,
    /// Only runs of this experiment
    #[arg(long)]
    experiment: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct RunArguments {
    /// The run
    run: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct MetricsArguments {
    /// The run
    run: String,
    /// Only this metric (loss, images_per_second, …)
    #[arg(long)]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn list(arguments: ListArguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let filter = RunFilter {
        state: arguments.state,
        experiment: arguments.experiment,
        limit: arguments.limit.into(),
    };
    let runs = db.wait(db.runs(filter))?;
    if arguments.json {
        return terminal::print_json(&runs);
    }
    if runs.is_empty() {
        return terminal::print("no runs (`trainer submit` queues one)");
    }
    let mut table = terminal::Table::new(&[
        "run",
        "name",
        "experiment",
        "state",
        "step",
        "loss",
        "images/s",
        "created",
    ]);
    for run in runs {
        table.row([
            run.short,
            run.name,
            run.experiment,
            run.state.map_or_else(|| "imported".to_owned(), |state| state.to_string()),
            super::fraction(Some(run.last_step), Some(run.total_steps)),
            super::metric(&run.latest, "loss"),
            super::metric(&run.latest, "images_per_second"),
            super::ago(run.created_at),
        ]);
    }
    table.print()
}

pub fn checkpoints(arguments: &RunArguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let run = db.wait(db.find_run(&arguments.run))?;
    let checkpoints = db.wait(db.checkpoints(run.id))?;
    if arguments.json {
        return terminal::print_json(&checkpoints);
    }
    if checkpoints.is_empty() {
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
    table.print()
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
