//! A report: one HTML file that needs nothing else, with tables, histograms of diversity and sheets. What
//! cannot be shown, since outputs are gone or damaged, is said in its place; the rest is shown.

pub(crate) mod cases;
mod histogram;
mod html;
mod sheets;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use image::RgbImage;

use crate::protocol::{Filled, Here, Profile, TrainedRun, grid, notes};
use crate::scores::Score;
use cases::Case;
use html::{Page, Row, Run};
use sheets::Collected;

/// Inputs of a sheet.
const ROWS: usize = 6;
/// Best and worst inputs each.
const CASES: usize = 4;

/// What of a report goes where.
pub struct Options<'a> {
    /// Where this laboratory has what the tables name.
    pub profile: &'a Profile,
    /// Its file.
    pub profile_file: &'a Path,
    /// Also write every sheet as a PNG file into this folder.
    pub pictures: Option<&'a Path>,
}

/// Writes the report of these tables. Returns what could not be shown.
///
/// # Errors
/// Where the file or a picture cannot be written.
pub fn write(tables: &[Filled], options: &Options, file: &Path) -> Result<Vec<String>> {
    let mut page = Page::new("Evaluation");
    about(tables, options, &mut page);
    let parts = tables.iter().map(|table| blocks(table).len() as u64).sum();
    let progress = terminal::Progress::new("report", Some(parts), "parts");
    let histograms = tables.iter().flat_map(systems);
    let highest = histogram::highest(
        histograms.filter_map(|(.., here)| here.scores.histogram(Score::Likeness)),
    );
    let mut failed = Vec::new();
    for table in tables {
        page.section(&table.table, &table.table, &table.title);
        let (headings, rows) = rows(table);
        page.table(&headings, &rows);
        let runs: BTreeSet<&TrainedRun> =
            systems(table).filter_map(|(.., here)| here.trained.as_ref()).collect();
        let anchors: Vec<String> = runs.iter().map(|run| anchor(run)).collect();
        let names = runs.iter().map(|run| run.name.as_str());
        page.run_links(&anchors.iter().map(String::as_str).zip(names).collect::<Vec<_>>());
        page.notes(&notes(table));
        for (block, group) in blocks(table) {
            let name = [block, group].into_iter().filter(|one| !one.is_empty());
            let name = name.collect::<Vec<_>>().join(", ");
            let mut comparison =
                Comparison { table, block, group, options, page: &mut page, failed: &mut failed };
            comparison.write(&name, highest)?;
            progress.inc(1);
        }
    }
    runs(tables, &mut page);
    progress.finish();
    storage::named::write(file, page.finish().as_bytes())?;
    Ok(failed)
}

/// When, by which profile, and by which program.
fn about(tables: &[Filled], options: &Options, page: &mut Page) {
    let names: Vec<&str> = tables.iter().map(|table| table.table.as_str()).collect();
    page.fact("made", &terminal::moment(std::time::SystemTime::now()));
    page.fact("tables", &names.join(", "));
    page.fact("profile", &options.profile_file.display().to_string());
    let revision =
        crate::REVISION.get().map_or(String::new(), |revision| format!(", revision {revision}"));
    page.fact("program", &format!("evaluator {}{revision}", env!("CARGO_PKG_VERSION")));
}

/// Headings and rows of a table; blocks are rows of their own, so that systems are the first column.
fn rows(table: &Filled) -> (Vec<String>, Vec<Row>) {
    let (mut headings, grid) = grid(table);
    let blocks = headings.first().is_some_and(String::is_empty);
    if blocks {
        headings.remove(0);
    }
    let mut rows = Vec::new();
    for mut cells in grid {
        if blocks && !cells.is_empty() {
            let block = cells.remove(0);
            if !block.is_empty() {
                rows.push(Row::Block(block));
            }
        }
        let here = cells.get(1).is_some_and(|source| source == "here");
        rows.push(Row::Cells { cells, here });
    }
    (headings, rows)
}

fn anchor(run: &TrainedRun) -> String {
    let step = run.name.rsplit('@').next().unwrap_or_default();
    format!("run-{}-{step}", run.id)
}

/// The runs of all tables, with what finds them.
fn runs(tables: &[Filled], page: &mut Page) {
    let mut runs: BTreeMap<&TrainedRun, BTreeSet<&str>> = BTreeMap::new();
    for (.., here) in tables.iter().flat_map(systems) {
        if let Some(run) = &here.trained {
            runs.entry(run).or_default().insert(&here.outputs);
        }
    }
    if runs.is_empty() {
        return;
    }
    page.section("runs", "Runs", "Runs");
    let runs = runs.into_iter().map(|(run, outputs)| Run {
        anchor: anchor(run),
        name: run.name.clone(),
        command: format!("scheduler show {}", run.id),
        revision: run.revision.clone().unwrap_or_else(|| "not recorded".to_owned()),
        place: run.place.clone(),
        outputs: outputs.into_iter().map(str::to_owned).collect(),
    });
    page.runs(&runs.collect::<Vec<_>>());
}

