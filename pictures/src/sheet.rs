//! Contact sheets: a grid of pictures with a heading for each column and a label for each row. Small
//! pictures are enlarged by whole factors, so that every pixel shows. A sheet of many rows is several pages.

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};

use crate::{Error, Result, text};

const PAPER: Rgb<u8> = Rgb([250, 250, 248]);
const GAP: u32 = 8;
const MARGIN: u32 = 14;
/// Pictures are enlarged towards this side.
const SIDE: u32 = 128;
/// Widest label; longer lines are broken.
const LABEL: u32 = 26 * text::ADVANCE;
/// Longest side of a sheet.
const LARGEST: u64 = 30_000;
/// Rows go to another page where one would be taller than this; a single row may be.
const PAGE: u64 = 1600;

/// A sheet in the making.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    title: String,
    headings: Vec<String>,
    rows: Vec<(String, Vec<RgbImage>)>,
    side: Option<u32>,
}

impl Sheet {
    /// An empty sheet with these headings over its columns.
    pub fn new(headings: &[&str]) -> Self {
        let headings = headings.iter().map(|&heading| heading.to_owned()).collect();
        Self { headings, ..Self::default() }
    }

    /// A line of text over everything.
    pub fn title(&mut self, title: impl Into<String>) -> &mut Self {
        self.title = title.into();
        self
    }

    /// Side in pixels that small pictures are enlarged towards (128).
    pub fn side(&mut self, side: u32) -> &mut Self {
        self.side = Some(side);
        self
    }

    /// Appends a row of pictures; the label may have several lines.
    pub fn row(&mut self, label: impl Into<String>, pictures: Vec<RgbImage>) -> &mut Self {
        self.rows.push((label.into(), pictures));
        self
    }

    /// Draws all rows as one picture.
    ///
    /// # Errors
    /// For a sheet without pictures or larger than 30000 pixels a side.
    pub fn draw(&self) -> Result<RgbImage> {
        let grid = Grid::of(self)?;
        grid.draw(self, 0..self.rows.len(), &self.title)
    }

    /// Draws the rows on as many pages as it takes for none to be taller than a screen or two.
    ///
    /// # Errors
    /// As [`Self::draw`].
    pub fn pages(&self) -> Result<Vec<RgbImage>> {
        let grid = Grid::of(self)?;
        let mut ends = Vec::new();
        let mut height = u64::from(grid.top + MARGIN);
        for (row, &tall) in grid.heights.iter().enumerate() {
            let tall = u64::from(tall + GAP);
            if height + tall > PAGE && ends.last().copied().unwrap_or(0) < row {
                ends.push(row);
                height = u64::from(grid.top + MARGIN);
            }
            height += tall;
        }
        ends.push(grid.heights.len());
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let pages = starts.zip(&ends).enumerate().map(|(number, (start, &end))| {
            let title = match ends.len() {
                1 => self.title.clone(),
                pages => format!("{}  page {} of {pages}", self.title, number + 1).trim().into(),
            };
            grid.draw(self, start..end, &title)
        });
        pages.collect()
    }

    /// Draws the sheet into the bytes of a PNG file.
    ///
    /// # Errors
    /// As [`Self::draw`].
    pub fn png(&self) -> Result<Vec<u8>> {
        crate::png(&self.draw()?)
    }

    /// Draws the pages into the bytes of PNG files; [`page`] says what they are called.
    ///
    /// # Errors
    /// As [`Self::draw`].
    pub fn png_pages(&self) -> Result<Vec<Vec<u8>>> {
        self.pages()?.iter().map(crate::png).collect()
    }
}

/// The file of a page, from 0, where the first one is `first`: `sheet.png`, `sheet-2.png`, …
pub fn page(first: &Path, number: usize) -> PathBuf {
    if number == 0 {
        return first.to_owned();
    }
    let stem = first.file_stem().unwrap_or_default().to_string_lossy();
    let ending = first.extension().map_or("png".into(), |ending| ending.to_string_lossy());
    first.with_file_name(format!("{stem}-{}.{ending}", number + 1))
}

/// Where everything of a sheet lies; the same on all of its pages.
struct Grid {
    scale: u32,
    cell_width: u32,
    label_width: u32,
    headings: Vec<Vec<String>>,
    labels: Vec<Vec<String>>,
    heights: Vec<u32>,
    /// Where the rows begin.
    top: u32,
    title_height: u32,
    width: u64,
}

