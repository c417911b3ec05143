//! The keys of a sweep against its metric, drawn by the server: scatters, and parallel coordinates.

use std::collections::BTreeSet;

use maud::{Markup, html};
use serde_json::Value;

use super::story::{SweepRun, SweepStory};
use crate::format::number;
use crate::screens::runs::plain;

/// Width, height, and the margins left, right, above and below, in units of the drawing.
const SIZE: [f64; 2] = [420.0, 240.0];
const MARGIN: [f64; 4] = [64.0, 14.0, 12.0, 30.0];
/// Runs of the parallel coordinates, at most: more cannot be told apart.
const MOST_LINES: usize = 300;
/// The axis is logarithmic where the largest value is at least this multiple of the smallest.
const DECADES: f64 = 100.0;

/// Where values are on an axis, from 0 to 1.
enum Axis {
    Linear(f64, f64),
    Logarithmic(f64, f64),
    /// Values that are no numbers, in the order in which they come.
    Words(Vec<String>),
}

impl Axis {
    fn of(values: &[&Value]) -> Self {
        let numbers: Option<Vec<f64>> = values.iter().map(|value| value.as_f64()).collect();
        match numbers {
            Some(numbers) if !numbers.is_empty() => Self::numbers(&numbers),
            _ => {
                let mut words: Vec<String> = Vec::new();
                for value in values {
                    let word = plain(value);
                    if !words.contains(&word) {
                        words.push(word);
                    }
                }
                Self::Words(words)
            }
        }
    }

    fn numbers(numbers: &[f64]) -> Self {
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match low > 0.0 && high / low >= DECADES {
            true => Self::Logarithmic(low, high),
            false => Self::Linear(low, high),
        }
    }

    fn place(&self, value: &Value) -> Option<f64> {
        match self {
            Self::Words(words) => {
                let word = plain(value);
                let at = words.iter().position(|one| *one == word)?;
                Some((at as f64 + 0.5) / words.len() as f64)
            }
            axis => axis.number(value.as_f64()?),
        }
    }

    fn number(&self, value: f64) -> Option<f64> {
        let within = |low: f64, high: f64, value: f64| match high > low {
            true => 0.04 + 0.92 * (value - low) / (high - low),
            false => 0.5,
        };
        match self {
            Self::Linear(low, high) => Some(within(*low, *high, value)),
            Self::Logarithmic(low, high) => {
                (value > 0.0).then(|| within(low.ln(), high.ln(), value.ln()))
            }
            Self::Words(_) => None,
        }
    }

    /// Marks of the axis.
    fn ticks(&self) -> Vec<(f64, String)> {
        let at = |value: f64| Some((self.number(value)?, short(value)));
        match self {
            Self::Linear(low, high) if low == high => at(*low).into_iter().collect(),
            Self::Linear(low, high) => {
                let values = [*low, f64::midpoint(*low, *high), *high];
                values.into_iter().filter_map(at).collect()
            }
            Self::Logarithmic(low, high) => {
                let (first, last) = (low.log10().ceil() as i32, high.log10().floor() as i32);
                let step = ((last - first) / 5 + 1).max(1);
                let powers = (first..=last).filter(|power| (power - first) % step == 0);
                powers.filter_map(|power| at(10f64.powi(power))).collect()
            }
            Self::Words(words) => {
                let step = words.len().div_ceil(6);
                let all = words.iter().enumerate().filter(|(at, _)| at % step == 0);
                all.map(|(at, word)| {
                    let word: String = word.chars().take(14).collect();
                    ((at as f64 + 0.5) / words.len() as f64, word)
                })
                .collect()
            }
        }
    }

    fn is_logarithmic(&self) -> bool {
        matches!(self, Self::Logarithmic(..))
    }
}

/// A number of an axis.
fn short(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-3..1e5).contains(&magnitude) {
        return format!("{value:e}").replace("e-", "e−");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Values of a key that its runs have.
fn values<'a>(story: &'a SweepStory, key: &str) -> Vec<&'a Value> {
    story.runs.iter().filter_map(|run| run.point.get(key)).collect()
}

