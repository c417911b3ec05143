//! Counts of values in bins of one width.

use std::ops::Range;

/// How many values lie in each of `bins` bins (at least one) of one width over `range`. Values outside
/// count in the first or last bin; NaN in none.
pub fn histogram(
    values: impl IntoIterator<Item = f64>,
    range: Range<f64>,
    bins: usize,
) -> Vec<u64> {
    let bins = bins.max(1);
    let mut counts = vec![0; bins];
    for value in values {
        if !value.is_nan() {
            let share = (value - range.start) / (range.end - range.start);
            counts[((share.max(0.0) * bins as f64) as usize).min(bins - 1)] += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bin_holds_its_lower_end() {
        let values = [0.0, 0.24, 0.25, 0.99, 1.0, -3.0, 7.0, f64::NAN, f64::INFINITY];
        assert_eq!(histogram(values, 0.0..1.0, 4), [3, 1, 0, 4]);
        assert_eq!(histogram([], 0.0..1.0, 0), [0]);
    }

    proptest! {
        #[test]
        fn every_number_is_counted_once(
            values in prop::collection::vec(any::<f64>(), 0..60),
            bins in 1usize..20,
        ) {
            let counts = histogram(values.iter().copied(), -1.0..2.0, bins);
            prop_assert_eq!(counts.len(), bins);
            let numbers = values.iter().filter(|value| !value.is_nan()).count();
            prop_assert_eq!(counts.iter().sum::<u64>(), numbers as u64);
        }
    }
}
