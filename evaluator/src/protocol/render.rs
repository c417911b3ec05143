//! Filled tables as text, Markdown and CSV: for each system the paper's row, then the one found here.

use anyhow::Result;
use clap::ValueEnum;

use super::compare::Comparison;
use super::filled::{Cell, Filled, Here, Line};
use crate::cells;
use crate::scores::{Interval, Score, reach};

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a terminal.
    Text,
    /// GitHub's tables.
    Markdown,
    /// A line a number: table, block, group, system, source, column, value, low, high, images.
    Csv,
}

/// A table in a format.
///
/// # Errors
/// Where CSV cannot be written.
pub fn render(table: &Filled, format: Format) -> Result<String> {
    match format {
        Format::Text => Ok(text(table)),
        Format::Markdown => Ok(markdown(table)),
        Format::Csv => numbers(table),
    }
}

fn text(table: &Filled) -> String {
    let (headings, rows) = grid(table);
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut text = terminal::Table::new(&headings).cut(&["system"]);
    for row in rows {
        text.row(row);
    }
    format!("{}\n\n{}\n\n{}\n", table.title, text.text(terminal::width()), notes(table).join("\n"))
}

fn markdown(table: &Filled) -> String {
    let (headings, rows) = grid(table);
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = format!("**{}**\n\n{}", table.title, line(&headings));
    text.push_str(&line(&vec!["---".to_owned(); headings.len()]));
    rows.iter().for_each(|row| text.push_str(&line(row)));
    text.push('\n');
    notes(table).iter().for_each(|note| text.push_str(&format!("- {note}\n")));
    text
}

/// Headings and rows.
pub fn grid(table: &Filled) -> (Vec<String>, Vec<Vec<String>>) {
    let blocks = table.lines.iter().any(|line| !line.block.is_empty());
    let mut headings = Vec::new();
    if blocks {
        headings.push(String::new());
    }
    headings.extend(["system", "source"].map(str::to_owned));
    for (group, columns) in &table.groups {
        let name = |column: &Score| format!("{group} {}", column.heading()).trim().to_owned();
        headings.extend(columns.iter().map(name));
    }
    let mut rows = Vec::new();
    let mut last = None;
    for line in &table.lines {
        let found = |cell: &Cell| cell.here.is_some() || !cell.studied.is_empty();
        let here = line.cells.values().any(found);
        // A system that nothing is known of is shown, too.
        let paper = !here || line.cells.values().any(|cell| !cell.paper.is_empty());
        for source in [ScoreSource::Paper, ScoreSource::Here] {
            if !(if source == ScoreSource::Paper { paper } else { here }) {
                continue;
            }
            let mut row = Vec::new();
            if blocks {
                let new = last.replace(&line.block) != Some(&line.block);
                row.push(if new { line.block.clone() } else { String::new() });
            }
            row.extend([line.system.clone(), source.name().to_owned()]);
            for (group, columns) in &table.groups {
                let cell = line.cells.get(group);
                let value = |column| {
                    let value = source.value(cell?, column)?;
                    let own = |one: &&Comparison| {
                        (&one.block, &one.group, one.score) == (&line.block, group, column)
                    };
                    let compared = table.comparisons.iter().find(own);
                    let compared = compared.filter(|_| source == ScoreSource::Here);
                    Some(value + compared.map_or("", |one| one.mark(&line.system)))
                };
                row.extend(columns.iter().map(|&column| value(column).unwrap_or("–".to_owned())));
            }
            rows.push(row);
        }
    }
    (headings, rows)
}

/// Who computed a score.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ScoreSource {
    Paper,
    Here,
}

impl ScoreSource {
    fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Here => "here",
        }
    }

    fn value(self, cell: &Cell, column: Score) -> Option<String> {
        match self {
            Self::Paper => cell.paper.get(&column).map(f64::to_string),
            Self::Here => {
                let scored = || cell.here.as_ref()?.numbers.get(&column);
                let interval = cell.studied.get(&column).or_else(scored)?;
                let digits = column.about().column.map_or(0, |column| column.digits);
                let value = format!("{:.digits$}", interval.value);
                let reach = interval.reach().map(|half| reach(half, digits));
                Some(reach.map_or(value.clone(), |reach| format!("{value} ± {reach}")))
            }
        }
    }
}

