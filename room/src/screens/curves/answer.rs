//! Curves as JSON: arrays by column, numbers with seven digits.

use std::collections::{BTreeMap, HashMap};

use registry::{Curve, CurveMark, CurveShape, Curves, Moment, Run, Uuid};
use serde::{Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// Curves of runs in a window of steps.
#[derive(Serialize, ToSchema)]
pub struct CurvesAnswer {
    /// The first step of the window.
    pub from: i64,
    /// The last step of the window.
    pub to: i64,
    /// Steps of a column, the same for all curves.
    pub width: i64,
    /// The runs, in the order in which they were named.
    pub runs: Vec<CurveRun>,
    /// A curve for each run and metric that has points in the window.
    pub curves: Vec<OneCurve>,
    /// Restarts, rewinds and checkpoints.
    pub marks: Vec<OneMark>,
}

/// What the axes and the legend need of a run.
#[derive(Serialize, ToSchema)]
pub struct CurveRun {
    id: String,
    short: String,
    name: String,
    experiment: String,
    state: String,
    seed: i64,
    /// Steps so far.
    last_step: i64,
    /// Images of a step, where the configuration says so.
    batch_size: Option<f64>,
    /// The same for runs whose configurations differ in nothing but the seed.
    group: String,
    /// Steps of which the time is known.
    steps: Vec<i64>,
    /// Seconds since 1970, of each of them.
    times: Vec<f64>,
}

/// The curve of a metric of a run. With `reduced` false `step` and `value` hold every point; with true there is a
/// column for each of `step`.
#[derive(Serialize, ToSchema)]
pub struct OneCurve {
    /// The short id of the run.
    run: String,
    /// The metric.
    metric: String,
    /// Whether columns stand for the points.
    reduced: bool,
    /// Points in the window.
    points: i64,
    /// How many of them are not finite: NaN or infinite. They are null.
    lost: i64,
    /// The step of each point, or that of the first in each column.
    step: Vec<i64>,
    /// Each point.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Option<f64>>)]
    value: Vec<Short>,
    /// The step of the last point in each column.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    end: Vec<i64>,
    /// The least of each column.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Option<f64>>)]
    min: Vec<Short>,
    /// The most of each column.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Option<f64>>)]
    max: Vec<Short>,
    /// The mean of each column.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Option<f64>>)]
    mean: Vec<Short>,
}

/// A place on a curve.
#[derive(Serialize, ToSchema)]
pub struct OneMark {
    /// The short id of the run.
    run: String,
    /// `restart`, `rewind` or `checkpoint`.
    kind: &'static str,
    /// The step.
    step: i64,
    /// The attempt.
    attempt: i32,
    /// Of a rewind the step from which it went back.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<i64>,
}

/// A number with seven digits, which is what a chart can show; null where it is not finite.
pub struct Short(pub f64);

impl Serialize for Short {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let short = self.0 as f32;
        match self.0 {
            value if !value.is_finite() => serializer.serialize_none(),
            // Beyond the range of the short ones.
            value if !short.is_finite() || (short.abs() < 1e-30 && value != 0.0) => {
                serializer.serialize_f64(value)
            }
            _ => serializer.serialize_f32(short),
        }
    }
}

impl CurvesAnswer {
    pub fn new(runs: &[Run], curves: Curves, marks: Vec<CurveMark>, moments: Vec<Moment>) -> Self {
        let shorts: HashMap<Uuid, String> =
            runs.iter().map(|run| (run.id, run.short.clone())).collect();
        let short = |run: &Uuid| shorts.get(run).cloned().unwrap_or_default();
        let mut times: BTreeMap<Uuid, (Vec<i64>, Vec<f64>)> = BTreeMap::new();
        for moment in moments {
            let (steps, seconds) = times.entry(moment.run).or_default();
            steps.push(moment.step);
            seconds.push(moment.at.unix_timestamp_nanos() as f64 / 1e9);
        }
        let marks = marks.iter().map(|mark| OneMark {
            run: short(&mark.run),
            kind: mark.kind,
            step: mark.step,
            attempt: mark.attempt,
            from: mark.from,
        });
        Self {
            from: curves.from,
            to: curves.to,
            width: curves.width,
            marks: marks.collect(),
            curves: curves
                .curves
                .into_iter()
                .map(|curve| OneCurve::new(short(&curve.series.run), curve))
                .collect(),
            runs: runs
                .iter()
                .map(|run| CurveRun::new(run, times.remove(&run.id).unwrap_or_default()))
                .collect(),
        }
    }
}

impl CurveRun {
    fn new(run: &Run, (steps, times): (Vec<i64>, Vec<f64>)) -> Self {
        Self {
            id: run.id.to_string(),
            short: run.short.clone(),
            name: run.name.clone(),
            experiment: run.experiment.clone(),
            state: run.state.map_or("imported", registry::JobState::name).to_owned(),
            seed: run.seed,
            last_step: run.last_step,
            batch_size: run.config.pointer("/train/batch_size").and_then(Value::as_f64),
            group: group(&run.config),
            steps,
            times,
        }
    }
}

/// A digest of a configuration without its seed.
pub fn group(config: &Value) -> String {
    let mut config = config.clone();
    if let Some(keys) = config.as_object_mut() {
        keys.remove("seed");
        keys.remove("name");
    }
    let digest = Sha256::digest(config.to_string());
    digest[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl OneCurve {
    fn new(run: String, curve: Curve) -> Self {
        let (points, lost) = curve.shape.count();
        let mut one = Self {
            run,
            metric: curve.series.name,
            reduced: matches!(curve.shape, CurveShape::Columns(_)),
            points,
            lost,
            step: Vec::new(),
            value: Vec::new(),
            end: Vec::new(),
            min: Vec::new(),
            max: Vec::new(),
            mean: Vec::new(),
        };
        match curve.shape {
            CurveShape::Points(points) => {
                (one.step, one.value) =
                    points.into_iter().map(|(step, value)| (step, Short(value))).unzip();
            }
            CurveShape::Columns(columns) => {
                for column in columns {
                    one.step.push(column.first);
                    one.end.push(column.last);
                    one.min.push(Short(column.least));
                    one.max.push(Short(column.most));
                    one.mean.push(Short(column.mean));
                }
            }
        }
        one
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_short_and_what_is_not_finite_is_null() {
        let text = |value: f64| serde_json::to_string(&Short(value)).unwrap();
        assert_eq!(text(0.1), "0.1");
        assert_eq!(text(1.0 / 3.0), "0.33333334");
        assert_eq!(text(f64::NAN), "null");
        assert_eq!(text(f64::INFINITY), "null");
        assert_eq!(text(0.0), "0.0");
        assert_eq!(text(1e300), "1e+300");
        assert_eq!(text(-1e-200), "-1e-200");
    }

    #[test]
    fn runs_that_differ_in_their_seeds_are_a_group() {
        let config = |seed: u32, steps: u32| json!({"seed": seed, "train": {"steps": steps}});
        assert_eq!(group(&config(1, 10)), group(&config(2, 10)));
        assert_ne!(group(&config(1, 10)), group(&config(1, 11)));
    }
}
