//! Metrics and scores as people compare them: over the same steps, with intervals, and whether a difference is
//! more than noise. Pure; who calls it reads the series.

#![allow(missing_docs, reason = "the fields are named for what they hold")]

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::{Evaluation, Point};

/// A metric with as many digits as tell something.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "lost".into(),
        0.0 => "0".into(),
        0.001..1000.0 => format!("{value:.4}"),
        1000.0..1e7 => format!("{value:.0}"),
        _ => format!("{value:.3e}"),
    }
}

/// A value, and the interval of 95 % where one can be given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Level {
    /// Not finite where the run was lost; null in JSON.
    pub value: f64,
    /// Student's interval of the mean; none of too few values, and of values that are all equal.
    pub interval: Option<[f64; 2]>,
    /// The number of values that it is the mean of; none for a score.
    pub points: Option<usize>,
}

/// What two levels say of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The same value.
    Equal,
    /// Their intervals overlap.
    WithinNoise,
    /// Their intervals do not overlap.
    Differs,
    /// At least one has no interval: how much of the difference is noise is not known.
    Unknown,
    /// At least one is not finite.
    Lost,
    /// Only one has any, or they have no step in common.
    Apart,
}

impl Verdict {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::WithinNoise => "within noise",
            Self::Differs => "differs",
            Self::Unknown => "no interval",
            Self::Lost => "lost",
            Self::Apart => "-",
        }
    }

    /// Of two levels.
    pub fn of(a: &Level, b: &Level) -> Self {
        if !a.value.is_finite() || !b.value.is_finite() {
            return Self::Lost;
        }
        match (a.bounds(), b.bounds()) {
            _ if a.value == b.value => Self::Equal,
            (Some([_, high]), Some([low, _])) if high < low => Self::Differs,
            (Some([low, _]), Some([_, high])) if high < low => Self::Differs,
            (Some(_), Some(_)) => Self::WithinNoise,
            _ => Self::Unknown,
        }
    }
}

impl crate::Database {
    /// Each metric of several runs over the same steps: the last tenth of those up to the last that all have who have
    /// any. Means of what was recorded within it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn metric_windows(
        &self,
        runs: &[uuid::Uuid],
        metrics: &[String],
    ) -> crate::Result<Vec<MetricWindow>> {
        let rows = sqlx::query_as!(
            MetricWindow,
            r#"with newest as (
                 select series.id, series.run_id, series.name,
                     (select max(step) from metrics
                      where series_id = series.id and step <= runs.last_step) as last
                 from series join runs on runs.id = series.run_id
                 where series.run_id = any($1) and series.name = any($2)
             ),
             ends as (select name, min(last) as until from newest group by name),
             points as (
                 select distinct on (newest.id, metrics.step) run_id, name, step, value
                 from newest join ends using (name)
                 join metrics on series_id = newest.id and step <= until
                     and step > until - greatest(until / 10, 1)
                 where not exists (
                     select from attempts later
                     where later.job_id = newest.run_id and later.number > metrics.attempt
                       and later.resumed_at < metrics.step)
                 order by newest.id, metrics.step, metrics.attempt desc
             )
             select run_id as "run!", name as "name!", min(step) as "first!", max(step) as "last!",
                 count(*) as "points!", avg(value) as "mean!", coalesce(stddev_samp(value), 0) as "deviation!",
                 (array_agg(value order by step desc))[1] as "value!"
             from points group by run_id, name order by name"#,
            runs,
            metrics,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}

/// A metric of a run over steps that other runs have too.
#[derive(Clone, Debug)]
pub struct MetricWindow {
    /// The run.
    pub run: uuid::Uuid,
    /// The metric.
    pub name: String,
    /// The first step and the last one.
    pub first: i64,
    pub last: i64,
    /// Values, their mean and standard deviation (divided by n − 1), and the last one.
    pub points: i64,
    pub mean: f64,
    pub deviation: f64,
    pub value: f64,
}