/// What the numbers found here depend on, a line each; what is lacking, too.
pub fn notes(table: &Filled) -> Vec<String> {
    let cells: Vec<(String, &Cell)> = table
        .lines
        .iter()
        .flat_map(|line| line.cells.iter().map(move |(group, cell)| (name(line, group), cell)))
        .collect();
    let mut notes = Vec::new();
    let mut through = Vec::new();
    for (name, cell) in &cells {
        let Some(here) = &cell.here else { continue };
        notes.push(format!("{name}: {}", depends(here)));
        for extractor in &here.depends.extractors {
            let digest = extractor.sha256.get(..12).unwrap_or_default();
            let (scores, rule) = (extractor.scores.join(", "), &extractor.rule);
            let line =
                format!("{scores} through {} (sha256 {digest}), pictures: {rule}", extractor.name);
            if !through.contains(&line) {
                through.push(line);
            }
        }
    }
    if !notes.is_empty() {
        through.push(
            "±: half of the 95 % interval (FID: jackknife over ten groups, fool rates: over raters, \
             others: over inputs; none of too few); of IS and KID the deviation over splits and subsets"
                .to_owned(),
        );
    }
    if !table.comparisons.is_empty() {
        let noise = "*: the best of a block that was found here; ≈: within noise of it, since what ± says \
                     overlaps";
        through.push(noise.to_owned());
        through.extend(table.comparisons.iter().filter_map(Comparison::note));
    }
    let lacks =
        cells.iter().filter_map(|(name, cell)| Some(format!("{name}: {}", cell.lacks.as_ref()?)));
    notes.into_iter().chain(through).chain(lacks).collect()
}

fn name(line: &Line, group: &str) -> String {
    let parts = [line.block.as_str(), group, line.system.as_str()];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

fn depends(here: &Here) -> String {
    let scores = &here.scores;
    let mut parts = vec![format!("{} images", scores.inputs)];
    if scores.outputs > scores.inputs {
        parts.push(format!("{} outputs", scores.outputs));
    }
    parts.extend(here.run.clone());
    parts.push(match &here.depends.distribution {
        Some(to) => {
            let digest = to.digest.get(..12).unwrap_or(&to.digest);
            format!("FID and KID against {} images (sha256 {digest})", to.images)
        }
        None => "FID and KID against the references".to_owned(),
    });
    parts.extend(scores.scales.map(|scales| format!("MS-SSIM over {scales} of 5 scales")));
    parts.extend(scores.perfect_note());
    parts.extend(here.matching.note());
    parts.join("; ")
}

/// The columns of [`Format::Csv`].
const COLUMNS: [&str; 10] =
    ["table", "block", "group", "system", "source", "column", "value", "low", "high", "images"];

/// Every number on a line of its own.
fn numbers(table: &Filled) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for line in &table.lines {
        for (group, cell) in &line.cells {
            let mut write = |source: ScoreSource, column: &Score, values: [String; 4]| {
                let of = [&table.table, &line.block, group, &line.system]
                    .map(|text| cells::guarded(text));
                let what = [source.name(), column.name()].map(str::to_owned);
                writer.write_record(of.into_iter().chain(what).chain(values))
            };
            let text = |interval: &Interval| {
                let ends = interval.ends().map(|ends| ends.map(Some)).unwrap_or_default();
                [Some(interval.value), ends[0], ends[1]]
                    .map(|value| value.map_or(String::new(), |value| value.to_string()))
            };
            let none = String::new;
            for (column, value) in &cell.paper {
                write(ScoreSource::Paper, column, [value.to_string(), none(), none(), none()])?;
            }
            for (column, interval) in &cell.studied {
                let [value, low, high] = text(interval);
                write(ScoreSource::Here, column, [value, low, high, none()])?;
            }
            let Some(here) = &cell.here else { continue };
            for (column, interval) in &here.numbers {
                let [value, low, high] = text(interval);
                let images = here.scores.inputs.to_string();
                write(ScoreSource::Here, column, [value, low, high, images])?;
            }
        }
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
