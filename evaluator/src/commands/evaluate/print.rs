//! Scores for people: a table a task, and what they depend on.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use pictures::Chart;
use terminal::Usage;

use super::Scored;
use crate::scores::{Estimate, Line, Score, Value, reach};
use crate::scoring::Scores;

pub fn print(scored: &Scored) -> Result<()> {
    terminal::print(&scored.outputs)?;
    for (task, scores) in &scored.tasks {
        let mut table = terminal::Table::new(&["score", "value", "95 %", "of"]);
        for line in lines(scores) {
            table.row(line);
        }
        let Scores { outputs, inputs, .. } = scores;
        terminal::print(&format!("\n{task}: {outputs} outputs of {inputs} inputs"))?;
        table.print()?;
        for note in scores.perfect_note().into_iter().chain(few(scores)) {
            terminal::print(&note)?;
        }
    }
    terminal::print("")?;
    for line in depends(scored) {
        terminal::print(&line)?;
    }
    Ok(())
}

/// What a dash in place of an interval means.
fn few(scores: &Scores) -> Option<String> {
    let without = |score: &Score| {
        let value = scores.get(*score);
        matches!(value, Some(Value::Interval(one) | Value::Distribution { mean: one, .. }) if one.ends().is_none())
    };
    Score::ALL.iter().any(without).then(|| {
        "–: no interval: too few inputs (means want 3 inputs, FID 20), or all values are equal"
            .to_owned()
    })
}

/// A line for each score that there is: its name, value, 95 % interval, and what it is of.
fn lines(scores: &Scores) -> Vec<[String; 4]> {
    let scales = scores.scales.map_or(String::new(), |scales| format!(", {scales} of 5 scales"));
    let line = |score: &Score| {
        let Line { name, of, factor, digits, scales: scaled } = score.about().line;
        let number = |value: f64| format!("{:.digits$}", value * factor);
        let value = scores.get(*score)?;
        let (value, range) = match value {
            Value::Number(value) => (number(*value), String::new()),
            Value::Estimate(Estimate { mean, deviation: None }) => (number(*mean), String::new()),
            Value::Estimate(Estimate { mean, deviation: Some(deviation) }) => {
                let deviation = reach(deviation * factor, digits);
                (format!("{} ± {deviation}", number(*mean)), String::new())
            }
            Value::Interval(interval) | Value::Distribution { mean: interval, .. } => {
                let range = |[low, high]: [f64; 2]| format!("{} to {}", number(low), number(high));
                let range = interval.ends().map_or("–".to_owned(), range);
                (number(interval.value), range)
            }
        };
        let of = if scaled { format!("{of}{scales}") } else { of.to_owned() };
        Some([name.to_owned(), value, range, of])
    };
    Score::ALL.iter().filter_map(line).collect()
}

fn depends(scored: &Scored) -> Vec<String> {
    let depends = &scored.depends;
    let mut lines = vec![match &depends.distribution {
        Some(one) => {
            let digest = one.digest.get(..12).unwrap_or(&one.digest);
            format!("FID and KID against {} images of {} (sha256 {digest})", one.images, one.uri)
        }
        None => "FID and KID against the references".to_owned(),
    }];
    lines.push(match depends.size {
        Some(side) => format!("pictures brought to {side}x{side}, antialiased bicubic, middle"),
        None => "pictures at their own size, photographs brought to that of the output".to_owned(),
    });
    let (splits, subset) = (depends.splits, depends.kid_subset);
    lines.push(format!("IS over {splits} splits in order, KID over subsets of at most {subset}"));
    for one in &depends.extractors {
        let (name, scores, rule) = (&one.name, one.scores.join(", "), &one.rule);
        let digest = one.sha256.get(..12).unwrap_or(&one.sha256);
        lines.push(format!("{name} (sha256 {digest}) for {scores}; pictures: {rule}"));
    }
    let timing = &scored.timing;
    lines.push(format!(
        "{:.1} outputs/s, extractors busy {:.0} % of {:.1} s, then {:.1} s",
        timing.outputs_per_second,
        100.0 * timing.extractor_share,
        timing.seconds,
        timing.closing_seconds
    ));
    if depends.extractors.is_empty() {
        // Nothing but pixels: neither FID nor an extractor has anything to depend on.
        lines = vec![lines.swap_remove(1)];
    }
    lines.extend(scored.matching.note());
    lines
}

/// The histogram of the diversity of each task, in hundredths, all over one axis.
pub fn histogram(file: &Path, tasks: &BTreeMap<String, Scores>) -> Result<()> {
    let mut chart = Chart::on_one_axis();
    let mut any = false;
    for (task, scores) in tasks {
        let Some(histogram) = scores.histogram(Score::Likeness) else { continue };
        any = true;
        let width = 100 / histogram.len().max(1) as u64;
        let counts = (0..).map(|bar| bar * width).zip(histogram.iter().copied());
        let counts = counts.filter(|(_, count)| *count > 0).collect();
        chart.panel(&format!("{task}, MS-SSIM of outputs"), "/100", &counts);
    }
    if !any {
        bail!(Usage::new("--histogram: no input has more than one output to compare"));
    }
    Ok(storage::named::write(file, &chart.png()?)?)
}
