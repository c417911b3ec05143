//! Statistics of measured values: means, quantiles, intervals, histograms. Pure functions of slices,
//! each written once for scores, benches and the watch over a training.
//!
//! - `None` means that there is no answer: no values, or too few.
//! - NaN in, NaN out: one NaN among the values makes every mean and quantile NaN, wherever it stands.
//!   Only [`histogram`] leaves NaN out, since it falls into no bin.

mod histogram;
mod interval;
mod quantile;

pub use histogram::histogram;
pub use interval::{FEWEST, around_mean, around_mean_of, around_ratio, jackknife, wilson};
pub use quantile::{median, nearest, quantile};

/// The mean; none of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The standard deviation of a population (divided by N, as numpy's `std`); none of nothing.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / values.len() as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn means_and_deviations_are_those_of_numpy() {
        // numpy.mean and numpy.std of [1, 2, 4, 9].
        let values = [1.0, 2.0, 4.0, 9.0];
        assert_eq!(mean(&values), Some(4.0));
        assert!((deviation(&values).unwrap() - 3.082_207_001_484_488).abs() < 1e-12);
        assert_eq!((mean(&[]), deviation(&[])), (None, None));
        assert!(mean(&[1.0, f64::NAN]).unwrap().is_nan());
        assert!(deviation(&[1.0, f64::NAN]).unwrap().is_nan());
    }

    proptest! {
        #[test]
        fn a_deviation_scales_and_does_not_move(
            values in prop::collection::vec(-1e3..1e3f64, 1..50),
            factor in 0.1..10f64,
            shift in -1e3..1e3f64,
        ) {
            let other: Vec<f64> = values.iter().map(|value| value * factor + shift).collect();
            let (a, b) = (deviation(&values).unwrap(), deviation(&other).unwrap());
            prop_assert!((a * factor - b).abs() < 1e-9 * (1.0 + b), "{a} {b}");
            prop_assert!(a >= 0.0);
        }
    }
}
