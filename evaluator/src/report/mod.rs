//! A report: one HTML file that needs nothing else, with tables, histograms of diversity and sheets.

mod cases;
mod histogram;
mod html;
mod sheets;

use std::path::Path;

use anyhow::Result;
use image::RgbImage;

use crate::protocol::{Filled, Here, Profile, grid, notes};
use crate::scores::Score;
use html::Page;

/// Rows of a sheet.
const ROWS: usize = 6;
/// Best and worst cases each.
const CASES: usize = 4;

/// What of a report goes where.
pub struct Options<'a> {
    /// Where this laboratory has what the tables name.
    pub profile: &'a Profile,
    /// Also write every sheet as a PNG file into this folder.
    pub pictures: Option<&'a Path>,
}

/// Writes the report of these tables.
///
/// # Errors
/// Where outputs cannot be read or the file cannot be written.
pub fn write(tables: &[Filled], options: &Options, file: &Path) -> Result<()> {
    let mut page = Page::new("Evaluation");
    let parts = tables.iter().map(|table| blocks(table).len() as u64).sum();
    let progress = terminal::Progress::new("report", Some(parts), "parts");
    for table in tables {
        let (headings, rows) = grid(table);
        page.section(&table.table, &table.title);
        page.table(&headings, &rows);
        page.notes(&notes(table));
        for (block, group) in blocks(table) {
            let comparison = Comparison { table, block, group };
            let name = [block, group].into_iter().filter(|one| !one.is_empty());
            let name = name.collect::<Vec<_>>().join(", ");
            comparison.write(&name, options, &mut page)?;
            progress.inc(1);
        }
    }
    progress.finish();
    Ok(storage::atomic::write(file, page.finish().as_bytes())?)
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
}

impl Comparison<'_> {
    fn systems(&self) -> impl Iterator<Item = (&str, &Here)> {
        systems(self.table)
            .filter(|(block, group, ..)| (*block, *group) == (self.block, self.group))
            .map(|(_, _, system, here)| (system, here))
    }

    fn write(&self, name: &str, options: &Options, page: &mut Page) -> Result<()> {
        page.heading(name);
        let series: Vec<(&str, &[u64])> = self
            .systems()
            .filter_map(|(system, here)| Some((system, here.scores.histogram(Score::Likeness)?)))
            .collect();
        if !series.is_empty() {
            page.svg(
                &histogram::draw(&series),
                "MS-SSIM between the first and the other outputs of an input",
            );
        }
        // The photographs stand in every row anyway.
        let sampled: Vec<_> = self
            .systems()
            .filter(|(_, here)| here.scores.number(Score::Pd).is_none_or(|pd| pd > 0.0))
            .collect();
        let Some((_, first)) = sampled.first() else { return Ok(()) };
        let keys = cases::spread(&first.details, ROWS)?;
        if let Some(sheet) = sheets::side_by_side(&sampled, &keys, options.profile.size)? {
            self.picture(page, options, "systems", name, sheet)?;
        }
        for (system, here) in &sampled {
            let title =
                if name.is_empty() { (*system).to_owned() } else { format!("{name}, {system}") };
            if here.scores.outputs > here.scores.inputs
                && let Some(sheet) = sheets::samples(here, &keys, options.profile.size)?
            {
                self.picture(page, options, "samples", &title, sheet)?;
            }
            let Some(cases) = cases::extremes(&here.details, CASES)? else { continue };
            if let Some(sheet) = sheets::extremes(here, &cases, options.profile.size)? {
                self.picture(page, options, "best and worst", &title, sheet)?;
            }
        }
        Ok(())
    }

    fn picture(
        &self,
        page: &mut Page,
        options: &Options,
        what: &str,
        of: &str,
        sheet: RgbImage,
    ) -> Result<()> {
        let of = if of.is_empty() { String::new() } else { format!(", {of}") };
        let caption = format!("{}{of}: {what}", self.table.table);
        if let Some(folder) = options.pictures {
            std::fs::create_dir_all(folder)?;
            let words = caption.split(|c: char| !c.is_alphanumeric()).filter(|one| !one.is_empty());
            let name = words.collect::<Vec<_>>().join("-");
            let bytes = pictures::png(&sheet)?;
            storage::atomic::write(&folder.join(format!("{name}.png")), &bytes)?;
        }
        page.picture(&sheet, &caption)
    }
}
