//! What a score comes out as: a number, with how sure it is.

use serde::{Deserialize, Serialize};

/// A mean and the standard deviation of what it is the mean of (of the population, as numpy's `std`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The standard deviation over splits or subsets; none over a single one.
    pub deviation: Option<f64>,
}

impl Estimate {
    /// Mean and standard deviation of these values; `None` if there are no values.
    pub fn over(values: &[f64]) -> Option<Self> {
        let (mean, deviation) = (statistics::mean(values)?, statistics::deviation(values)?);
        Some(Self { mean, deviation: Some(deviation).filter(|_| values.len() > 1) })
    }
}

/// A value with the ends of its 95 % interval, where there are enough inputs for one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The value itself.
    pub value: f64,
    /// Lower end.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

impl Interval {
    /// A value with its interval. Ends that are equal are those of an earlier version, or of no interval.
    pub fn new(value: f64, ends: Option<[f64; 2]>) -> Self {
        let ends = ends.filter(|[low, high]| low != high);
        Self { value, low: ends.map(|ends| ends[0]), high: ends.map(|ends| ends[1]) }
    }

    /// The ends, where there are two and they differ.
    pub fn ends(&self) -> Option<[f64; 2]> {
        Some([self.low?, self.high?]).filter(|[low, high]| low != high)
    }

    /// Half of its width.
    pub fn reach(&self) -> Option<f64> {
        self.ends().map(|[low, high]| (high - low) / 2.0)
    }

    /// Whether the two have values in common; none where one has no interval.
    pub fn overlaps(&self, other: &Self) -> Option<bool> {
        let ([low, high], [other_low, other_high]) = (self.ends()?, other.ends()?);
        Some(low <= other_high && other_low <= high)
    }

    /// In another unit.
    pub fn times(self, factor: f64) -> Self {
        let times = |end: Option<f64>| end.map(|end| end * factor);
        Self { value: self.value * factor, low: times(self.low), high: times(self.high) }
    }

    /// Mean of values with Student's interval, which holds for few as well; none without values.
    ///
    /// A value is that of one input: outputs of one input are not independent.
    pub fn of_mean(values: &[f64]) -> Option<Self> {
        Some(Self::new(statistics::mean(values)?, statistics::around_mean(values)))
    }

    /// Of a distance of `count` images, from what it is without each of several random groups of `left_out`
    /// images.
    pub fn jackknife(value: f64, without: &[f64], count: u64, left_out: u64) -> Self {
        let ends = statistics::jackknife(value, without, count, left_out);
        Self::new(value, ends.map(|[low, high]| [low.max(0.0), high]))
    }
}

/// Half of an interval's width as text; one that is there but too small for the digits is not printed as 0.
pub fn reach(reach: f64, digits: usize) -> String {
    let text = format!("{reach:.digits$}");
    let zero = reach > 0.0 && text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if zero { format!("<{:.digits$}", 0.1_f64.powi(digits as i32)) } else { text }
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
                let ends = deviation.map(|deviation| [mean - deviation, mean + deviation]);
                Some(Interval::new(*mean, ends))
            }
            Self::Distribution { mean, .. } => Some(*mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_have_no_interval_and_none_has_no_width() {
        assert_eq!(Interval::of_mean(&[]), None);
        for values in [&[2.0][..], &[2.0, 3.0], &[2.0; 9]] {
            assert_eq!(Interval::of_mean(values).unwrap().ends(), None);
        }
        let three = Interval::of_mean(&[1.0, 2.0, 3.0]).unwrap();
        assert!(three.low.unwrap() < 0.0 && three.high.unwrap() > 4.0, "{three:?}");
        assert_eq!(Interval::jackknife(1.0, &[1.0], 10, 1).ends(), None);
        // A distance has no interval below 0.
        assert_eq!(Interval::jackknife(1.0, &[0.0, 4.0, 9.0], 30, 10).low, Some(0.0));
        // As an earlier version kept a single value.
        let kept: Interval = serde_json::from_str(r#"{"value":2.0,"low":2.0,"high":2.0}"#).unwrap();
        assert_eq!((kept.ends(), kept.reach()), (None, None));
        assert_eq!(Estimate::over(&[3.0]), Some(Estimate { mean: 3.0, deviation: None }));
    }

    #[test]
    fn a_small_reach_is_not_zero() {
        assert_eq!(
            [reach(0.004, 2), reach(0.006, 2), reach(0.2, 0), reach(0.0, 1)],
            ["<0.01", "0.01", "<1", "0.0"]
        );
    }

    #[test]
    fn intervals_overlap_or_not_or_nobody_knows() {
        let interval = |low, high| Interval::new((low + high) / 2.0, Some([low, high]));
        assert_eq!(interval(1.0, 3.0).overlaps(&interval(2.0, 5.0)), Some(true));
        assert_eq!(interval(1.0, 3.0).overlaps(&interval(3.5, 5.0)), Some(false));
        assert_eq!(interval(1.0, 3.0).overlaps(&Interval::new(2.0, None)), None);
    }

    #[test]
    fn values_are_kept_as_they_always_were() {
        for (value, json) in [
            (Value::Number(1.5), "1.5"),
            (
                Value::Interval(Interval::new(2.0, Some([1.0, 3.0]))),
                r#"{"value":2.0,"low":1.0,"high":3.0}"#,
            ),
            (Value::Interval(Interval::new(2.0, None)), r#"{"value":2.0,"low":null,"high":null}"#),
            (
                Value::Estimate(Estimate { mean: 2.0, deviation: None }),
                r#"{"mean":2.0,"deviation":null}"#,
            ),
            (
                Value::Estimate(Estimate { mean: 2.0, deviation: Some(0.5) }),
                r#"{"mean":2.0,"deviation":0.5}"#,
            ),
            (
                Value::Distribution {
                    mean: Interval::new(2.0, Some([1.0, 3.0])),
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
