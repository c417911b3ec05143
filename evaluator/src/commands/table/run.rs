//! A run before and after training, task by task.

use std::collections::BTreeMap;

use registry::Evaluation;
use serde::Serialize;
use terminal::Usage;

use crate::commands::number;
use crate::scores::Score;
use crate::scoring::Scores;

/// The newest scores of a task, before training and at the latest step that was scored.
#[derive(Default)]
struct Scored {
    untrained: Scores,
    trained: Scores,
    step: i64,
}

#[derive(Serialize)]
struct TaskLine {
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
    let lines: Vec<TaskLine> = tasks
        .into_iter()
        .map(|(task, Scored { untrained, trained, step })| TaskLine {
            run: registry::short(&run.id),
            name: run.name.clone(),
            steps: step,
            loss_at_start: losses.first().map(|point| point.value),
            loss_at_end: losses.last().map(|point| point.value),
            task,
            outputs: trained.outputs,
            input_error: trained.number(Score::InputError).or(untrained.number(Score::InputError)),
            untrained_error: untrained.number(Score::Error),
            trained_error: trained.number(Score::Error),
            trained_psnr: trained.number(Score::GeneratedPsnr),
        })
        .collect();
    if json { terminal::print_json(&lines) } else { print(&lines) }
}

fn print(lines: &[TaskLine]) -> anyhow::Result<()> {
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
    for line in lines {
        table.row([
            line.run.clone(),
            line.steps.to_string(),
            number(line.loss_at_start, 4),
            number(line.loss_at_end, 4),
            line.task.clone(),
            line.outputs.to_string(),
            number(line.input_error, 1),
            number(line.untrained_error, 1),
            number(line.trained_error, 1),
            number(line.trained_psnr, 1),
        ]);
    }
    terminal::print("mean absolute error over the generated pixels, levels of 0 to 255")?;
    table.print()
}
