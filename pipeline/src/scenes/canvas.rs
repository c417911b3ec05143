//! A small painter: shapes in unit coordinates (0,0 top left to 1,1 bottom right), drawn at several
//! times the size and averaged down, so that edges are smooth.

use image::{Rgb, RgbImage};

/// Linear-ish colour, each channel about 0 to 1.
pub(super) type Color = [f32; 3];

pub(super) struct Canvas {
    side: usize,
    factor: usize,
    pixels: Vec<Color>,
}

impl Canvas {
    pub(super) fn new(size: u32) -> Self {
        let factor = if size <= 160 { 3 } else { 2 };
        let side = size as usize * factor;
        Self { side, factor, pixels: vec![[0.0; 3]; side * side] }
    }

    /// Paints where `paint` gives a colour and its opacity, within the box (left, top, right, bottom).
    pub(super) fn paint(
        &mut self,
        [left, top, right, bottom]: [f32; 4],
        paint: impl Fn(f32, f32) -> Option<(Color, f32)>,
    ) {
        let side = self.side as f32;
        let from = |edge: f32| (edge * side).floor().clamp(0.0, side) as usize;
        let to = |edge: f32| (edge * side).ceil().clamp(0.0, side) as usize;
        for y in from(top)..to(bottom) {
            let v = (y as f32 + 0.5) / side;
            for x in from(left)..to(right) {
                let u = (x as f32 + 0.5) / side;
                if let Some((color, opacity)) = paint(u, v) {
                    let pixel = &mut self.pixels[y * self.side + x];
                    *pixel = mix(*pixel, color, opacity);
                }
            }
        }
    }

    /// Paints below a line, down to `bottom`; `paint` is given the place and how far below the line.
    pub(super) fn below(
        &mut self,
        line: impl Fn(f32) -> f32,
        bottom: f32,
        paint: impl Fn(f32, f32, f32) -> Color,
    ) {
        let side = self.side as f32;
        let row = |edge: f32| (edge * side).round().clamp(0.0, side) as usize;
        for x in 0..self.side {
            let u = (x as f32 + 0.5) / side;
            let top = line(u);
            for y in row(top)..row(bottom) {
                let v = (y as f32 + 0.5) / side;
                self.pixels[y * self.side + x] = paint(u, v, (v - top).max(0.0));
            }
        }
    }

    /// An ellipse with centre (x, y) and half axes (rx, ry); `color` is given the place within it,
    /// -1 to 1 each way.
    pub(super) fn ellipse(
        &mut self,
        [x, y]: [f32; 2],
        [rx, ry]: [f32; 2],
        color: impl Fn(f32, f32) -> Color,
    ) {
        self.paint([x - rx, y - ry, x + rx, y + ry], |u, v| {
            let (a, b) = ((u - x) / rx, (v - y) / ry);
            (a * a + b * b <= 1.0).then(|| (color(a, b), 1.0))
        });
    }

    /// A rectangle.
    pub(super) fn rectangle(&mut self, area: [f32; 4], color: Color) {
        self.paint(area, |u, v| {
            let inside = u >= area[0] && u <= area[2] && v >= area[1] && v <= area[3];
            inside.then_some((color, 1.0))
        });
    }

    /// A triangle with this top and base.
    pub(super) fn triangle(&mut self, [x, y]: [f32; 2], half: f32, base: f32, color: [Color; 2]) {
        self.paint([x - half, y, x + half, base], |u, v| {
            let reach = half * (v - y) / (base - y);
            let within = v >= y && v <= base && (u - x).abs() <= reach;
            within.then(|| (if u < x { color[0] } else { color[1] }, 1.0))
        });
    }

    /// Everything, once the painting is done.
    pub(super) fn finish(self, tint: Color) -> RgbImage {
        let size = (self.side / self.factor) as u32;
        let count = (self.factor * self.factor) as f32;
        RgbImage::from_fn(size, size, |x, y| {
            let mut sum = [0.0; 3];
            for dy in 0..self.factor {
                let row = (y as usize * self.factor + dy) * self.side;
                let from = row + x as usize * self.factor;
                for pixel in &self.pixels[from..from + self.factor] {
                    for (sum, value) in sum.iter_mut().zip(pixel) {
                        *sum += value;
                    }
                }
            }
            Rgb(std::array::from_fn(|c| {
                (sum[c] / count * tint[c] * 255.0).round().clamp(0.0, 255.0) as u8
            }))
        })
    }
}

/// From `a` to `b` as `t` goes from 0 to 1.
pub(super) fn mix(a: Color, b: Color, t: f32) -> Color {
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * t)
}

/// A colour `factor` times as bright.
pub(super) fn shade(color: Color, factor: f32) -> Color {
    color.map(|value| value * factor)
}
