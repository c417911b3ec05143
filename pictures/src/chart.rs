//! Histograms as a picture: a panel for each, bars over a linear axis, the ends of the axis and the
//! highest bar in numbers.

use std::collections::BTreeMap;

use image::{Rgb, RgbImage};

use crate::{Result, text};

const PAPER: Rgb<u8> = Rgb([250, 250, 248]);
const AXIS: Rgb<u8> = Rgb([150, 150, 150]);
const BAR: Rgb<u8> = Rgb([66, 110, 170]);
const MARGIN: u32 = 16;
const BARS: usize = 64;
const BAR_WIDTH: u32 = 8;
const HEIGHT: u32 = 140;
const LINE: u32 = text::LINE;

/// Panels below one another.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    panels: Vec<Panel>,
}

#[derive(Clone, Debug)]
struct Panel {
    title: String,
    unit: &'static str,
    bars: Vec<u64>,
    ends: (u64, u64),
}

impl Chart {
    /// Appends a panel that shows how often each value occurs; nothing where there is no value.
    pub fn panel(&mut self, title: &str, unit: &'static str, counts: &BTreeMap<u64, u64>) {
        let (Some(&low), Some(&high)) = (counts.keys().next(), counts.keys().next_back()) else {
            return;
        };
        // Few long images must not press all others into one bar: the axis ends where all but one
        // in a thousand are, and the last bar holds the rest.
        let total: u64 = counts.values().sum();
        let mut seen = 0;
        let most = counts.iter().find(|(_, count)| {
            seen += **count;
            seen * 1000 >= total * 999
        });
        let end = most.map_or(high, |(&value, _)| value).max(low + 1);
        let mut bars = vec![0; BARS];
        for (&value, &count) in counts {
            let share = (value.min(end) - low) as f64 / (end - low) as f64;
            bars[((share * BARS as f64) as usize).min(BARS - 1)] += count;
        }
        let title = format!("{title}: {total}, from {low} to {high}{unit}");
        self.panels.push(Panel { title, unit, bars, ends: (low, end) });
    }

    /// Draws all panels into the bytes of a PNG file.
    ///
    /// # Errors
    /// Never for a picture that fits into memory.
    pub fn png(&self) -> Result<Vec<u8>> {
        crate::png(&self.draw())
    }

    fn draw(&self) -> RgbImage {
        let width = 2 * MARGIN + BARS as u32 * BAR_WIDTH;
        let each = HEIGHT + 3 * LINE + MARGIN;
        let height = MARGIN + each * self.panels.len().max(1) as u32;
        let mut picture = RgbImage::from_pixel(width, height, PAPER);
        for (number, panel) in self.panels.iter().enumerate() {
            panel.draw(&mut picture, MARGIN + number as u32 * each);
        }
        picture
    }
}

impl Panel {
    fn draw(&self, picture: &mut RgbImage, top: u32) {
        text::write(picture, &self.title, MARGIN, top);
        let highest = self.bars.iter().copied().max().unwrap_or(1).max(1);
        let bottom = top + LINE + HEIGHT;
        for (number, &count) in self.bars.iter().enumerate() {
            // What occurs at all is seen.
            let tall = (count as f64 / highest as f64 * f64::from(HEIGHT - 4)).ceil() as u32;
            let left = MARGIN + number as u32 * BAR_WIDTH;
            for y in bottom - tall..bottom {
                for x in left..left + BAR_WIDTH - 1 {
                    picture.put_pixel(x, y, BAR);
                }
            }
        }
        let right = MARGIN + BARS as u32 * BAR_WIDTH;
        for x in MARGIN..right {
            picture.put_pixel(x, bottom, AXIS);
        }
        let (low, high) = self.ends;
        text::write(picture, &low.to_string(), MARGIN, bottom + 4);
        let middle = format!("highest bar {highest}");
        let end = format!("{high}{}", self.unit);
        let at = right.saturating_sub(text::width(&end));
        text::write(picture, &end, at, bottom + 4);
        text::write(picture, &middle, (right.saturating_sub(text::width(&middle))) / 2, bottom + 4);
    }
}
