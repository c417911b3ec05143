//! What a score comes out as: a number, with how sure it is.

use random::Rng;
use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap.
const RESAMPLES: u64 = 1000;

/// A mean and the standard deviation of what it is the mean of (of the population, as numpy's `std`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The standard deviation over splits or subsets.
    pub deviation: f64,
}

impl Estimate {
    /// Mean and standard deviation of these values; `None` if there are no values.
    pub fn over(values: &[f64]) -> Option<Self> {
        let (mean, deviation) = (statistics::mean(values)?, statistics::deviation(values)?);
        Some(Self { mean, deviation })
    }
}

/// A value with the ends of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The value itself.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// In another unit.
    pub fn times(self, factor: f64) -> Self {
        Self { value: self.value * factor, low: self.low * factor, high: self.high * factor }
    }

    /// Mean of values, with the interval of a bootstrap over them (percentiles of the means of 1000
    /// resamples, drawn by a fixed seed). None without values.
    ///
    /// A value is that of one input: outputs of one input are not independent.
    pub fn bootstrap(values: &[f64]) -> Option<Self> {
        let count = values.len() as u64;
        let value = statistics::mean(values)?;
        let means: Vec<f64> = (0..RESAMPLES)
            .map(|number| {
                let mut rng = Rng::new(random::key(&[number, count]));
                statistics::resample(values, &mut rng).sum::<f64>() / count as f64
            })
            .collect();
        let at = |share| statistics::nearest(&means, share);
        Some(Self { value, low: at(0.025)?, high: at(0.975)? })
    }

    /// Of a distance, from what it is where one of several random groups is left out; none with fewer
    /// than two groups.
    pub fn jackknife(value: f64, without: &[f64]) -> Option<Self> {
        let [low, high] = statistics::jackknife(value, without)?;
        Some(Self { value, low: low.max(0.0), high })
    }
}

/// The score of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Of all outputs together, without an interval.
    Number(f64),
    /// With a 95 % interval.
    Interval(Interval),
    /// With a deviation over splits or subsets.
    Estimate(Estimate),
    /// With how many outputs have which value.
    Distribution {
        /// The mean.
        mean: Interval,
        /// Outputs in each of some bins of one width from 0 to 1.
        histogram: Vec<u64>,
    },
}

impl Value {
    /// The value itself.
    pub fn number(&self) -> f64 {
        match self {
            Self::Number(value) => *value,
            Self::Interval(interval) => interval.value,
            Self::Estimate(estimate) => estimate.mean,
            Self::Distribution { mean, .. } => mean.value,
        }
    }

    /// With its interval, or one deviation either way; none of a plain number.
    pub fn interval(&self) -> Option<Interval> {
        match self {
            Self::Number(_) => None,
            Self::Interval(interval) => Some(*interval),
            Self::Estimate(Estimate { mean, deviation }) => {
                Some(Interval { value: *mean, low: mean - deviation, high: mean + deviation })
            }
            Self::Distribution { mean, .. } => Some(*mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_intervals_hold_the_truth_as_often_as_they_say() {
        let mut held = 0;
        for trial in 0..200 {
            let mut rng = Rng::new(trial);
            let values: Vec<f64> = (0..80).map(|_| rng.normal()).collect();
            let interval = Interval::bootstrap(&values).unwrap();
            assert!(interval.low <= interval.value && interval.value <= interval.high);
            held += u32::from(interval.low <= 0.0 && 0.0 <= interval.high);
        }
        // 95 % of 200, four standard deviations either way and a little for the percentiles.
        assert!((174..=200).contains(&held), "{held}");
    }

    #[test]
    fn nothing_has_no_interval() {
        assert_eq!(Interval::bootstrap(&[]), None);
        assert_eq!(Interval::jackknife(1.0, &[1.0]), None);
        assert_eq!(Interval::bootstrap(&[2.0]).map(|one| (one.low, one.high)), Some((2.0, 2.0)));
        // A distance has no interval below 0.
        assert_eq!(Interval::jackknife(1.0, &[0.0, 9.0]).map(|one| one.low), Some(0.0));
    }

    #[test]
    fn values_are_kept_as_they_always_were() {
        for (value, json) in [
            (Value::Number(1.5), "1.5"),
            (
                Value::Interval(Interval { value: 2.0, low: 1.0, high: 3.0 }),
                r#"{"value":2.0,"low":1.0,"high":3.0}"#,
            ),
            (
                Value::Estimate(Estimate { mean: 2.0, deviation: 0.5 }),
                r#"{"mean":2.0,"deviation":0.5}"#,
            ),
            (
                Value::Distribution {
                    mean: Interval { value: 2.0, low: 1.0, high: 3.0 },
                    histogram: vec![0, 4],
                },
                r#"{"mean":{"value":2.0,"low":1.0,"high":3.0},"histogram":[0,4]}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
            assert_eq!(serde_json::from_str::<Value>(json).unwrap(), value);
        }
    }
}
