//! A run before and after training, task by task.

use std::collections::BTreeMap;

use registry::Evaluation;
use serde::Serialize;
use terminal::Usage;

use crate::commands::number;
use crate::scoring::Scores;

/// The newest scores of a task, before training and at the latest step that was scored.
#[derive(Default)]
struct Scored {
    untrained: Scores,
    trained: Scores,
    step: i64,
}

#[derive(Serialize)]
struct Row {
    run: String,
    name: String,
    steps: i64,
    loss_at_start: Option<f64>,
    loss_at_end: Option<f64>,
    task: String,
    outputs: u64,
    input_error: Option<f64>,
    untrained_error: Option<f64>,
    trained_error: Option<f64>,
    trained_psnr: Option<f64>,
}

/// Prints what was scored of a run.
pub fn print_run(name: &str, json: bool) -> anyhow::Result<()> {
    let db = registry::Blocking::open()?;
    let run = db.wait(db.find_run(name))?;
    let losses = db.wait(db.metric_series(run.id, Some("loss")))?;
    let evaluations = db.wait(db.evaluations(run.id))?;
    let mut tasks: BTreeMap<String, Scored> = BTreeMap::new();
    for evaluation in evaluations {
        let Evaluation { task: Some(task), step, scores, .. } = evaluation else { continue };
        let scores: Scores = serde_json::from_value(scores)?;
        let scored = tasks.entry(task).or_default();
        match step {
            Some(0) => scored.untrained = scores,
            step => {
                let step = step.unwrap_or_default();
                if step >= scored.step {
                    (scored.step, scored.trained) = (step, scores);
                }
            }
        }
    }
    if tasks.is_empty() {
        let message = format!("run {name}: nothing was scored yet (`evaluator run --outputs …`)");
        return Err(Usage::new(message).into());
    }
    let rows: Vec<Row> = tasks
        .into_iter()
        .map(|(task, Scored { untrained, trained, step })| Row {
            run: registry::short(&run.id),
            name: run.name.clone(),
            steps: step,
            loss_at_start: losses.first().map(|point| point.value),
            loss_at_end: losses.last().map(|point| point.value),
            task,
            outputs: trained.outputs,
            input_error: trained.input_mean_absolute_error.or(untrained.input_mean_absolute_error),
            untrained_error: untrained.mean_absolute_error,
            trained_error: trained.mean_absolute_error,
            trained_psnr: trained.psnr,
        })
        .collect();
    if json { terminal::print_json(&rows) } else { print(&rows) }
}

fn print(rows: &[Row]) -> anyhow::Result<()> {
    let mut table = terminal::Table::new(&[
        "run",
        "steps",
        "loss at start",
        "at end",
        "task",
        "outputs",
        "error of input",
        "untrained",
        "trained",
        "PSNR (dB)",
    ]);
    for row in rows {
        table.row([
            row.run.clone(),
            row.steps.to_string(),
            number(row.loss_at_start, 4),
            number(row.loss_at_end, 4),
            row.task.clone(),
            row.outputs.to_string(),
            number(row.input_error, 1),
            number(row.untrained_error, 1),
            number(row.trained_error, 1),
            number(row.trained_psnr, 1),
        ]);
    }
    terminal::print("mean absolute error over the generated pixels, levels of 0 to 255")?;
    table.print()
}
