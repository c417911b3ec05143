//! `diff`: what is different between two runs.

use registry::{Blocking, Database, Difference, Run, RunDiff, RunSide};
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
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let a = db.wait(read(&db, &arguments.a))?;
    let b = db.wait(read(&db, &arguments.b))?;
    let diff = RunDiff::new(&a, &b);
    if arguments.json {
        let (a, b) = (Name::of(&a.run), Name::of(&b.run));
        return terminal::print_json(&Comparison { a, b, diff: &diff });
    }
    terminal::print(&text(&a.run, &b.run, &diff))
}

async fn read(db: &Database, name: &str) -> registry::Result<RunSide> {
    let run = db.find_run(name).await?;
    Ok(RunSide {
        datasets: db.run_datasets(run.id).await?,
        checkpoints: db.checkpoints(run.id).await?,
        evaluations: db.evaluations(run.id).await?,
        run,
    })
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
    parts.push(table("results", &diff.results, result));
    parts.join("\n\n")
}

/// A leaf of the configuration, as it was written.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
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
        Value::Null => "nan".to_owned(),
        value => plain(value),
    }
}