impl MetricWindow {
    /// As it is compared.
    pub fn level(&self) -> Level {
        let points = usize::try_from(self.points).unwrap_or(0);
        Level::counted(points, self.mean, self.deviation, self.value)
    }
}

impl Level {
    /// The mean of values of steps that are near each other, or the last of them where they are too few.
    pub fn of(values: &[f64]) -> Option<Self> {
        let points = values.len();
        if points < statistics::FEWEST {
            return Some(Self { value: *values.last()?, interval: None, points: Some(1) });
        }
        let interval =
            statistics::around_mean(values).filter(|bounds| bounds.iter().all(|b| b.is_finite()));
        Some(Self { value: statistics::mean(values)?, interval, points: Some(points) })
    }

    /// The same where the values were counted already: their number, mean, deviation (divided by n − 1) and the last.
    pub fn counted(points: usize, mean: f64, deviation: f64, last: f64) -> Self {
        if points < statistics::FEWEST {
            return Self { value: last, interval: None, points: Some(1) };
        }
        let interval = statistics::around_mean_of(points, mean, deviation)
            .filter(|bounds| bounds.iter().all(|bound| bound.is_finite()));
        Self { value: mean, interval, points: Some(points) }
    }

    /// The interval; of several values that are all equal (a learning rate) the value itself.
    fn bounds(&self) -> Option<[f64; 2]> {
        let constant = self.points.is_some_and(|points| points >= statistics::FEWEST);
        self.interval.or_else(|| constant.then_some([self.value; 2]))
    }

    /// `0.1234 ± 0.0012`, or `lost`.
    pub fn text(&self) -> String {
        match self.interval {
            _ if !self.value.is_finite() => "lost".to_owned(),
            Some([low, high])
                if (high - self.value) - (self.value - low) <= (high - low) * 1e-6 =>
            {
                format!("{} ± {}", number(self.value), number((high - low) / 2.0))
            }
            Some([low, high]) => {
                format!("{} ({} to {})", number(self.value), number(low), number(high))
            }
            None => number(self.value),
        }
    }
}

/// A value and the step that it was measured at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Last {
    pub step: i64,
    pub value: f64,
}

/// A metric of two runs.
#[derive(Clone, Debug, Serialize)]
pub struct MetricPair {
    pub name: String,
    /// The first and the last step of the window; none where they have no step in common.
    pub steps: Option<[i64; 2]>,
    pub a: Option<Level>,
    pub b: Option<Level>,
    pub verdict: Verdict,
    /// The last value of each, where these are of other steps.
    pub last_a: Option<Last>,
    pub last_b: Option<Last>,
}

/// The metrics of two runs, by name.
pub fn metrics(a: &[Point], b: &[Point]) -> Vec<MetricPair> {
    let (a, b) = (by_name(a), by_name(b));
    let names: BTreeSet<&str> = a.keys().chain(b.keys()).copied().collect();
    let none = BTreeMap::new();
    let of =
        |side: &BTreeMap<&str, _>, name| side.get(name).cloned().unwrap_or_else(|| none.clone());
    names.into_iter().map(|name| pair(name, &of(&a, name), &of(&b, name))).collect()
}

type Series = BTreeMap<i64, f64>;

fn by_name(points: &[Point]) -> BTreeMap<&str, Series> {
    let mut all = BTreeMap::<&str, Series>::new();
    for Point { step, name, value, .. } in points {
        all.entry(name).or_default().insert(*step, *value);
    }
    all
}

/// The first step after which the window that ends with a step begins: its last tenth.
fn before_window(step: i64) -> i64 {
    step - (step / 10).max(1)
}

