//! Intervals of 95 %.

use random::Rng;

/// One resample of a bootstrap (Efron 1979): as many items as there are, drawn with replacement. Of
/// nothing, nothing.
pub fn resample<'a, T>(items: &'a [T], rng: &mut Rng) -> impl Iterator<Item = &'a T> {
    (0..items.len()).map(|_| &items[rng.below(items.len() as u64) as usize])
}

/// The interval around `value` from what comes out where one of several random groups is left out
/// (delete-group jackknife with Student's t). None with fewer than two groups; NaN in, NaN out.
pub fn jackknife(value: f64, without: &[f64]) -> Option<[f64; 2]> {
    let centre = crate::mean(without).filter(|_| without.len() >= 2)?;
    let groups = without.len() as f64;
    let squares: f64 = without.iter().map(|one| (one - centre).powi(2)).sum();
    let error = ((groups - 1.0) / groups * squares).sqrt();
    let reach = student(without.len() - 1) * error;
    Some([value - reach, value + reach])
}

/// The 97.5 % quantile of Student's t.
fn student(freedom: usize) -> f64 {
    const SMALL: [f64; 10] =
        [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    SMALL.get(freedom.saturating_sub(1)).copied().unwrap_or(1.96 + 2.4 / freedom as f64)
}

/// Wilson's score interval (1927) for a proportion, within 0 and 1; none without trials.
pub fn wilson(trials: u64, successes: u64) -> Option<[f64; 2]> {
    const Z: f64 = 1.959_963_984_540_054;
    if trials == 0 {
        return None;
    }
    let (n, p) = (trials as f64, successes as f64 / trials as f64);
    let shrink = 1.0 + Z * Z / n;
    let centre = (p + Z * Z / (2.0 * n)) / shrink;
    let half = Z / shrink * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some([(centre - half).max(0.0), (centre + half).min(1.0)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_jackknife_of_a_mean_has_its_standard_error() {
        let values: Vec<f64> = (0..10).map(f64::from).collect();
        let total: f64 = values.iter().sum();
        let without: Vec<f64> = values.iter().map(|value| (total - value) / 9.0).collect();
        let [low, high] = jackknife(4.5, &without).unwrap();
        let variance = values.iter().map(|value| (value - 4.5f64).powi(2)).sum::<f64>() / 9.0;
        let expected = 2.262 * (variance / 10.0).sqrt();
        assert!((high - 4.5 - expected).abs() < 1e-9 && (4.5 - low - expected).abs() < 1e-9);
        assert_eq!(jackknife(1.0, &[1.0]), None);
        assert!(jackknife(1.0, &[1.0, f64::NAN]).unwrap()[0].is_nan());
    }

    #[test]
    fn wilson_is_as_in_the_books() {
        // R: binom::binom.confint(method = "wilson").
        for (trials, successes, low, high) in
            [(10, 5, 0.23659, 0.76341), (50, 0, 0.0, 0.07135), (50, 50, 0.92865, 1.0)]
        {
            let [a, b] = wilson(trials, successes).unwrap();
            let close = |a: f64, b: f64| (a - b).abs() < 5e-5;
            assert!(close(a, low) && close(b, high), "{trials} {successes}: {a} {b}");
        }
        assert_eq!(wilson(0, 0), None);
    }

    proptest! {
        #[test]
        fn a_resample_draws_from_the_items_alone(
            items in prop::collection::vec(any::<u32>(), 0..30),
            seed: u64,
        ) {
            let drawn: Vec<u32> = resample(&items, &mut random::Rng::new(seed)).copied().collect();
            prop_assert_eq!(drawn.len(), items.len());
            prop_assert!(drawn.iter().all(|one| items.contains(one)));
            let again: Vec<u32> = resample(&items, &mut random::Rng::new(seed)).copied().collect();
            prop_assert_eq!(drawn, again);
        }

        #[test]
        fn wilson_holds_the_proportion_and_narrows_with_trials(trials in 1u64..5000, part in 0.0..=1f64) {
            let successes = (trials as f64 * part) as u64;
            let [low, high] = wilson(trials, successes).unwrap();
            let share = successes as f64 / trials as f64;
            prop_assert!(0.0 <= low && low <= share + 1e-12 && share <= high + 1e-12 && high <= 1.0);
            let [a, b] = wilson(4 * trials, 4 * successes).unwrap();
            prop_assert!(b - a < high - low);
        }

        #[test]
        fn a_jackknife_lies_evenly_around_its_value(
            value in -1e3..1e3f64,
            without in prop::collection::vec(-1e3..1e3f64, 2..30),
        ) {
            let [low, high] = jackknife(value, &without).unwrap();
            prop_assert!(low <= value && value <= high);
            prop_assert!((high + low - 2.0 * value).abs() < 1e-6 * (1.0 + high - low));
        }
    }
}
