//! A series as a line of a few dozen points, drawn here.

use maud::{Markup, html};

/// Width of the drawing in its own units.
const WIDTH: f64 = 100.0;
/// Height of the drawing in its own units.
const HEIGHT: f64 = 30.0;
/// What stays free above and below the line.
const EDGE: f64 = 1.5;

/// The line through points by step. What is not finite is left out; where values span more than a decade the axis is
/// logarithmic, as for losses at the beginning.
pub fn spark(points: &[(i64, f64)], label: &str) -> Markup {
    let path = path(points);
    html! {
        @if path.is_empty() {
            svg.spark viewBox="0 0 100 30" preserveAspectRatio="none" aria-hidden="true" {}
        } @else {
            svg.spark viewBox="0 0 100 30" preserveAspectRatio="none" role="img" aria-label=(label) {
                path d=(path) {}
            }
        }
    }
}

fn path(points: &[(i64, f64)]) -> String {
    let finite: Vec<(i64, f64)> =
        points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let (Some(first), Some(last)) = (finite.first(), finite.last()) else { return String::new() };
    if finite.len() < 2 {
        return String::new();
    }
    let low = finite.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = finite.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let logarithmic = low > 0.0 && high / low > 10.0;
    let scale = |value: f64| if logarithmic { value.ln() } else { value };
    let (low, high) = (scale(low), scale(high));
    let steps = ((last.0 - first.0) as f64).max(1.0);
    let range = if high > low { high - low } else { 1.0 };
    let mut path = String::new();
    for (step, value) in &finite {
        let x = (step - first.0) as f64 / steps * WIDTH;
        let y = HEIGHT - EDGE - (scale(*value) - low) / range * (HEIGHT - 2.0 * EDGE);
        let command = if path.is_empty() { 'M' } else { 'L' };
        path += &format!("{command}{x:.1} {y:.1}");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_edge_to_edge_and_stays_within() {
        assert_eq!(path(&[(0, 2.0), (10, 1.0), (20, 1.5)]), "M0.0 1.5L50.0 28.5L100.0 15.0");
        assert_eq!(path(&[(5, 1.0), (9, 1.0)]), "M0.0 28.5L100.0 28.5");
        assert_eq!(path(&[(0, f64::NAN), (3, 1.0)]), "");
        assert_eq!(path(&[]), "");
        // Decades are even.
        assert_eq!(path(&[(0, 100.0), (1, 10.0), (2, 1.0)]), "M0.0 1.5L50.0 15.0L100.0 28.5");
    }
}
