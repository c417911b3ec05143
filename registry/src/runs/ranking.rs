//! The runs of a sweep, the best first: what differs by its seed only is one row, with mean and deviation.

#![allow(missing_docs, reason = "the fields are named for what they hold")]

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::compare::number;
use crate::{JobState, Run};

/// What the loss of the validation is called; the trainer measures it with the EMA weights.
const VALIDATION: &str = "validation/loss";

/// The key that seeds are swept by.
const SEED: &str = "seed";

/// A run and the value that it is judged by.
pub struct Measured {
    pub job: String,
    pub point: Value,
    pub state: JobState,
    /// The last step, and the steps in all.
    pub steps: Option<[i64; 2]>,
    /// Not finite where the run was lost, none where it has not measured it.
    pub value: Option<f64>,
}

/// Runs that differ by their seed only.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What they have in common, without the seed.
    pub point: Map<String, Value>,
    /// Short ids.
    pub jobs: Vec<String>,
    pub states: Vec<JobState>,
    /// The last step of each, and the steps in all.
    pub steps: Vec<[i64; 2]>,
    /// The mean of what was measured; none where nothing was, or a run was lost.
    pub mean: Option<f64>,
    /// The standard deviation over seeds; none of one.
    pub deviation: Option<f64>,
    /// How many have measured it, and how many of these were lost.
    pub measured: usize,
    pub lost: usize,
    /// The lowest mean of all rows.
    pub best: bool,
}

/// The metric that runs are judged by where nobody says: the validation loss of one that has it.
pub fn judge(runs: &[Run]) -> &'static str {
    let validated = runs.iter().any(|run| run.latest.get(VALIDATION).is_some());
    if validated { VALIDATION } else { "loss" }
}

/// Rows by their mean, lowest first; those that were lost, and then those without a value, come last.
pub fn rank(measured: impl IntoIterator<Item = Measured>, metric: &str) -> Vec<Row> {
    let mut groups = BTreeMap::<String, (usize, Map<String, Value>, Vec<Measured>)>::new();
    for (at, one) in measured.into_iter().enumerate() {
        let mut point = one.point.as_object().cloned().unwrap_or_default();
        point.remove(SEED);
        let key = Value::Object(point.clone()).to_string();
        groups.entry(key).or_insert_with(|| (at, point, Vec::new())).2.push(one);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|(at, ..)| *at);
    let mut rows: Vec<Row> = groups.into_iter().map(|(_, point, runs)| row(point, &runs)).collect();
    let rank = |row: &Row| match (row.mean, row.lost) {
        (Some(_), _) => 0,
        (None, 0) => 2,
        (None, _) => 1,
    };
    rows.sort_by(|a, b| {
        let means = a.mean.unwrap_or(0.0).total_cmp(&b.mean.unwrap_or(0.0));
        rank(a).cmp(&rank(b)).then(means)
    });
    if is_loss(metric)
        && rows.len() > 1
        && !at_other_steps(&rows)
        && let Some(first) = rows.first_mut()
    {
        first.best = first.mean.is_some();
    }
    rows
}

fn row(point: Map<String, Value>, runs: &[Measured]) -> Row {
    let values: Vec<f64> = runs.iter().filter_map(|run| run.value).collect();
    let lost = values.iter().filter(|value| !value.is_finite()).count();
    let mean = statistics::mean(&values).filter(|_| lost == 0);
    let several = values.len() > 1;
    Row {
        point,
        jobs: runs.iter().map(|run| run.job.clone()).collect(),
        states: runs.iter().map(|run| run.state).collect(),
        steps: runs.iter().filter_map(|run| run.steps).collect(),
        mean,
        deviation: mean.and_then(|mean| several.then(|| deviation(&values, mean))),
        measured: values.len(),
        lost,
        best: false,
    }
}

