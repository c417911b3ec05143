//! Intervals of 95 %. None is given where there are too few values to know how wide it is, and none has a
//! width of zero: values that are all equal do not say how much others would differ.

/// Fewest values that the interval of a mean is given for.
pub const FEWEST: usize = 3;

/// Student's interval of the mean that independent values are drawn from. None of fewer than [`FEWEST`]
/// values and of values that are all equal; NaN in, NaN out.
pub fn around_mean(values: &[f64]) -> Option<[f64; 2]> {
    let mean = crate::mean(values).filter(|_| values.len() >= FEWEST)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let freedom = values.len() - 1;
    around(mean, freedom, (squares / (freedom * values.len()) as f64).sqrt())
}

/// The same from the number of values, their mean and their standard deviation (divided by n − 1).
pub fn around_mean_of(count: usize, mean: f64, deviation: f64) -> Option<[f64; 2]> {
    let freedom = count.checked_sub(1).filter(|_| count >= FEWEST)?;
    around(mean, freedom, deviation / (count as f64).sqrt())
}

/// Student's interval of a ratio of sums, Σ part / Σ whole, over independent `[whole, part]` (Cochran 1977,
/// section 6.4). None of fewer than [`FEWEST`] and where all have one ratio.
pub fn around_ratio(counts: &[[u64; 2]]) -> Option<[f64; 2]> {
    let sum = |at: usize| counts.iter().map(|one| one[at] as f64).sum::<f64>();
    let (whole, part) = (sum(0), sum(1));
    if counts.len() < FEWEST || whole == 0.0 {
        return None;
    }
    let ratio = part / whole;
    let squares: f64 =
        counts.iter().map(|one| (one[1] as f64 - ratio * one[0] as f64).powi(2)).sum();
    let freedom = counts.len() - 1;
    let scale = counts.len() as f64 / freedom as f64;
    around(ratio, freedom, (scale * squares).sqrt() / whole)
}

/// The interval around what is computed of `count` images, from what comes out where one of several groups of
/// `left_out` different images each is left out (delete-group jackknife with Student's t; a group need not be
/// of the last images, and some may be in none). None with fewer than [`FEWEST`] groups, where a group leaves
/// nothing, and where all are equal; NaN in, NaN out.
pub fn jackknife(value: f64, without: &[f64], count: u64, left_out: u64) -> Option<[f64; 2]> {
    let centre = crate::mean(without).filter(|_| without.len() >= FEWEST)?;
    let kept = count.checked_sub(left_out).filter(|&kept| kept > 0 && left_out > 0)? as f64;
    let squares: f64 = without.iter().map(|one| (one - centre).powi(2)).sum();
    let freedom = without.len() - 1;
    // Of a mean the deviation is that of one group, and so much smaller than that of its standard error.
    let scale = kept * kept / (left_out as f64 * count as f64);
    around(value, freedom, (scale * squares / freedom as f64).sqrt())
}

/// Student's interval; none of no width.
fn around(centre: f64, freedom: usize, error: f64) -> Option<[f64; 2]> {
    // Deviations that only rounding makes are none.
    if error <= centre.abs() * 4.0 * f64::EPSILON {
        return None;
    }
    let reach = student(freedom) * error;
    Some([centre - reach, centre + reach])
}

