//! Inpainting: free-form strokes, Algorithm 1 of Yu et al. (2019), "Free-form image inpainting with
//! gated convolution", with the numbers of its reference code (`brush_stroke_mask`). The random
//! flips of the published algorithm, which that code computes and then loses, are applied.
//!
//! Lengths are pixels at a side of 256 and scale with the image: R = sqrt(H² + W²) / 8 by its
//! definition, the width of the brush by the mean side / 256.

use image::GrayImage;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::config::{range, within};
use random::Rng;

/// Numbers of the free-form strokes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StrokesConfig {
    /// Strokes in an image, from and to, both included.
    pub count: [u32; 2],
    /// Turns of a stroke, from and to, both included.
    pub vertices: [u32; 2],
    /// Mean angle of a turn, in radians.
    pub angle: f64,
    /// Largest deviation of a stroke's angles from the mean, in radians.
    pub angle_spread: f64,
    /// Width of the brush in pixels at a side of 256, from and to, both included.
    pub width: [u32; 2],
    /// Mean length of a segment as a part of the image's diagonal.
    pub length: f64,
    /// Mirror half of the masks left to right, and half top to bottom.
    pub flips: bool,
}

impl Default for StrokesConfig {
    fn default() -> Self {
        Self {
            count: [1, 3],
            vertices: [4, 11],
            angle: std::f64::consts::TAU / 5.0,
            angle_spread: std::f64::consts::TAU / 15.0,
            width: [12, 39],
            length: 0.125,
            flips: true,
        }
    }
}

impl StrokesConfig {
    pub(super) fn validate(&self, table: &str) -> Result<()> {
        let key = |name: &str| format!("{table}.{name}");
        range(&key("count"), self.count, 1, 100)?;
        range(&key("vertices"), self.vertices, 1, 1000)?;
        within(&key("angle"), self.angle, 0.0, std::f64::consts::TAU)?;
        within(&key("angle_spread"), self.angle_spread, 0.0, std::f64::consts::PI)?;
        range(&key("width"), self.width, 1, 256)?;
        within(&key("length"), self.length, 0.0, 1.0)
    }

    /// A mask of strokes, 1 under the brush.
    pub fn mask(&self, width: u32, height: u32, rng: &mut Rng) -> GrayImage {
        let mut mask = GrayImage::new(width, height);
        let (w, h) = (f64::from(width), f64::from(height));
        let radius = w.hypot(h) * self.length;
        let scale = (w + h) / 2.0 / 256.0;
        for _ in 0..rng.integer(self.count[0], self.count[1]) {
            let turns = rng.integer(self.vertices[0], self.vertices[1]);
            let low = self.angle - rng.between(0.0, self.angle_spread);
            let high = self.angle + rng.between(0.0, self.angle_spread);
            let angles: Vec<_> = (0..turns)
                .map(|turn| {
                    let angle = rng.between(low, high);
                    if turn % 2 == 0 { std::f64::consts::TAU - angle } else { angle }
                })
                .collect();
            let mut at = [(rng.unit() * w).floor(), (rng.unit() * h).floor()];
            let mut vertices = vec![at];
            for angle in angles {
                let length = (radius + radius / 2.0 * rng.normal()).clamp(0.0, 2.0 * radius);
                at = [
                    (at[0] + length * angle.cos()).clamp(0.0, w),
                    (at[1] + length * angle.sin()).clamp(0.0, h),
                ];
                vertices.push(at);
            }
            let brush = Brush::new(rng.integer(self.width[0], self.width[1]), scale);
            for pair in vertices.windows(2) {
                brush.stroke(&mut mask, pair[0], pair[1]);
            }
        }
        if self.flips && rng.chance(0.5) {
            image::imageops::flip_horizontal_in_place(&mut mask);
        }
        if self.flips && rng.chance(0.5) {
            image::imageops::flip_vertical_in_place(&mut mask);
        }
        mask
    }
}

/// A brush of the reference code (Pillow's): its line of w pixels covers w, its discs at the vertices
/// w where w is odd and w + 1 where it is even.
struct Brush {
    /// Half the width of a line.
    half: f64,
    /// Radius of a disc.
    radius: f64,
}

impl Brush {
    /// A brush of this width in pixels, all lengths times `scale`; never thinner than a pixel.
    fn new(width: u32, scale: f64) -> Self {
        let disc = width + u32::from(width.is_multiple_of(2));
        let half = |width: u32| (f64::from(width) * scale / 2.0).max(0.5);
        Self { half: half(width), radius: half(disc) }
    }

    /// Marks the pixels whose centre is within a line from one point to another and the discs at its ends.
    /// One edge of the line belongs to it, so that lines in whole numbers cover their width.
    fn stroke(&self, mask: &mut GrayImage, from: [f64; 2], to: [f64; 2]) {
        let (width, height) = mask.dimensions();
        let Self { half, radius } = *self;
        let reach = |a: f64, b: f64, side: u32| {
            let low = (a.min(b) - radius).floor().max(0.0) as u32;
            let high = ((a.max(b) + radius).ceil().max(0.0) as u32 + 1).min(side);
            low.min(high)..high
        };
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let squared = dx * dx + dy * dy;
        let length = squared.sqrt();
        let edge = half * length;
        let disc = radius * radius;
        for y in reach(from[1], to[1], height) {
            let py = f64::from(y) - from[1];
            let row = (y * width) as usize;
            // Only where the segment comes as near to the row as its radius can a pixel of the row be.
            let near = |offset: f64| match dy == 0.0 {
                true => from[0] + if offset < 0.0 { 0.0 } else { dx },
                false => from[0] + ((py + offset) / dy).clamp(0.0, 1.0) * dx,
            };
            let columns = reach(near(-radius), near(radius), width);
            let pixels =
                &mut mask.as_mut()[row + columns.start as usize..row + columns.end as usize];
            // Without a branch, so that compilers make vector code of it.
            for (pixel, x) in pixels.iter_mut().zip(columns) {
                let px = f64::from(x) - from[0];
                // Both times the length of the segment: along it, and to its side.
                let along = px * dx + py * dy;
                let aside = px * dy - py * dx;
                let line = (along >= 0.0) & (along <= squared) & (aside >= -edge) & (aside < edge);
                let (qx, qy) = (px - dx, py - dy);
                let ends = (px * px + py * py <= disc) | (qx * qx + qy * qy <= disc);
                *pixel |= u8::from(line | ends);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pillow's line of w pixels covers w, the reference's discs `ellipse(x - w // 2, …, x + w // 2)` one more
    /// where w is even.
    #[test]
    fn a_brush_covers_its_width() {
        for width in 1..=40u32 {
            let (across, down) = ([[40.0, 60.0], [90.0, 60.0]], [[60.0, 40.0], [60.0, 90.0]]);
            let disc = 2 * (width / 2) + 1;
            for (line, is_across) in [(across, true), (down, false)] {
                let mut mask = GrayImage::new(140, 140);
                Brush::new(width, 1.0).stroke(&mut mask, line[0], line[1]);
                let marked = |x: u32, y: u32| {
                    u32::from(
                        mask.get_pixel(
                            if is_across { x } else { y },
                            if is_across { y } else { x },
                        )
                        .0[0],
                    )
                };
                let thick: u32 = (0..140).map(|y| marked(65, y)).sum();
                let long: u32 = (0..140).map(|x| marked(x, 60)).sum();
                assert_eq!((thick, long), (width, 50 + disc), "width {width}");
            }
        }
    }
}
