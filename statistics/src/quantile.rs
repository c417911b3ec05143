//! Quantiles of values in any order.

/// The quantile at `share` (0 the smallest, 1 the largest; clamped), interpolated linearly between two
/// values as numpy's and R's default. None of nothing; NaN where a value is NaN.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let sorted = sorted(values)?;
    let place = place(&sorted, share);
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    // Not where both are one infinity, whose difference is no number.
    let between = || low + (high - low) * (place - place.floor());
    Some(if low < high { between().clamp(low, high) } else { low })
}

/// The median: the middle value, or the mean of the middle two. None of nothing; NaN where a value is NaN.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The value nearest to the quantile at `share`: one that was measured, the upper one of two that are
/// equally near. None of nothing; NaN where a value is NaN.
pub fn nearest(values: &[f64], share: f64) -> Option<f64> {
    let sorted = sorted(values)?;
    Some(sorted[place(&sorted, share).round() as usize])
}

/// In ascending order; none of nothing. One NaN makes all of them NaN.
fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    if values.is_empty() {
        return None;
    }
    if values.iter().any(|value| value.is_nan()) {
        return Some(vec![f64::NAN]);
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Some(sorted)
}

/// Where the quantile lies among sorted values, from 0.
fn place(sorted: &[f64], share: f64) -> f64 {
    share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        assert_eq!(quantile(&[4.0, 1.0, 3.0, 2.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[7.0], 0.975), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[f64::INFINITY; 2]), Some(f64::INFINITY));
    }

    #[test]
    fn the_nearest_was_measured() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        let at = |share| nearest(&hundred, share);
        assert_eq!([at(0.5), at(0.9), at(1.0)], [Some(51.0), Some(90.0), Some(100.0)]);
        assert_eq!(nearest(&[], 0.5), None);
    }

    #[test]
    fn a_nan_makes_every_quantile_nan() {
        for share in [0.0, 0.5, 1.0] {
            assert!(quantile(&[1.0, f64::NAN, 2.0], share).unwrap().is_nan());
            assert!(nearest(&[f64::NAN, 1.0], share).unwrap().is_nan());
        }
    }

    proptest! {
        #[test]
        fn quantiles_rise_and_stay_within_the_values(
            mut values in prop::collection::vec(-1e6..1e6f64, 1..40),
            a in 0.0..=1f64,
            b in 0.0..=1f64,
        ) {
            let (low, high) = (a.min(b), a.max(b));
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for of in [quantile, nearest] {
                let (one, other) = (of(&values, low).unwrap(), of(&values, high).unwrap());
                prop_assert!(least <= one && one <= other && other <= most);
                prop_assert_eq!((of(&values, 0.0), of(&values, 1.0)), (Some(least), Some(most)));
            }
            let before = quantile(&values, a);
            values.reverse();
            prop_assert_eq!(quantile(&values, a), before);
            prop_assert!(values.contains(&nearest(&values, a).unwrap()));
        }

        #[test]
        fn half_of_the_values_lie_on_either_side_of_the_median(
            values in prop::collection::vec(-1e6..1e6f64, 1..40),
        ) {
            let middle = median(&values).unwrap();
            let below = values.iter().filter(|value| **value < middle).count();
            let above = values.iter().filter(|value| **value > middle).count();
            prop_assert!(2 * below <= values.len() && 2 * above <= values.len());
        }
    }
}
