//! Histograms, drawn here: bars of one series, or outlines of several over one axis.

use std::fmt::Write;

use maud::{Markup, html};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 8.0;
const RIGHT: f64 = 552.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 156.0;

/// Counts in bins of one width.
pub struct Series<'a> {
    /// What they are of.
    pub name: &'a str,
    /// How many fall into each bin.
    pub counts: &'a [u64],
}

/// The series as shares of their own totals over one axis, which goes from `from` to `to`.
pub fn histogram(label: &str, series: &[Series], [from, to]: [f64; 2], unit: &str) -> Markup {
    let shares = |counts: &[u64]| -> Vec<f64> {
        let all = counts.iter().sum::<u64>().max(1) as f64;
        counts.iter().map(|&count| count as f64 / all).collect()
    };
    let highest = series.iter().flat_map(|one| shares(one.counts)).fold(1e-9, f64::max);
    let path = |counts: &[u64]| {
        let width = (RIGHT - LEFT) / counts.len().max(1) as f64;
        let mut path = format!("M{LEFT} {BOTTOM}");
        for (bin, share) in shares(counts).into_iter().enumerate() {
            let (top, end) =
                (BOTTOM - share / highest * (BOTTOM - TOP), LEFT + (bin + 1) as f64 * width);
            let _ = write!(path, "V{top:.1}H{end:.1}");
        }
        let _ = write!(path, "V{BOTTOM}Z");
        path
    };
    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0];
    let text = |at: f64| {
        let value = from + at * (to - from);
        match to - from {
            ..4.0 => format!("{value:.2}"),
            4.0..40.0 => format!("{value:.1}"),
            _ => format!("{value:.0}"),
        }
    };
    html! {
        figure.bars {
            figcaption { (label) @if !unit.is_empty() { span.quiet { " (" (unit) ")" } } }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(described(label, series)) {
                path.axis d=(format!("M{LEFT} {BOTTOM}H{RIGHT}")) {}
                @for (number, one) in series.iter().enumerate() {
                    path class=(format!("bar s{}", number % 8 + 1)) d=(path(one.counts)) {}
                }
                @for at in ticks {
                    text x=(LEFT + at * (RIGHT - LEFT)) y="174"
                        text-anchor=(if at == 0.0 { "start" } else if at == 1.0 { "end" } else { "middle" }) { (text(at)) }
                }
            }
            @if series.len() > 1 {
                ul.legend {
                    @for (number, one) in series.iter().enumerate() {
                        li { span class=(format!("swatch s{}", number % 8 + 1)) aria-hidden="true" {} (one.name) }
                    }
                }
            }
        }
    }
}

fn described(label: &str, series: &[Series]) -> String {
    let counts = |one: &Series| format!("{} ({})", one.name, one.counts.iter().sum::<u64>());
    let names: Vec<String> = series.iter().map(counts).collect();
    format!("histogram of {label}: {}", names.join(", "))
}

/// Counts by value as at most `most` bins of one width over their range; none without values.
pub fn binned(
    counts: &std::collections::BTreeMap<u64, u64>,
    most: u64,
) -> Option<(Vec<u64>, [f64; 2])> {
    let (&low, _) = counts.first_key_value()?;
    let (&high, _) = counts.last_key_value()?;
    let span = high.saturating_sub(low).saturating_add(1);
    let width = span.div_ceil(most.max(1)).max(1);
    let bins = span.div_ceil(width);
    let mut binned = vec![0; usize::try_from(bins).ok()?];
    for (value, count) in counts {
        *binned.get_mut(usize::try_from((value - low) / width).ok()?)? += count;
    }
    Some((binned, [low as f64, low as f64 + (bins * width) as f64]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn every_value_falls_into_a_bin() {
        let counts = [(3, 2), (4, 1), (103, 7)].into();
        let (bins, [from, to]) = binned(&counts, 10).unwrap();
        assert_eq!((bins.iter().sum::<u64>(), bins.len(), from, to), (10, 10, 3.0, 113.0));
        assert_eq!((bins[0], bins[9]), (3, 7));
        assert_eq!(binned(&[(5, 9)].into(), 10).unwrap(), (vec![9], [5.0, 6.0]));
        assert!(binned(&[(0, 1), (u64::MAX, 1)].into(), 40).is_some());
        assert_eq!(binned(&[].into(), 10), None);
    }

    #[test]
    fn names_in_a_histogram_are_escaped() {
        let drawn =
            histogram("<b>", &[Series { name: "\"><script>", counts: &[1, 2] }], [0.0, 1.0], "");
        let drawn = drawn.into_string();
        assert!(!drawn.contains("<script>") && !drawn.contains("<b>"), "{drawn}");
    }
}