impl Grid {
    fn of(sheet: &Sheet) -> Result<Self> {
        let pictures = || sheet.rows.iter().flat_map(|(_, pictures)| pictures);
        let largest = pictures().map(|p| p.width().max(p.height())).max().unwrap_or(0);
        if largest == 0 {
            return Err(Error::Empty);
        }
        let scale = (sheet.side.unwrap_or(SIDE) / largest).max(1);
        let cell_width = pictures().map(|p| p.width()).max().unwrap_or(0) * scale;
        let columns = sheet.rows.iter().map(|(_, p)| p.len()).max().unwrap_or(0);
        let columns = columns.max(sheet.headings.len());
        let headings: Vec<_> =
            sheet.headings.iter().map(|heading| text::wrap(heading, cell_width)).collect();
        let heading_lines = headings.iter().map(Vec::len).max().unwrap_or(0) as u32;
        let labels: Vec<_> = sheet.rows.iter().map(|(label, _)| text::wrap(label, LABEL)).collect();
        let label_width = labels.iter().flatten().map(|line| text::width(line)).max().unwrap_or(0);
        let label_width = if label_width > 0 { label_width + GAP } else { 0 };
        let headed = heading_lines * text::LINE + if heading_lines > 0 { 4 } else { 0 };
        let heights = sheet.rows.iter().zip(&labels).map(|((_, pictures), label)| {
            let tallest = pictures.iter().map(|p| p.height()).max().unwrap_or(0) * scale;
            tallest.max(label.len() as u32 * text::LINE)
        });
        let heights: Vec<u32> = heights.collect();
        // A page's number is part of the title.
        let paged = heights.iter().map(|&tall| u64::from(tall + GAP)).sum::<u64>() > PAGE / 2;
        let titled = !sheet.title.is_empty() || (paged && heights.len() > 1);
        let title_height = if titled { text::LINE + GAP } else { 0 };
        let cells = columns as u64 * u64::from(cell_width + GAP);
        let grid = u64::from(2 * MARGIN + label_width) + cells - u64::from(GAP).min(cells);
        let title_width = u64::from(2 * MARGIN) + u64::from(text::width(&sheet.title));
        Ok(Self {
            scale,
            cell_width,
            label_width,
            headings,
            heights,
            labels,
            top: MARGIN + title_height + headed,
            title_height,
            width: grid.max(title_width),
        })
    }

    fn draw(&self, sheet: &Sheet, rows: std::ops::Range<usize>, title: &str) -> Result<RgbImage> {
        let heights = self.heights.get(rows.clone()).unwrap_or_default();
        let rows_height = heights.iter().map(|&tall| u64::from(tall + GAP)).sum::<u64>();
        let height = u64::from(self.top + MARGIN) + rows_height - u64::from(GAP).min(rows_height);
        let width = self.width;
        if width > LARGEST || height > LARGEST {
            return Err(Error::TooLarge { width, height });
        }
        let mut picture = RgbImage::from_pixel(width as u32, height as u32, PAPER);
        text::write(&mut picture, title, MARGIN, MARGIN);
        let cell = self.cell_width + GAP;
        let left = |column: usize| MARGIN + self.label_width + column as u32 * cell;
        for (column, lines) in self.headings.iter().enumerate() {
            for (line, text) in (0u32..).zip(lines) {
                let indent = self.cell_width.saturating_sub(text::width(text)) / 2;
                let y = MARGIN + self.title_height + line * text::LINE;
                text::write(&mut picture, text, left(column) + indent, y);
            }
        }
        let mut y = self.top;
        let shown = sheet.rows.iter().zip(&self.labels).zip(&self.heights);
        for (((_, pictures), lines), height) in shown.skip(rows.start).take(rows.len()) {
            let first = y + height.saturating_sub(lines.len() as u32 * text::LINE) / 2;
            for (line, text) in (0u32..).zip(lines) {
                text::write(&mut picture, text, MARGIN, first + line * text::LINE);
            }
            for (column, one) in pictures.iter().enumerate() {
                let x = left(column) + (self.cell_width - one.width() * self.scale) / 2;
                enlarge(&mut picture, one, x, y, self.scale);
            }
            y += height + GAP;
        }
        Ok(picture)
    }
}

fn enlarge(sheet: &mut RgbImage, picture: &RgbImage, left: u32, top: u32, scale: u32) {
    for (x, y, pixel) in picture.enumerate_pixels() {
        for dy in 0..scale {
            for dx in 0..scale {
                sheet.put_pixel(left + x * scale + dx, top + y * scale + dy, *pixel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_are_enlarged_by_whole_factors() {
        let mut sheet = Sheet::new(&["source", "a long heading of several words"]);
        let picture = RgbImage::from_pixel(32, 32, Rgb([200, 0, 0]));
        sheet.title("title").row("key\njpeg", vec![picture.clone(), picture]);
        let drawn = sheet.draw().unwrap();
        let red = drawn.pixels().filter(|pixel| pixel.0 == [200, 0, 0]).count();
        assert_eq!(red, 2 * 128 * 128);
        assert!(Sheet::new(&[]).draw().is_err());
    }

    #[test]
    fn many_rows_are_pages_that_can_be_looked_at() {
        let mut sheet = Sheet::new(&["input", "output"]);
        sheet.title("run step 3");
        for row in 0..48u8 {
            let picture = RgbImage::from_pixel(32, 32, Rgb([200, row, 0]));
            sheet.row(
                format!("photographs/n0144{row}.JPEG\njpeg:5"),
                vec![picture.clone(), picture],
            );
        }
        let pages = sheet.pages().unwrap();
        assert_eq!(pages.len(), 5);
        assert!(pages.iter().all(|page| page.height() <= 1600));
        let shown = |row: u8| {
            let own = |page: &&RgbImage| page.pixels().any(|pixel| pixel.0 == [200, row, 0]);
            pages.iter().filter(own).count()
        };
        assert!((0..48).all(|row| shown(row) == 1));
        // A row that is taller than a page is one, and a sheet of one page has no number.
        let mut tall = Sheet::new(&[]);
        tall.row("", vec![RgbImage::new(10, 2000)]);
        assert_eq!(tall.pages().unwrap().len(), 1);
        tall.row("", vec![RgbImage::new(10, 2000)]);
        assert_eq!(tall.pages().unwrap().len(), 2);
        let names: Vec<_> = (0..2).map(|number| page(Path::new("a/sheet.png"), number)).collect();
        assert_eq!(names, [Path::new("a/sheet.png"), Path::new("a/sheet-2.png")]);
    }
}
