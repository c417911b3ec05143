//! A small chart of the last day, drawn here: a share from 0 to 1 over 24 hours.

use maud::{Markup, html};
use time::OffsetDateTime;

use super::look::STRETCH;

/// Units of the drawing: a stretch is 3 wide, the whole 1 is 60 high.
const WIDTH: f64 = 288.0;
const HEIGHT: f64 = 60.0;

/// The values by their time; gaps of more than two stretches are gaps. Nothing where there is no value.
pub fn day(what: &str, now: OffsetDateTime, values: &[(OffsetDateTime, Option<f64>)]) -> Markup {
    let begin = now - time::Duration::days(1);
    let known: Vec<(f64, f64)> = values
        .iter()
        .filter_map(|(at, value)| {
            let seconds = (*at - begin).as_seconds_f64() + f64::from(STRETCH) * 30.0;
            let x = seconds / 86_400.0 * WIDTH;
            value.filter(|value| value.is_finite()).map(|value| (x.clamp(0.0, WIDTH), value))
        })
        .collect();
    let Some(&(_, last)) = known.last() else { return html! {} };
    let mean = known.iter().map(|(_, value)| value).sum::<f64>() / known.len() as f64;
    let highest = known.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let (line, area) = paths(&known);
    let says = format!(
        "{what} over the last day: {} now, {} on average, {} at most",
        percent(last),
        percent(mean),
        percent(highest)
    );
    html! {
        figure.day {
            figcaption.spread { span { (what) } span.quiet { (percent(last)) " now, " (percent(mean)) " on average" } }
            svg.day viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(says) {
                path.grid d=(format!("M0 {0}H{WIDTH}M0 0H{WIDTH}M0 {HEIGHT}H{WIDTH}", HEIGHT / 2.0)) {}
                path.area d=(area) {}
                path.line d=(line) {}
            }
            div.spread.quiet.small aria-hidden="true" { span { "24 h ago" } span { "12 h" } span { "now" } }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// The line, and what is below it.
fn paths(points: &[(f64, f64)]) -> (String, String) {
    use std::fmt::Write;
    const GAP: f64 = WIDTH / 96.0 * 2.5;
    let y = |value: f64| HEIGHT * (1.0 - value.clamp(0.0, 1.0));
    let (mut line, mut area) = (String::new(), String::new());
    let mut rest = points;
    while let Some(&(first, _)) = rest.first() {
        let end = rest.windows(2).position(|pair| pair[1].0 - pair[0].0 > GAP);
        let (piece, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        rest = after;
        let mut last = first;
        for (at, &(x, value)) in piece.iter().enumerate() {
            let letter = if at == 0 { 'M' } else { 'L' };
            let _ = write!(line, "{letter}{x:.1} {:.1}", y(value));
            let _ = match at {
                0 => write!(area, "M{x:.1} {HEIGHT}L{x:.1} {:.1}", y(value)),
                _ => write!(area, "L{x:.1} {:.1}", y(value)),
            };
            last = x;
        }
        // A value alone is a short line.
        if piece.len() == 1 {
            let _ = write!(line, "h3");
            let _ = write!(area, "h3");
            last += 3.0;
        }
        let _ = write!(area, "L{last:.1} {HEIGHT}Z");
    }
    (line, area)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_stay_gaps() {
        let (line, area) = paths(&[(0.0, 0.0), (3.0, 0.5), (100.0, 1.0)]);
        assert_eq!(line, "M0.0 60.0L3.0 30.0M100.0 0.0h3");
        assert_eq!(area.matches('Z').count(), 2);
    }
}
