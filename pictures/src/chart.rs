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
    one_axis: bool,
}

#[derive(Clone, Debug)]
struct Panel {
    title: String,
    unit: &'static str,
    counts: BTreeMap<u64, u64>,
    total: u64,
    ends: (u64, u64),
}

/// What a panel is drawn over.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    /// The least and the largest value.
    ends: (u64, u64),
    /// Share of all that a bar of full height is.
    top: f64,
}

impl Chart {
    /// A chart whose panels, all of one unit, begin, end and rise alike, so that they can be compared: the height
    /// of a bar is the share of its panel's values.
    pub fn on_one_axis() -> Self {
        Self { one_axis: true, ..Self::default() }
    }

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
        let title = format!("{title}: {total}, from {low} to {high}{unit}");
        self.panels.push(Panel { title, unit, counts: counts.clone(), total, ends: (low, end) });
    }

    /// The axis of each panel.
    fn axes(&self) -> Vec<Axis> {
        let own = |panel: &Panel| Axis { ends: panel.ends, top: panel.top(panel.ends) };
        if !self.one_axis {
            return self.panels.iter().map(own).collect();
        }
        let low = self.panels.iter().map(|panel| panel.ends.0).min().unwrap_or(0);
        let high = self.panels.iter().map(|panel| panel.ends.1).max().unwrap_or(1);
        let ends = (low, high);
        let top = self.panels.iter().map(|panel| panel.top(ends)).fold(0.0, f64::max);
        vec![Axis { ends, top }; self.panels.len()]
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
        for (number, (panel, axis)) in (0..).zip(self.panels.iter().zip(self.axes())) {
            panel.draw(&mut picture, MARGIN + number * each, axis, self.one_axis);
        }
        picture
    }
}

impl Panel {
    /// How many values each bar between these ends has; the last one also has what is beyond.
    fn bars(&self, (low, end): (u64, u64)) -> [u64; BARS] {
        let mut bars = [0; BARS];
        for (&value, &count) in &self.counts {
            let share = (value.min(end) - low) as f64 / (end - low) as f64;
            bars[((share * BARS as f64) as usize).min(BARS - 1)] += count;
        }
        bars
    }

    /// The share of the highest bar between these ends.
    fn top(&self, ends: (u64, u64)) -> f64 {
        let highest = self.bars(ends).into_iter().max().unwrap_or(0);
        highest as f64 / self.total.max(1) as f64
    }

    fn draw(&self, picture: &mut RgbImage, top: u32, axis: Axis, one_axis: bool) {
        text::write(picture, &self.title, MARGIN, top);
        let bars = self.bars(axis.ends);
        let highest = bars.iter().copied().max().unwrap_or(0);
        let bottom = top + LINE + HEIGHT;
        for (number, &count) in bars.iter().enumerate() {
            // What occurs at all is seen.
            let share = count as f64 / self.total.max(1) as f64;
            let tall = (share / axis.top * f64::from(HEIGHT - 4)).ceil() as u32;
            let left = MARGIN + number as u32 * BAR_WIDTH;
            for y in bottom - tall.min(HEIGHT)..bottom {
                for x in left..left + BAR_WIDTH - 1 {
                    picture.put_pixel(x, y, BAR);
                }
            }
        }
        let right = MARGIN + BARS as u32 * BAR_WIDTH;
        for x in MARGIN..right {
            picture.put_pixel(x, bottom, AXIS);
        }
        let (low, high) = axis.ends;
        text::write(picture, &low.to_string(), MARGIN, bottom + 4);
        let middle = match one_axis {
            true => format!("highest bar {highest}, all rise to {:.0} %", 100.0 * axis.top),
            false => format!("highest bar {highest}"),
        };
        let end = format!("{high}{}", self.unit);
        let at = right.saturating_sub(text::width(&end));
        text::write(picture, &end, at, bottom + 4);
        text::write(picture, &middle, (right.saturating_sub(text::width(&middle))) / 2, bottom + 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The heights of the bars of a panel.
    fn heights(picture: &RgbImage, panel: u32) -> Vec<u32> {
        let top = MARGIN + panel * (HEIGHT + 3 * LINE + MARGIN) + LINE;
        let bar =
            |x: &u32| (top..top + HEIGHT).filter(|&y| *picture.get_pixel(*x, y) == BAR).count();
        let lefts: Vec<u32> = (0..BARS as u32).map(|bar| MARGIN + bar * BAR_WIDTH).collect();
        lefts.iter().map(|x| bar(x) as u32).collect()
    }

    #[test]
    fn panels_on_one_axis_can_be_compared() {
        // A narrow one and a wide one of half as many values.
        let narrow = BTreeMap::from([(40, 100), (42, 100)]);
        let wide: BTreeMap<u64, u64> = (0..=100).step_by(10).map(|value| (value, 9)).collect();
        let draw = |mut chart: Chart| {
            chart.panel("narrow", "", &narrow);
            chart.panel("wide", "", &wide);
            let axes = chart.axes();
            let picture = chart.draw();
            (axes, heights(&picture, 0), heights(&picture, 1))
        };
        let (axes, narrow, wide) = draw(Chart::on_one_axis());
        assert_eq!(axes, [Axis { ends: (0, 100), top: 0.5 }; 2]);
        let at = |value: usize| value * BARS / 100;
        assert_eq!((narrow[at(40)], narrow[at(42)], narrow[0]), (HEIGHT - 4, HEIGHT - 4, 0));
        // A share of an eleventh, where the axis rises to a half.
        let eleventh = (f64::from(HEIGHT - 4) / 5.5).ceil() as u32;
        assert!((0..=10).all(|ten| wide[at(ten * 10).min(BARS - 1)] == eleventh), "{wide:?}");

        let (axes, narrow, wide) = draw(Chart::default());
        assert_eq!((axes[0].ends, axes[1].ends), ((40, 42), (0, 100)));
        assert_eq!((narrow[0], wide[0]), (HEIGHT - 4, HEIGHT - 4));
    }
}