/// That of the seeds that could have been drawn, from those that were.
fn deviation(values: &[f64], mean: f64) -> f64 {
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

/// Whether less of it is better.
pub fn is_loss(metric: &str) -> bool {
    metric.rsplit('/').any(|part| part.starts_with("loss"))
}

impl Row {
    /// The keys that it has values of.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.point.keys().map(String::as_str)
    }

    /// `succeeded`, or `2 succeeded, 1 failed`.
    pub fn states(&self) -> String {
        let count = |state: JobState| self.states.iter().filter(|one| **one == state).count();
        let there: Vec<(JobState, usize)> =
            JobState::ALL.into_iter().map(|state| (state, count(state))).collect();
        let there = there.into_iter().filter(|(_, count)| *count > 0);
        match self.states.iter().all(|state| Some(state) == self.states.first()) {
            true => self.states.first().map(ToString::to_string).unwrap_or_default(),
            false => there
                .map(|(state, count)| format!("{count} {state}"))
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    /// `300/300`, or `120/300 to 300/300`.
    pub fn steps(&self) -> String {
        let text = |[done, all]: [i64; 2]| format!("{done}/{all}");
        match (self.steps.iter().min(), self.steps.iter().max()) {
            (Some(first), Some(last)) if first == last => text(*first),
            (Some(first), Some(last)) => format!("{} to {}", text(*first), text(*last)),
            _ => String::new(),
        }
    }

    /// `0.1234 ± 0.0012`, `lost`, or `-` where nothing was measured.
    pub fn value(&self) -> String {
        let seeds = self.jobs.len();
        let part = match self.measured {
            some if some < seeds && some > 0 => format!(" ({some} of {seeds})"),
            _ => String::new(),
        };
        match (self.mean, self.deviation) {
            (Some(mean), Some(deviation)) => {
                format!("{} ± {}{part}", number(mean), number(deviation))
            }
            (Some(mean), None) => number(mean) + &part,
            (None, _) if self.lost > 0 && seeds > 1 => format!("lost ({} of {seeds})", self.lost),
            (None, _) if self.lost > 0 => "lost".to_owned(),
            (None, _) => "-".to_owned(),
        }
    }
}

/// Whether runs that have made steps have made different numbers of them.
fn at_other_steps(rows: &[Row]) -> bool {
    let mut steps = rows.iter().flat_map(|row| &row.steps).map(|[done, _]| done);
    let first = steps.find(|done| **done > 0);
    steps.any(|done| *done > 0 && Some(done) != first)
}

/// By what the rows are sorted, in words.
pub fn explained(metric: &str, rows: &[Row]) -> String {
    let what = match metric {
        VALIDATION => "validation/loss, the last one of each run, measured with its EMA weights".to_owned(),
        "loss" => "loss, the mean of the last tenth of the steps: the raw training loss, which EMA does not \
                   touch (with [train.validation] a sweep is judged by the loss of the EMA weights)"
            .to_owned(),
        validation if validation.starts_with("validation/") => {
            format!("{validation}, the last one of each run, measured with its EMA weights")
        }
        other => format!("{other}, the mean of the last tenth of the steps"),
    };
    let seeds = match rows.iter().any(|row| row.deviation.is_some()) {
        true => "; mean ± standard deviation over seeds",
        false => "",
    };
    let running = rows.iter().flat_map(|row| &row.states).any(|state| !state.is_final());
    let so_far = match (running, at_other_steps(rows)) {
        (true, _) => "; not all have ended",
        (false, true) => {
            "; they made different numbers of steps, so that none is marked as the best"
        }
        (false, false) => "",
    };
    format!("sorted by {what}, lowest first{seeds}{so_far}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn measured(job: &str, point: Value, value: Option<f64>) -> Measured {
        let (job, state) = (job.to_owned(), JobState::Succeeded);
        Measured { job, point, state, steps: Some([10, 10]), value }
    }

    #[test]
    fn points_that_differ_by_their_seed_are_one_row_and_the_lowest_mean_is_the_best() {
        let at = |rate: f64, seed: u32| json!({"train.learning_rate": rate, "seed": seed});
        let rows = rank(
            [
                measured("a", at(0.1, 1), Some(0.5)),
                measured("b", at(0.1, 2), Some(0.7)),
                measured("c", at(0.2, 1), Some(0.1)),
                measured("d", at(0.2, 2), Some(0.3)),
                measured("e", at(0.3, 1), Some(0.01)),
                measured("f", at(0.3, 2), Some(f64::NAN)),
                measured("g", at(0.4, 1), None),
                measured("h", at(0.5, 1), Some(0.9)),
                measured("i", at(0.5, 2), None),
            ],
            VALIDATION,
        );
        let told: Vec<_> =
            rows.iter().map(|row| (row.jobs.concat(), row.value(), row.best)).collect();
        let row = |jobs: &str, value: &str, best| (jobs.to_owned(), value.to_owned(), best);
        assert_eq!(
            told,
            [
                row("cd", "0.2000 ± 0.1414", true),
                row("ab", "0.6000 ± 0.1414", false),
                row("hi", "0.9000 (1 of 2)", false),
                row("ef", "lost (1 of 2)", false),
                row("g", "-", false),
            ]
        );
        assert_eq!(rows[0].keys().collect::<Vec<_>>(), ["train.learning_rate"]);
        assert!(explained(VALIDATION, &rows).contains("measured with its EMA weights"));
        assert!(explained("loss", &rows).contains("which EMA does not touch"));
    }

    #[test]
    fn what_is_no_loss_has_no_best_and_states_and_steps_are_counted() {
        let mut one = measured("a", json!({"seed": 1}), Some(3.0));
        one.state = JobState::Running;
        one.steps = Some([5, 10]);
        let rows = rank([one, measured("b", json!({"seed": 2}), Some(4.0))], "images_per_second");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].states(), "1 running, 1 succeeded");
        assert_eq!(rows[0].steps(), "5/10 to 10/10");
        assert!(!rows[0].best && is_loss("loss") && is_loss("loss/jpeg") && !is_loss("grad_norm"));
        assert!(explained("images_per_second", &rows).ends_with("not all have ended"));
    }
}