/// The 97.5 % quantile of Student's t, by Fisher's expansion from eleven degrees of freedom on.
fn student(freedom: usize) -> f64 {
    const SMALL: [f64; 10] =
        [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    let large = || {
        let v = freedom as f64;
        1.959_964 + 2.372_271 / v + 2.822_499 / v.powi(2) + 2.555_85 / v.powi(3)
    };
    SMALL.get(freedom.saturating_sub(1)).copied().unwrap_or_else(large)
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
    // At either end the bound is the end itself, which rounding misses.
    let low = if successes == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes == trials { 1.0 } else { (centre + half).min(1.0) };
    Some([low, high])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use random::Rng;

    use super::*;

    /// How often `interval` of `count` drawn values holds the mean of what they are drawn from, of 4000 times.
    fn coverage(
        count: usize,
        mean: f64,
        draw: fn(&mut Rng) -> f64,
        interval: fn(&[f64]) -> Option<[f64; 2]>,
    ) -> f64 {
        let trials = 4000;
        let held = (0..trials).filter(|&trial| {
            let mut rng = Rng::new(random::key(&[trial, count as u64]));
            let values: Vec<f64> = (0..count).map(|_| draw(&mut rng)).collect();
            interval(&values).is_some_and(|[low, high]| low <= mean && mean <= high)
        });
        held.count() as f64 / trials as f64
    }

    /// Decision 44 has these figures; four standard errors of 4000 trials are 1.4 points.
    #[test]
    fn intervals_of_few_values_hold_the_mean_as_often_as_they_say() {
        for count in [3, 5, 10, 40] {
            let normal = coverage(count, 0.0, Rng::normal, around_mean);
            assert!((normal - 0.95).abs() < 0.014, "normal, {count}: {normal}");
            // Skewed like distances of features: lognormal with σ = 0.5, whose skewness is 1.75.
            let skewed =
                coverage(count, 0.125f64.exp(), |rng| (0.5 * rng.normal()).exp(), around_mean);
            println!("{count:2} values: normal {normal:.3}, skewed {skewed:.3}");
            assert!((0.90..0.965).contains(&skewed), "skewed, {count}: {skewed}");
        }
    }

    #[test]
    fn too_few_and_equal_values_have_no_interval() {
        assert_eq!((around_mean(&[]), around_mean(&[1.0, 2.0])), (None, None));
        assert_eq!((around_mean(&[0.1; 7]), around_mean(&[0.0; 7])), (None, None));
        // R: t.test(c(1, 2, 6))$conf.int.
        let [low, high] = around_mean(&[1.0, 2.0, 6.0]).unwrap();
        assert!((low + 3.572_5).abs() < 2e-3 && (high - 9.572_5).abs() < 2e-3, "{low} {high}");
        assert!(around_mean(&[1.0, f64::NAN, 2.0]).unwrap()[0].is_nan());
        assert_eq!(around_ratio(&[[4, 2]; 9]), None);
        assert_eq!(around_ratio(&[[0, 0]; 9]), None);
        // Equal wholes: the interval of the mean of the ratios.
        let ratio = around_ratio(&[[10, 3], [10, 5], [10, 9], [10, 1]]).unwrap();
        let mean = around_mean(&[0.3, 0.5, 0.9, 0.1]).unwrap();
        assert!((0..2).all(|end| (ratio[end] - mean[end]).abs() < 1e-12), "{ratio:?} {mean:?}");
    }

    #[test]
    fn quantiles_of_t_are_those_of_tables() {
        for (freedom, quantile) in [(2, 4.303), (10, 2.228), (11, 2.201), (20, 2.086), (100, 1.984)]
        {
            assert!((student(freedom) - quantile).abs() < 1e-3, "{freedom}: {}", student(freedom));
        }
    }

    #[test]
    fn a_jackknife_of_a_mean_has_its_standard_error() {
        let values: Vec<f64> = (0..10).map(f64::from).collect();
        let total: f64 = values.iter().sum();
        let without: Vec<f64> = values.iter().map(|value| (total - value) / 9.0).collect();
        let [low, high] = jackknife(4.5, &without, 10, 1).unwrap();
        let [a, b] = around_mean(&values).unwrap();
        assert!((high - b).abs() < 1e-9 && (low - a).abs() < 1e-9);
        assert_eq!(jackknife(1.0, &[1.0, 2.0], 4, 2), None);
        assert_eq!(jackknife(1.0, &[1.0; 5], 10, 2), None);
        assert_eq!(jackknife(1.0, &[1.0, 2.0, 3.0], 2, 2), None);
        assert!(jackknife(1.0, &[1.0, f64::NAN, 2.0], 10, 2).unwrap()[0].is_nan());
    }

    /// With groups that leave some values over, the error is still that of all.
    #[test]
    fn a_jackknife_of_groups_holds_the_mean_as_often_as_it_says() {
        let of_groups = |values: &[f64]| {
            let part = values.len() / 10;
            let total: f64 = values.iter().sum();
            let rest = (values.len() - part) as f64;
            let without: Vec<f64> = (0..10)
                .map(|group| &values[group * part..(group + 1) * part])
                .map(|group| (total - group.iter().sum::<f64>()) / rest)
                .collect();
            jackknife(total / values.len() as f64, &without, values.len() as u64, part as u64)
        };
        for count in [20, 29, 40, 57] {
            let held = coverage(count, 0.0, Rng::normal, of_groups);
            assert!((held - 0.95).abs() < 0.014, "{count}: {held}");
        }
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
            without in prop::collection::vec(-1e3..1e3f64, 3..30),
        ) {
            if let Some([low, high]) = jackknife(value, &without, 100, 3) {
                prop_assert!(low < value && value < high);
                prop_assert!((high + low - 2.0 * value).abs() < 1e-6 * (1.0 + high - low));
            }
        }
    }
}
