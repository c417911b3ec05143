//! How sure a score is: means with deviations, bootstrap and jackknife intervals of 95 %.

use random::Rng;
use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap.
const RESAMPLES: usize = 1000;

/// A mean and the standard deviation of what it is the mean of (of the population, as numpy's `std`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The standard deviation over splits or subsets.
    pub deviation: f64,
}

impl Estimate {
    /// Over these values; none where there are none.
    pub fn over(values: &[f64]) -> Option<Self> {
        let mean = mean(values)?;
        let variance =
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        Some(Self { mean, deviation: variance.sqrt() })
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
}

/// Mean of values, with the interval of a bootstrap over them (percentiles of the means of 1000
/// resamples, drawn by a fixed seed). None without values.
///
/// A value is what stands for one input: outputs of one input are no independent witnesses.
pub fn bootstrap(values: &[f64]) -> Option<Interval> {
    let value = mean(values)?;
    let count = values.len() as u64;
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|number| {
            let mut rng = Rng::new(random::key(&[number as u64, count]));
            let sum: f64 = (0..count).map(|_| values[rng.below(count) as usize]).sum();
            sum / count as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((RESAMPLES - 1) as f64 * share).round() as usize];
    Some(Interval { value, low: at(0.025), high: at(0.975) })
}

/// Interval of `value` from what comes out where one of several random groups is left out (delete-group
/// jackknife with Student's t). None with fewer than two groups.
pub fn jackknife(value: f64, without: &[f64]) -> Option<Interval> {
    let centre = mean(without).filter(|_| without.len() >= 2)?;
    let groups = without.len() as f64;
    let squares: f64 = without.iter().map(|one| (one - centre).powi(2)).sum();
    let error = ((groups - 1.0) / groups * squares).sqrt();
    let reach = student(without.len() - 1) * error;
    Some(Interval { value, low: (value - reach).max(0.0), high: value + reach })
}

/// The 97.5 % quantile of Student's t.
fn student(freedom: usize) -> f64 {
    const SMALL: [f64; 10] =
        [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    SMALL.get(freedom.saturating_sub(1)).copied().unwrap_or(1.96 + 2.4 / freedom as f64)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
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
            let interval = bootstrap(&values).unwrap();
            assert!(interval.low <= interval.value && interval.value <= interval.high);
            held += u32::from(interval.low <= 0.0 && 0.0 <= interval.high);
        }
        // 95 % of 200, four standard deviations either way and a little for the percentiles.
        assert!((174..=200).contains(&held), "{held}");
    }

    #[test]
    fn jackknife_of_a_mean_has_its_standard_error() {
        let values: Vec<f64> = (0..10).map(f64::from).collect();
        let total: f64 = values.iter().sum();
        let without: Vec<f64> = values.iter().map(|value| (total - value) / 9.0).collect();
        let interval = jackknife(4.5, &without).unwrap();
        let variance = values.iter().map(|value| (value - 4.5f64).powi(2)).sum::<f64>() / 9.0;
        let expected = 2.262 * (variance / 10.0).sqrt();
        assert!((interval.high - 4.5 - expected).abs() < 1e-9, "{interval:?}");
    }

    #[test]
    fn nothing_has_no_interval() {
        assert_eq!(bootstrap(&[]), None);
        assert_eq!(jackknife(1.0, &[1.0]), None);
        assert_eq!(bootstrap(&[2.0]).map(|one| (one.low, one.high)), Some((2.0, 2.0)));
    }
}