fn pair(name: &str, a: &Series, b: &Series) -> MetricPair {
    let last =
        |series: &Series| series.iter().next_back().map(|(&step, &value)| Last { step, value });
    let (last_a, last_b) = (last(a), last(b));
    let common: Vec<i64> = a.keys().filter(|step| b.contains_key(step)).copied().collect();
    let mut pair = MetricPair {
        name: name.to_owned(),
        steps: None,
        a: None,
        b: None,
        verdict: Verdict::Apart,
        last_a,
        last_b,
    };
    let Some(&step) = common.last() else { return pair };
    let window: Vec<i64> = common.into_iter().filter(|one| *one > before_window(step)).collect();
    let level = |series: &Series| {
        Level::of(&window.iter().filter_map(|step| series.get(step).copied()).collect::<Vec<_>>())
    };
    (pair.a, pair.b) = (level(a), level(b));
    if let (Some(a), Some(b)) = (&pair.a, &pair.b) {
        pair.verdict = Verdict::of(a, b);
    }
    let first = if window.len() < statistics::FEWEST { step } else { window[0] };
    pair.steps = Some([first, step]);
    let at = |last: &Option<Last>| last.as_ref().is_some_and(|last| last.step == step);
    if at(&pair.last_a) && at(&pair.last_b) {
        (pair.last_a, pair.last_b) = (None, None);
    }
    pair
}

/// How a run ended by a metric: the last value of a validation, which is measured on fixed images with fixed
/// noise; of others, which are measured on other images each step, the mean of the last tenth of the steps.
pub fn final_level(name: &str, points: &[Point]) -> Option<Level> {
    let series = by_name(points).remove(name)?;
    let (&step, &value) = series.iter().next_back()?;
    if name.starts_with("validation/") || !value.is_finite() {
        return Some(Level { value, interval: None, points: Some(1) });
    }
    let window: Vec<f64> =
        series.range(before_window(step) + 1..).map(|(_, &value)| value).collect();
    Level::of(&window)
}

/// A score of what was drawn with a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreRow {
    pub label: String,
    pub task: String,
    pub step: Option<i64>,
    /// Outputs that were scored.
    pub outputs: Option<u64>,
    pub score: String,
    pub level: Level,
}

/// The scores of an evaluation: numbers, and numbers with an interval. What they depend on and histograms are
/// for programs.
pub fn scores(evaluation: &Evaluation) -> Vec<ScoreRow> {
    let label = match evaluation.step {
        Some(step) => evaluation.label.trim_end_matches(&format!("@{step}")),
        None => &evaluation.label,
    };
    let all = evaluation.scores.as_object().into_iter().flatten();
    let counts = ["outputs", "inputs", "scales", "perfect"];
    all.filter(|(key, _)| !counts.contains(&key.as_str()))
        .filter_map(|(key, value)| {
            Some(ScoreRow {
                label: label.to_owned(),
                task: evaluation.task.clone().unwrap_or_else(|| "all tasks".to_owned()),
                step: evaluation.step,
                outputs: evaluation.scores["outputs"].as_u64(),
                score: key.clone(),
                level: score(value)?,
            })
        })
        .collect()
}

/// `0.9`, `{"value": 0.9, "low": 0.8, "high": 1.0}`, or the mean of a distribution.
fn score(value: &Value) -> Option<Level> {
    if let Some(value) = value.as_f64() {
        return Some(Level { value, interval: None, points: None });
    }
    let inner = if value["mean"].is_null() { value } else { &value["mean"] };
    let number = inner.as_f64().or_else(|| inner["value"].as_f64())?;
    let bound = |name: &str| inner[name].as_f64();
    let interval = bound("low").zip(bound("high")).map(|(low, high)| [low, high]);
    Some(Level { value: number, interval, points: None })
}

/// A score of two runs.
#[derive(Clone, Debug, Serialize)]
pub struct ScorePair {
    pub label: String,
    pub task: String,
    pub score: String,
    pub step_a: Option<i64>,
    pub step_b: Option<i64>,
    pub a: Option<Level>,
    pub b: Option<Level>,
    pub verdict: Verdict,
}

