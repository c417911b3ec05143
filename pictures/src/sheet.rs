//! Contact sheets: a grid of pictures with a heading for each column and a label for each row, in a
//! small bitmap font. Small pictures are enlarged by whole factors, so that every pixel shows.

use image::{Rgb, RgbImage};

use crate::{Error, Result, text};

const PAPER: Rgb<u8> = Rgb([250, 250, 248]);
const GAP: u32 = 8;
const MARGIN: u32 = 14;
/// Pictures are enlarged towards this side.
const SIDE: u32 = 128;
/// Longest side of a sheet.
const LARGEST: u64 = 30_000;

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

    /// Draws the sheet.
    ///
    /// # Errors
    /// For a sheet without pictures or larger than 30000 pixels a side.
    pub fn draw(&self) -> Result<RgbImage> {
        let pictures = || self.rows.iter().flat_map(|(_, pictures)| pictures);
        let largest = pictures().map(|p| p.width().max(p.height())).max().unwrap_or(0);
        if largest == 0 {
            return Err(Error::Empty);
        }
        let scale = (self.side.unwrap_or(SIDE) / largest).max(1);
        let cell_width = pictures().map(|p| p.width()).max().unwrap_or(0) * scale;
        let columns = self.rows.iter().map(|(_, p)| p.len()).max().unwrap_or(0);
        let columns = columns.max(self.headings.len()) as u32;
        let fits = (cell_width / 8).max(1) as usize;
        let headings: Vec<_> = self.headings.iter().map(|text| text::wrap(text, fits)).collect();
        let heading_lines = headings.iter().map(Vec::len).max().unwrap_or(0) as u32;
        let labels = self.rows.iter().flat_map(|(label, _)| label.lines());
        let label_width =
            labels.map(|line| line.chars().count().min(28) as u32 * 8).max().unwrap_or(0);
        let label_width = if label_width > 0 { label_width + GAP } else { 0 };
        let title_height = if self.title.is_empty() { 0 } else { 24 };
        let top =
            MARGIN + title_height + heading_lines * 10 + if heading_lines > 0 { 4 } else { 0 };
        let heights: Vec<_> = self
            .rows
            .iter()
            .map(|(label, p)| {
                let tallest = p.iter().map(|p| p.height()).max().unwrap_or(0) * scale;
                tallest.max(label.lines().count() as u32 * 10)
            })
            .collect();

        let text_width = 2 * MARGIN + self.title.chars().count() as u32 * 8;
        let grid = MARGIN + label_width + columns * (cell_width + GAP) - GAP + MARGIN;
        let width = u64::from(grid.max(text_width));
        let height = heights.iter().map(|&h| u64::from(h + GAP)).sum::<u64>()
            + u64::from(top + MARGIN - GAP);
        if width > LARGEST || height > LARGEST {
            return Err(Error::TooLarge { width, height });
        }
        let mut sheet = RgbImage::from_pixel(width as u32, height as u32, PAPER);

        text::write(&mut sheet, &self.title, MARGIN, MARGIN);
        let left = |column: usize| MARGIN + label_width + column as u32 * (cell_width + GAP);
        for (column, lines) in headings.iter().enumerate() {
            for (line, text) in lines.iter().enumerate() {
                let indent = (cell_width.saturating_sub(text.chars().count() as u32 * 8)) / 2;
                let y = MARGIN + title_height + line as u32 * 10;
                text::write(&mut sheet, text, left(column) + indent, y);
            }
        }
        let mut y = top;
        for ((label, pictures), height) in self.rows.iter().zip(&heights) {
            let lines: Vec<String> =
                label.lines().map(|line| line.chars().take(28).collect()).collect();
            let first = y + height.saturating_sub(lines.len() as u32 * 10) / 2;
            for (line, text) in lines.iter().enumerate() {
                text::write(&mut sheet, text, MARGIN, first + line as u32 * 10);
            }
            for (column, picture) in pictures.iter().enumerate() {
                let x = left(column) + (cell_width - picture.width() * scale) / 2;
                enlarge(&mut sheet, picture, x, y, scale);
            }
            y += height + GAP;
        }
        Ok(sheet)
    }

    /// Draws the sheet into the bytes of a PNG file.
    ///
    /// # Errors
    /// As [`Self::draw`].
    pub fn png(&self) -> Result<Vec<u8>> {
        crate::png(&self.draw()?)
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
}