/// The systems that were scored.
fn systems(table: &Filled) -> impl Iterator<Item = (&str, &str, &str, &Here)> {
    table.lines.iter().flat_map(|line| {
        line.cells.iter().filter_map(move |(group, cell)| {
            Some((line.block.as_str(), group.as_str(), line.system.as_str(), cell.here.as_ref()?))
        })
    })
}

/// Blocks and groups in which something was scored, in order.
fn blocks(table: &Filled) -> Vec<(&str, &str)> {
    let mut blocks = Vec::new();
    for (block, group, ..) in systems(table) {
        if !blocks.contains(&(block, group)) {
            blocks.push((block, group));
        }
    }
    blocks
}

/// The systems of one block on one set.
struct Comparison<'a> {
    table: &'a Filled,
    block: &'a str,
    group: &'a str,
    options: &'a Options<'a>,
    page: &'a mut Page,
    failed: &'a mut Vec<String>,
}

/// What is shown of a system.
struct ShownSystem<'a> {
    name: &'a str,
    here: &'a Here,
    cases: Vec<Case>,
    pictures: Collected,
}

impl Comparison<'_> {
    fn write(&mut self, name: &str, highest: f64) -> Result<()> {
        let (table, block, group) = (self.table, self.block, self.group);
        let of_block = systems(table).filter(|(own, of, ..)| (*own, *of) == (block, group));
        let all: Vec<(&str, &Here)> = of_block.map(|(_, _, system, here)| (system, here)).collect();
        self.page.heading(name);
        let series: Vec<(&str, &[u64])> = all
            .iter()
            .filter_map(|(system, here)| Some((*system, here.scores.histogram(Score::Likeness)?)))
            .collect();
        if !series.is_empty() {
            self.page.svg(
                &histogram::draw(&series, highest),
                "MS-SSIM between the first and the other outputs of an input, as shares of all pairs; the axis \
                 is that of all histograms here",
            );
        }
        // The photographs stand in every row anyway.
        let drawn: Vec<_> = all.into_iter().filter(|(_, here)| !here.is_photographs()).collect();
        let mut keys = Vec::new();
        for (_, here) in &drawn {
            // Those of the first system that has details.
            if let Ok(found) = cases::spread(&here.details, &here.task, ROWS)
                && !found.is_empty()
            {
                keys = found;
                break;
            }
        }
        let mut shown = Vec::new();
        for (system, here) in drawn {
            match self.collect(system, here, &keys) {
                Ok(system) => shown.push(system),
                Err(error) => self.cannot_show(name, system, &error),
            }
        }
        let pictures: Vec<_> = shown.iter().map(|one| (one.name, &one.pictures)).collect();
        let pages = sheets::side_by_side(&pictures, &keys)?;
        self.pictures("systems", name, pages)?;
        for ShownSystem { name: system, here, cases, pictures } in &shown {
            let title =
                if name.is_empty() { (*system).to_owned() } else { format!("{name}, {system}") };
            if here.scores.outputs > here.scores.inputs {
                self.pictures("samples", &title, sheets::samples(pictures, &keys)?)?;
            }
            self.pictures("best and worst", &title, sheets::extremes(pictures, cases)?)?;
        }
        Ok(())
    }

    /// The pictures of a system, in one pass over its outputs.
    fn collect<'b>(
        &self,
        name: &'b str,
        here: &'b Here,
        keys: &[String],
    ) -> Result<ShownSystem<'b>> {
        let cases = cases::extremes(&here.details, &here.task, CASES)?.unwrap_or_default();
        let all = cases.iter().map(|case| &case.key).chain(keys).map(String::as_str).collect();
        let pictures = sheets::collect(here, &all, self.options.profile.size)?;
        Ok(ShownSystem { name, here, cases, pictures })
    }

    fn cannot_show(&mut self, name: &str, system: &str, error: &anyhow::Error) {
        let of = [self.table.table.as_str(), name, system];
        let of: Vec<&str> = of.into_iter().filter(|one| !one.is_empty()).collect();
        let text = format!("{}: its pictures cannot be shown: {error:#}", of.join(", "));
        self.page.failed(&text);
        self.failed.push(text);
    }

    /// Adds the pages of a sheet.
    fn pictures(&mut self, what: &str, of: &str, pages: Vec<RgbImage>) -> Result<()> {
        let of = if of.is_empty() { String::new() } else { format!(", {of}") };
        let caption = format!("{}{of}: {what}", self.table.table);
        let words = caption.split(|c: char| !c.is_alphanumeric()).filter(|one| !one.is_empty());
        let name = words.collect::<Vec<_>>().join("-");
        for (number, sheet) in pages.iter().enumerate() {
            if let Some(folder) = self.options.pictures {
                std::fs::create_dir_all(folder)?;
                let file = pictures::page(&folder.join(format!("{name}.png")), number);
                storage::named::write(&file, &pictures::png(sheet)?)?;
            }
            let page = match pages.len() {
                1 => String::new(),
                all => format!(", page {} of {all}", number + 1),
            };
            self.page.picture(sheet, &format!("{caption}{page}"))?;
        }
        Ok(())
    }
}
