//! Degradations: what is done to a photograph to make the source that the network restores it from.
//! Each is a small pure function of (image, seed) on 8-bit RGB. Always holds: the mask is 1 exactly
//! where pixels are to be generated; outside a hole, source and target are equal; inside it the
//! source is mid grey (128), which the device replaces by noise.
//!
//! A degradation is one file of this folder, a type that implements [`Degradation`] and is its own
//! table of the configuration, and one line of the registry, from which [`Task`],
//! [`DegradationConfig`], [`Evaluation`] and [`train`] are made. Numbers are those of the paper and
//! of the code that it cites; each is a field.

pub mod colorization;
mod evaluation;
pub mod inpainting;
pub mod jpeg;
mod registry;
pub mod superresolution;
mod task;
pub mod uncropping;

use std::fmt::{Debug, Display};
use std::hash::Hash;

use image::{GrayImage, RgbImage};

pub use registry::{DegradationConfig, Evaluation, Task, train};

use crate::Result;
use random::Rng;

/// The grey that stands in a hole of the source.
pub const HOLE: u8 = 128;

/// One way to spoil a photograph. The implementing type holds the numbers of the training draws and
/// is the table `[data.degradation.NAME]`; its default is the paper's.
pub trait Degradation {
    /// True where a masked region is to be generated and the rest of the source is known (the
    /// device fills the masked region with noise); false where the whole image is generated.
    const HOLE: bool;
    /// How it is written as an evaluation, for help and errors, such as `jpeg:Q with Q from 1 to 100`.
    const FORMS: &'static str;
    /// One fixed degradation of an evaluation. The default is what the paper reports first; the
    /// text is what follows the colon in `jpeg:10`, or nothing.
    type Form: Copy + Debug + Default + Display + Eq + Hash + Ord;

    /// Checks every number; `table` is the full name of the table, for the errors.
    ///
    /// # Errors
    /// Names the key, its value and what is allowed.
    fn validate(&self, table: &str) -> Result<()>;

    /// Degrades a target for training; everything random is drawn from `rng`.
    ///
    /// # Errors
    /// When a codec refuses the image (sides over 65535).
    fn train(&self, target: &RgbImage, rng: &mut Rng) -> Result<Degraded>;

    /// The form that a text after the colon says, if it says one.
    fn form(text: &str) -> Option<Self::Form>;

    /// Degrades a target for an evaluation; what is random depends on `seed` and the record's `key`
    /// alone.
    ///
    /// # Errors
    /// When a codec refuses the image (sides over 65535).
    fn evaluate(form: Self::Form, target: &RgbImage, seed: u64, key: &str) -> Result<Degraded>;
}

/// A source image and the mask of what is to be generated, both of the target's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// What the network is given.
    pub source: RgbImage,
    /// 1 where pixels are to be generated, else 0.
    pub mask: GrayImage,
}

impl Degraded {
    /// The whole image is to be generated from `source`.
    pub fn whole(source: RgbImage) -> Self {
        let (width, height) = source.dimensions();
        Self { mask: GrayImage::from_pixel(width, height, image::Luma([1])), source }
    }

    /// The pixels that `mask` marks with 1 are taken away; both are of one size.
    pub fn hole(target: &RgbImage, mask: GrayImage) -> Self {
        let mut source = target.clone();
        for (pixel, &masked) in source.as_chunks_mut::<3>().0.iter_mut().zip(mask.as_raw()) {
            if masked == 1 {
                *pixel = [HOLE; 3];
            }
        }
        Self { source, mask }
    }
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