/// The scores of two runs: of each label and task those of the largest step that both have, or else the newest
/// of each.
pub fn score_pairs(a: &[Evaluation], b: &[Evaluation]) -> Vec<ScorePair> {
    type Key = (String, String, String);
    type Steps = BTreeMap<Option<i64>, Level>;
    // Of one step the newest evaluation stays, for they come oldest first.
    let all = |side: &[Evaluation]| {
        let mut all = BTreeMap::<Key, (Steps, Option<i64>)>::new();
        for row in side.iter().flat_map(scores) {
            let (steps, newest) = all.entry((row.label, row.task, row.score)).or_default();
            steps.insert(row.step, row.level);
            *newest = row.step;
        }
        all
    };
    let (a, b) = (all(a), all(b));
    let keys: BTreeSet<&Key> = a.keys().chain(b.keys()).collect();
    let pair = |key: &Key| {
        let (one, other) = (a.get(key), b.get(key));
        let common = one.zip(other).and_then(|((one, _), (other, _))| {
            one.keys().rev().find(|step| other.contains_key(step)).copied()
        });
        let side = |side: Option<&(Steps, Option<i64>)>| {
            let (steps, newest) = side?;
            let step = common.unwrap_or(*newest);
            Some((step, steps.get(&step)?.clone()))
        };
        let ((step_a, a), (step_b, b)) = (side(one).unzip(), side(other).unzip());
        let verdict = match (&a, &b) {
            (Some(a), Some(b)) => Verdict::of(a, b),
            _ => Verdict::Apart,
        };
        let (label, task, score) = key.clone();
        let (step_a, step_b) = (step_a.flatten(), step_b.flatten());
        ScorePair { label, task, score, step_a, step_b, a, b, verdict }
    };
    keys.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn points(name: &str, values: impl IntoIterator<Item = (i64, f64)>) -> Vec<Point> {
        let point = |(step, value)| Point { step, name: name.into(), value, attempt: 1 };
        values.into_iter().map(point).collect()
    }

    /// Falls, with noise that alternates.
    fn falling(last: i64, offset: f64) -> Vec<Point> {
        let noise = |step: i64| if step % 2 == 0 { 0.01 } else { -0.01 };
        points("loss", (1..=last).map(|step| (step, offset + 1.0 / step as f64 + noise(step))))
    }

    fn one(a: &[Point], b: &[Point]) -> MetricPair {
        let mut all = metrics(a, b);
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    #[test]
    fn runs_of_different_length_are_compared_at_the_last_steps_that_both_have() {
        let (short, long) = (falling(100, 0.0), falling(300, 0.0));
        let same = one(&short, &long);
        assert_eq!(same.steps, Some([91, 100]));
        assert_eq!(same.verdict, Verdict::Equal, "the same values up to there");
        assert_eq!(same.last_a.map(|last| last.step), Some(100));
        assert_eq!(same.last_b.map(|last| last.step), Some(300));
        assert_eq!(same.a.unwrap().points, Some(10));
        let equal = one(&long, &long);
        assert_eq!((equal.last_a, equal.last_b), (None, None), "said once");
    }

    #[test]
    fn a_difference_smaller_than_the_intervals_is_noise_and_a_larger_one_is_not() {
        let at = |offset| one(&falling(100, 0.0), &falling(100, offset)).verdict;
        assert_eq!(at(0.001), Verdict::WithinNoise);
        assert_eq!(at(-0.001), Verdict::WithinNoise);
        assert_eq!(at(0.1), Verdict::Differs);
        assert_eq!(at(-0.1), Verdict::Differs);
    }

    #[test]
    fn few_points_give_no_interval_constants_differ_and_nan_is_lost() {
        let of = |values: &[(i64, f64)]| points("m", values.iter().copied());
        let few = one(&of(&[(50, 1.0), (100, 0.5)]), &of(&[(50, 1.0), (100, 0.4)]));
        assert_eq!((few.verdict, few.steps), (Verdict::Unknown, Some([100, 100])));
        assert_eq!((few.a.unwrap().value, few.b.unwrap().value), (0.5, 0.4));
        let constant = |value| points("m", (1..=100).map(|step| (step, value)));
        assert_eq!(one(&constant(1.0), &constant(2.0)).verdict, Verdict::Differs);
        let lost = one(&constant(1.0), &constant(f64::NAN));
        assert_eq!((lost.verdict, lost.b.unwrap().text()), (Verdict::Lost, "lost".to_owned()));
        let apart = one(&of(&[(5, 1.0)]), &of(&[(6, 1.0)]));
        assert_eq!((apart.verdict, apart.steps), (Verdict::Apart, None));
        assert!(apart.last_a.is_some() && apart.last_b.is_some());
        assert_eq!(one(&of(&[(5, 1.0)]), &[]).verdict, Verdict::Apart);
    }

    #[test]
    fn a_run_is_judged_by_its_last_validation_or_by_the_mean_of_its_last_losses() {
        let values: Vec<(i64, f64)> = (1..=20).map(|step| (step, step as f64)).collect();
        let level = |name| final_level(name, &points(name, values.clone())).unwrap();
        assert_eq!(level("validation/loss").value, 20.0);
        // Two points are too few for a mean with an interval.
        assert_eq!(level("loss").value, 20.0);
        let long = points("loss", (1..=100).map(|step| (step, step as f64)));
        assert_eq!(final_level("loss", &long).unwrap().value, 95.5);
        assert_eq!(final_level("loss", &points("other", values)), None);
    }

    fn evaluation(label: &str, step: i64, scores: Value) -> Evaluation {
        Evaluation {
            id: Uuid::nil(),
            job_id: None,
            run_id: None,
            step: Some(step),
            label: label.into(),
            task: Some("colorization".into()),
            outputs_uri: String::new(),
            reference_uri: None,
            scores,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn scores_are_numbers_with_intervals_and_nothing_else() {
        let kept = json!({
            "outputs": 24, "inputs": 6, "scales": 5, "psnr": null, "mean_absolute_error": 20.5,
            "fid": { "value": 10.0, "low": 9.0, "high": 11.0 },
            "diversity_ms_ssim": { "mean": { "value": 0.6, "low": 0.5, "high": 0.8 }, "histogram": [0, 24] },
            "depends": { "size": 256 }, "matching": { "by": "key" },
        });
        let rows = scores(&evaluation("colorization@5", 5, kept));
        let texts: Vec<_> = rows.iter().map(|row| (row.score.as_str(), row.level.text())).collect();
        assert_eq!(
            texts,
            [
                ("diversity_ms_ssim", "0.6000 (0.5000 to 0.8000)".to_owned()),
                ("fid", "10.0000 ± 1.0000".to_owned()),
                ("mean_absolute_error", "20.5000".to_owned()),
            ]
        );
        assert!(rows.iter().all(|row| row.label == "colorization" && row.outputs == Some(24)));
    }

    #[test]
    fn scores_of_two_runs_are_those_of_the_largest_step_that_both_have() {
        let fid =
            |value: f64| json!({"fid": {"value": value, "low": value - 1.0, "high": value + 1.0}});
        let a = [evaluation("c@5", 5, fid(10.0)), evaluation("c@9", 9, fid(3.0))];
        let b = [evaluation("c@5", 5, fid(11.0))];
        let pairs = score_pairs(&a, &b);
        assert_eq!(pairs.len(), 1);
        assert_eq!((pairs[0].step_a, pairs[0].step_b), (Some(5), Some(5)));
        assert_eq!(pairs[0].verdict, Verdict::WithinNoise);
        let pairs = score_pairs(&a[1..], &b);
        assert_eq!((pairs[0].step_a, pairs[0].step_b), (Some(9), Some(5)));
        assert_eq!(pairs[0].verdict, Verdict::Differs);
        let apart = score_pairs(&a[..1], &[]);
        assert_eq!((apart[0].verdict, apart[0].step_b), (Verdict::Apart, None));
    }
}
