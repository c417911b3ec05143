//! Degradations: what is done to a photograph to make the source that the network restores it from.
//! Each is a small pure function of (image, key), one file each, on 8-bit RGB. Always holds:
//! the mask is 1 exactly where pixels are to be generated; outside it, source and target are equal;
//! inside a hole the source is mid grey (128), which the device replaces by noise.
//!
//! Numbers are those of the paper and of the code that it cites; each is a field of
//! [`DegradationConfig`].

mod boxes;
mod config;
mod evaluation;
mod grey;
mod jpeg;
mod strokes;
mod uncrop;

use image::{GrayImage, RgbImage};

pub use boxes::BoxesConfig;
pub use config::DegradationConfig;
pub use evaluation::Evaluation;
pub use jpeg::{JpegConfig, draw_quality, encode, round_trip};
pub use strokes::StrokesConfig;
pub use uncrop::UncropConfig;

use crate::random::{Rng, key};
use crate::{Result, Task};

/// The grey that stands in a hole of the source.
pub const HOLE: u8 = 128;

/// A source image and the mask of what is to be generated, both of the target's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// What the network is given.
    pub source: RgbImage,
    /// 1 where pixels are to be generated, else 0.
    pub mask: GrayImage,
}

/// Degrades a target for training, everything drawn from `seed`.
///
/// # Errors
/// When the JPEG codec refuses the image (sides over 65535).
pub fn train(
    task: Task,
    config: &DegradationConfig,
    target: &RgbImage,
    seed: u64,
) -> Result<Degraded> {
    let (width, height) = target.dimensions();
    let rng = &mut Rng::new(key(&[seed, 0x6465_6772, task as u64]));
    Ok(match task {
        Task::Colorization => whole(grey::grey(target)),
        Task::Inpainting => punch(target, inpainting_mask(config, width, height, rng)),
        Task::Uncropping => punch(target, uncrop::mask(&config.uncrop, width, height, rng)),
        Task::Jpeg => whole(round_trip(target, draw_quality(&config.jpeg, rng))?),
    })
}

/// A training mask of inpainting: free-form strokes or boxes by the configured share.
pub fn inpainting_mask(
    config: &DegradationConfig,
    width: u32,
    height: u32,
    rng: &mut Rng,
) -> GrayImage {
    if rng.chance(config.free_form_share) {
        strokes::mask(&config.strokes, width, height, rng)
    } else {
        boxes::mask(&config.boxes, width, height, rng)
    }
}

/// The whole image is to be generated from `source`.
fn whole(source: RgbImage) -> Degraded {
    let (width, height) = source.dimensions();
    Degraded { mask: GrayImage::from_pixel(width, height, image::Luma([1])), source }
}

/// The masked pixels are taken away.
fn punch(target: &RgbImage, mask: GrayImage) -> Degraded {
    let mut source = target.clone();
    for (pixel, &masked) in source.as_chunks_mut::<3>().0.iter_mut().zip(mask.as_raw()) {
        if masked == 1 {
            *pixel = [HOLE; 3];
        }
    }
    Degraded { source, mask }
}

/// Share of the pixels that the mask marks, 0 to 1.
pub fn area(mask: &GrayImage) -> f64 {
    let marked: u64 = mask.as_raw().iter().map(|&value| u64::from(value)).sum();
    marked as f64 / mask.as_raw().len().max(1) as f64
}

/// Marks the pixels of the box with corners (left, top) and (right, bottom), the latter outside.
fn fill(mask: &mut GrayImage, [left, top, right, bottom]: [u32; 4], value: u8) {
    let width = mask.width() as usize;
    for row in mask.chunks_exact_mut(width).take(bottom as usize).skip(top as usize) {
        row[left as usize..right as usize].fill(value);
    }
}

#[cfg(test)]
mod tests;