/// Keys with more than one value.
fn varied(story: &SweepStory) -> Vec<&str> {
    let several = |key: &&String| {
        values(story, key).iter().map(|value| plain(value)).collect::<BTreeSet<_>>().len() > 1
    };
    story.keys.iter().filter(several).map(String::as_str).collect()
}

/// The jobs of the best point.
fn best(story: &SweepStory) -> BTreeSet<&str> {
    let rows = story.rows.iter().filter(|row| row.best);
    rows.flat_map(|row| row.jobs.iter().map(String::as_str)).collect()
}

/// A scatter of the metric for each key that varies.
pub fn scatters(story: &SweepStory) -> Markup {
    let measured: Vec<f64> = story.runs.iter().filter_map(|run| run.value).collect();
    let keys = varied(story);
    html! {
        @if keys.is_empty() || measured.is_empty() {
            p.quiet { "Nothing to draw yet: points appear here when runs have measured " (story.by) "." }
        } @else {
            div.cards.wide { @for key in keys { (scatter(story, key, &Axis::numbers(&measured))) } }
            p.quiet.small {
                span.key.best { "●" } " best " span.key { "●" } " measured " span.key.bad { "×" } " failed or lost, below the axis. A point leads to its run."
            }
        }
    }
}

fn scatter(story: &SweepStory, key: &str, y: &Axis) -> Markup {
    let x = Axis::of(&values(story, key));
    let [width, height] = SIZE;
    let [left, right, above, below] = MARGIN;
    let across = |at: f64| left + at * (width - left - right);
    let up = |at: f64| height - below - at * (height - above - below);
    let best = best(story);
    let dot = |run: &SweepRun| -> Option<Markup> {
        let at = across(x.place(run.point.get(key)?)?);
        let title = format!("{}: {} = {}", run.short, key, plain(run.point.get(key)?));
        let mark = match (
            run.value.and_then(|value| y.number(value)),
            run.lost || run.state == "failed",
        ) {
            (Some(value), _) => html! {
                circle class=(if best.contains(run.short.as_str()) { "best" } else { "point" }) cx=(round(at)) cy=(round(up(value))) r="5" {
                    title { (title) ", " (run.value.map(number).unwrap_or_default()) ", " (run.state) }
                }
            },
            (None, true) => html! {
                text.cross x=(round(at)) y=(round(height - below + 4.0)) text-anchor="middle" {
                    title { (title) ", " (if run.lost { "lost" } else { "failed" }) } "×"
                }
            },
            (None, false) => return None,
        };
        Some(html! { a href=(format!("/runs/{}", run.short)) aria-label=(title) { (mark) } })
    };
    let scale = match (x.is_logarithmic(), y.is_logarithmic()) {
        (true, true) => ", both axes logarithmic",
        (true, false) => ", logarithmic across",
        (false, true) => ", logarithmic upwards",
        (false, false) => "",
    };
    html! {
        figure.chart.scatter {
            figcaption { h3 { bdi { (key) } } span.quiet.small { (story.by) " upwards" (scale) } }
            svg viewBox=(format!("0 0 {width} {height}")) role="group" aria-label=(format!("{} by {key}", story.by)) {
                @for (at, text) in y.ticks() {
                    line.grid x1=(left) x2=(width - right) y1=(round(up(at))) y2=(round(up(at))) {}
                    text x=(left - 6.0) y=(round(up(at) + 4.0)) text-anchor="end" { (text) }
                }
                line.axis x1=(left) x2=(width - right) y1=(height - below) y2=(height - below) {}
                @for (at, text) in x.ticks() {
                    line.axis x1=(round(across(at))) x2=(round(across(at))) y1=(height - below) y2=(height - below + 4.0) {}
                    text x=(round(across(at))) y=(height - 8.0) text-anchor="middle" { (text) }
                }
                @for run in story.runs.iter().filter(|run| !best.contains(run.short.as_str())) { @if let Some(dot) = dot(run) { (dot) } }
                @for run in story.runs.iter().filter(|run| best.contains(run.short.as_str())) { @if let Some(dot) = dot(run) { (dot) } }
            }
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A line a run over all keys and the metric, where two keys or more vary.
pub fn parallel(story: &SweepStory) -> Markup {
    let keys = varied(story);
    let measured: Vec<&SweepRun> =
        story.runs.iter().filter(|run| run.value.is_some()).take(MOST_LINES).collect();
    if keys.len() < 2 || measured.len() < 2 {
        return html! {};
    }
    let numbers: Vec<f64> = measured.iter().filter_map(|run| run.value).collect();
    let metric = Axis::numbers(&numbers);
    let axes: Vec<Axis> = keys.iter().map(|key| Axis::of(&values(story, key))).collect();
    let (width, height) = (140.0 * (keys.len() + 1) as f64, 280.0);
    let across = |at: usize| 70.0 + 140.0 * at as f64;
    let up = |at: f64| height - 20.0 - at * (height - 60.0);
    let best = best(story);
    let line = |run: &&SweepRun| {
        let places = keys.iter().zip(&axes).map(|(key, axis)| axis.place(run.point.get(*key)?));
        let places: Option<Vec<f64>> =
            places.chain([run.value.and_then(|value| metric.number(value))]).collect();
        let points = places?
            .iter()
            .enumerate()
            .map(|(at, place)| format!("{},{}", round(across(at)), round(up(*place))))
            .collect::<Vec<_>>()
            .join(" ");
        let mut sorted = numbers.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = sorted.iter().position(|value| Some(*value) == run.value).unwrap_or(0);
        let class = match () {
            () if best.contains(run.short.as_str()) => "best",
            () if rank * 4 < sorted.len() => "low",
            () => "rest",
        };
        Some((
            class == "best",
            html! {
                a href=(format!("/runs/{}", run.short)) aria-label=(format!("Run {}", run.short)) { polyline class=(class) points=(points) {
                    title { (run.short) ", " (story.by) " " (run.value.map(number).unwrap_or_default()) } } }
            },
        ))
    };
    let mut lines: Vec<(bool, Markup)> = measured.iter().filter_map(line).collect();
    lines.sort_by_key(|(best, _)| *best);
    html! {
        h2 { "All keys at once" }
        div.table.parallel tabindex="0" role="region" aria-label="Parallel coordinates" {
            svg viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) role="group" aria-label="A line for each run over its keys and the metric" {
                @for (_, line) in &lines { (line) }
                @for (at, (name, axis)) in keys.iter().copied().chain([story.by.as_str()]).zip(axes.iter().chain([&metric])).enumerate() {
                    line.axis x1=(across(at)) x2=(across(at)) y1=(up(0.0)) y2=(up(1.0)) {}
                    text.name x=(across(at)) y="16" text-anchor="middle" { (name.chars().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<String>()) title { (name) } }
                    @for (place, text) in axis.ticks() {
                        text x=(across(at) + 5.0) y=(round(up(place) + 4.0)) { (text) }
                    }
                }
            }
        }
        p.quiet.small { span.key.best { "—" } " best " span.key { "—" } " lowest quarter of " (story.by)
            @if story.runs.iter().filter(|run| run.value.is_some()).count() > MOST_LINES { "; the first " (MOST_LINES) " runs that have measured" } }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn axes_are_logarithmic_over_decades_and_words_stand_apart() {
        let (a, b, c) = (json!(1e-5), json!(1e-3), json!("adam"));
        let axis = Axis::of(&[&a, &b]);
        assert!(axis.is_logarithmic());
        assert_eq!(axis.ticks().len(), 3);
        assert!(!Axis::of(&[&b, &b]).is_logarithmic());
        assert_eq!(Axis::of(&[&b]).place(&b), Some(0.5));
        let words = Axis::of(&[&c, &a]);
        assert_eq!(words.place(&c), Some(0.25));
        assert_eq!(words.place(&json!("other")), None);
        assert!(!Axis::of(&[&json!(0), &json!(1000)]).is_logarithmic(), "nothing is left of zero");
        assert_eq!(
            (short(0.5), short(1e-5), short(0.0)),
            ("0.5".into(), "1e−5".into(), "0".into())
        );
    }
}
