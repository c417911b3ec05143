//! `diff`: what is different between two runs.

use registry::compare::{self, Last, Level, MetricPair, ScorePair};
use registry::{Blocking, Database, Difference, Point, Run, RunDiff, RunSide};
use serde::Serialize;
use serde_json::Value;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler diff palette-1 palette-2")]
pub struct Arguments {
    /// A run
    a: String,
    /// Another
    b: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Which run it is.
#[derive(Serialize)]
struct Name<'a> {
    id: registry::Uuid,
    short: &'a str,
    name: &'a str,
}

impl<'a> Name<'a> {
    fn of(run: &'a Run) -> Self {
        Self { id: run.id, short: &run.short, name: &run.name }
    }
}

#[derive(Serialize)]
struct Comparison<'a> {
    a: Name<'a>,
    b: Name<'a>,
    #[serde(flatten)]
    diff: &'a RunDiff,
    /// At the last steps that both have.
    metrics: &'a [MetricPair],
    scores: &'a [ScorePair],
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let (a, points_a) = db.wait(read(&db, &arguments.a))?;
    let (b, points_b) = db.wait(read(&db, &arguments.b))?;
    let diff = RunDiff::new(&a, &b);
    let metrics = compare::metrics(&points_a, &points_b);
    let scores = compare::score_pairs(&a.evaluations, &b.evaluations);
    let (run_a, run_b) = (&a.run, &b.run);
    if arguments.json {
        let (a, b) = (Name::of(run_a), Name::of(run_b));
        let (metrics, scores) = (&metrics, &scores);
        return terminal::print_json(&Comparison { a, b, diff: &diff, metrics, scores });
    }
    let mut parts = vec![text(run_a, run_b, &diff)];
    parts.extend(metrics_text(run_a, run_b, &metrics));
    parts.extend(scores_text(run_a, run_b, &scores));
    terminal::print(&parts.join("\n\n"))
}

async fn read(db: &Database, name: &str) -> registry::Result<(RunSide, Vec<Point>)> {
    let run = db.find_run(name).await?;
    let points = db.metric_series(run.id, None).await?;
    let side = RunSide {
        datasets: db.run_datasets(run.id).await?,
        checkpoints: db.checkpoints(run.id).await?,
        evaluations: db.evaluations(run.id).await?,
        run,
    };
    Ok((side, points))
}

/// The metrics at the last steps that both have, and what came after for the one that went further.
fn metrics_text(a: &Run, b: &Run, metrics: &[MetricPair]) -> Vec<String> {
    let mut parts = Vec::new();
    let cell = |level: &Option<Level>| level.as_ref().map_or_else(|| "-".to_owned(), Level::text);
    let mut table = terminal::Table::new(&["metric", "steps", &a.short, &b.short, "difference"])
        .cut(&["metric"]);
    for pair in metrics {
        let steps = match pair.steps {
            None => "none of both".to_owned(),
            Some([first, last]) if first == last => last.to_string(),
            Some([first, last]) => format!("{first} to {last}"),
        };
        table.row([
            pair.name.clone(),
            steps,
            cell(&pair.a),
            cell(&pair.b),
            pair.verdict.name().to_owned(),
        ]);
    }
    match metrics.iter().filter_map(|pair| Some(pair.steps?[1])).max() {
        Some(step) => parts.push(format!(
            "{}\nstep {step} is the last that both have; means of the last tenth of the steps up to \
             there, ± half the interval of 95 %",
            table.text(terminal::width())
        )),
        None if table.is_empty() => {}
        None => parts.push("no metric of both at one step: nothing to compare".to_owned()),
    }
    let last = |last: &Option<Last>| match last {
        Some(Last { value, .. }) if !value.is_finite() => "lost".to_owned(),
        Some(Last { step, value }) => format!("{} (step {step})", super::number(*value)),
        None => "-".to_owned(),
    };
    let mut table = terminal::Table::new(&["last value", &a.short, &b.short]).cut(&["last value"]);
    for pair in metrics.iter().filter(|pair| pair.last_a.is_some() || pair.last_b.is_some()) {
        table.row([pair.name.clone(), last(&pair.last_a), last(&pair.last_b)]);
    }
    if !table.is_empty() {
        parts.push(table.text(terminal::width()));
    }
    parts
}

/// Scores side by side.
fn scores_text(a: &Run, b: &Run, scores: &[ScorePair]) -> Option<String> {
    let headings = ["scores", "task", "score", "steps", &a.short, &b.short, "difference"];
    let mut table = terminal::Table::new(&headings).cut(&["scores", "task"]);
    let step = |step: Option<i64>| step.map_or_else(|| "-".to_owned(), |step| step.to_string());
    let cell = |level: &Option<Level>| level.as_ref().map_or_else(|| "-".to_owned(), Level::text);
    for pair in scores {
        let steps = match (pair.step_a, pair.step_b) {
            (a, b) if a == b => step(a),
            (a, b) => format!("{}, {}", step(a), step(b)),
        };
        table.row([
            pair.label.clone(),
            pair.task.clone(),
            pair.score.clone(),
            steps,
            cell(&pair.a),
            cell(&pair.b),
            pair.verdict.name().to_owned(),
        ]);
    }
    (!table.is_empty()).then(|| table.text(terminal::width()))
}

fn text(a: &Run, b: &Run, diff: &RunDiff) -> String {
    let table = |what: &str, rows: &[Difference], value: fn(&Value) -> String| {
        let mut table =
            terminal::Table::new(&[what, &a.short, &b.short]).cut(&[what, &b.short, &a.short]);
        for row in rows {
            let cell = |side: &Option<Value>| side.as_ref().map_or_else(|| "-".to_owned(), value);
            table.row([row.key.clone(), cell(&row.a), cell(&row.b)]);
        }
        table.text(terminal::width())
    };
    let mut parts = vec![format!("{} {} and {} {}", a.short, a.name, b.short, b.name)];
    let other = if diff.config.is_empty() { "" } else { "other " };
    let equal = match diff.config_equal {
        1 => format!("1 {other}value of the configuration is equal"),
        count => format!("{count} {other}values of the configuration are equal"),
    };
    match diff.config.as_slice() {
        [] => parts.push(equal),
        config => parts.push(table("configuration", config, plain) + "\n" + &equal),
    }
    let equal = match diff.facts_equal.as_slice() {
        [] => String::new(),
        names => format!("equal: {}", names.join(", ")),
    };
    match diff.facts.as_slice() {
        [] => parts.push(equal),
        facts => parts.push(format!("{}\n{equal}", table("facts", facts, fact)).trim_end().into()),
    }
    // Metrics and scores have tables of their own.
    let is_own = |row: &&Difference| {
        matches!(row.key.as_str(), "state" | "step" | "steps in all")
            || row.key.starts_with("best checkpoint")
    };
    let results: Vec<Difference> = diff.results.iter().filter(is_own).cloned().collect();
    parts.push(table("results", &results, result));
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

/// A leaf of the configuration, as it was written.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        Value::Array(_) | Value::Object(_) => "empty".to_owned(),
        value => value.to_string(),
    }
}

/// A dataset by what identifies it.
fn fact(value: &Value) -> String {
    match (value["digest"].as_str(), &value["rows"], &value["weight"]) {
        (Some(digest), rows, weight) => {
            let digest: String = digest.chars().take(12).collect();
            format!("{digest} ({rows} images, weight {weight})")
        }
        (None, ..) => plain(value),
    }
}

fn result(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(String::new, super::number)
        }
        Value::Null => "lost".to_owned(),
        value => plain(value),
    }
}
