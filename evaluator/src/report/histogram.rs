//! Histograms of several systems over each other (figure 7 of the paper), as SVG.

use std::fmt::Write;

use super::html::escape;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 44.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;
const COLOURS: [&str; 6] = ["#2f6fb0", "#c8553d", "#3f8f5b", "#8a5fb0", "#b08a2f", "#555555"];

/// The share of each bin.
fn shares(counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().sum::<u64>().max(1) as f64;
    counts.iter().map(|&count| count as f64 / total).collect()
}

/// The highest share of these histograms: where the axis of all of them ends.
pub fn highest<'a>(histograms: impl Iterator<Item = &'a [u64]>) -> f64 {
    histograms.flat_map(shares).fold(1e-9, f64::max)
}

/// Shares of pairs over 0 to 1, a line for each system; the axis of shares ends at `highest`.
pub fn draw(series: &[(&str, &[u64])], highest: f64) -> String {
    let x = |share: f64| LEFT + share * (WIDTH - LEFT - 10.0);
    let y = |share: f64| TOP + (1.0 - share / highest) * HEIGHT;
    let height = TOP + HEIGHT + BOTTOM + 20.0 * series.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"14\">"
    );
    let bottom = y(0.0);
    let _ = write!(
        svg,
        "<path d=\"M{LEFT} {TOP}V{bottom}H{}\" fill=\"none\" stroke=\"#999\"/>",
        x(1.0)
    );
    for tick in 0..=5 {
        let share = f64::from(tick) / 5.0;
        let (x, y) = (x(share), bottom + 18.0);
        let _ = write!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{share:.1}</text>");
    }
    for (share, at) in [(highest, TOP + 10.0), (0.0, bottom)] {
        let x = LEFT - 6.0;
        let share = share * 100.0;
        let _ = write!(svg, "<text x=\"{x}\" y=\"{at}\" text-anchor=\"end\">{share:.0} %</text>");
    }
    for (number, (system, counts)) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let mut path = format!("M{:.1} {bottom:.1}", x(0.0));
        let bars = counts.len().max(1) as f64;
        for (bar, share) in shares(counts).into_iter().enumerate() {
            let end = x((bar + 1) as f64 / bars);
            let _ = write!(path, "V{:.1}H{end:.1}", y(share));
        }
        let _ = write!(path, "V{bottom:.1}");
        let _ = write!(
            svg,
            "<path d=\"{path}\" fill=\"{colour}\" fill-opacity=\"0.15\" stroke=\"{colour}\" \
             stroke-width=\"1.5\"/>"
        );
        let line = bottom + BOTTOM + 20.0 * number as f64;
        let pairs: u64 = counts.iter().sum();
        let _ = write!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{line}\">{} ({pairs} pairs)</text>",
            line - 11.0,
            LEFT + 18.0,
            escape(system)
        );
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_one_report_have_one_axis() {
        let (low, high): (&[u64], &[u64]) = (&[5, 5, 5, 5], &[0, 0, 30, 10]);
        let end = highest([low, high].into_iter());
        assert_eq!(end, 0.75);
        for series in [("A", low), ("<B>", high)] {
            let svg = draw(&[series], end);
            assert!(svg.contains(">75 %</text>") && svg.contains(">0 %</text>"), "{svg}");
            assert!(!svg.contains("<B>"), "{svg}");
        }
    }
}
