//! Scaling with an antialiased bicubic filter, and cutting.

use std::cell::RefCell;

use fast_image_resize as resize;
use image::RgbImage;

use crate::{Error, ImageSize, Result};

/// Where the cut lies, each from 0 (left, top) to 1 (right, bottom).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// From left to right.
    pub x: f64,
    /// From top to bottom.
    pub y: f64,
}

impl Window {
    /// The middle.
    pub const CENTER: Self = Self { x: 0.5, y: 0.5 };
}

/// Width and height once the shorter side has `short` pixels.
pub fn scaled(width: u32, height: u32, short: u32) -> (u32, u32) {
    let long =
        |long: u32, side: u32| (u64::from(short) * u64::from(long) / u64::from(side.max(1))) as u32;
    if width <= height {
        (short, long(height, width).max(short))
    } else {
        (long(width, height).max(short), short)
    }
}

/// Scales the shorter side to `size` with an antialiased bicubic filter and cuts a square of `size`:
/// RGB of size×size. Only the pixels of the square are computed.
///
/// # Errors
/// For an image without pixels.
pub fn fit(image: &RgbImage, size: u32, window: Window) -> Result<RgbImage> {
    cover(image, ImageSize::square(size), window)
}

/// Scales the image until it just covers `size`, with an antialiased bicubic filter, and cuts that
/// size out of it: RGB of height×width. Only the pixels of the cut are computed.
///
/// # Errors
/// For an image without pixels.
pub fn cover(image: &RgbImage, size: ImageSize, window: Window) -> Result<RgbImage> {
    cover_reduced(image, image.dimensions(), 1.0, size, window)
}

/// [`cover`] of an image of `original` width and height that was decoded at `scale` of it: the cut
/// is that of the original, though the reduced sides were rounded up.
pub(super) fn cover_reduced(
    image: &RgbImage,
    original: (u32, u32),
    scale: f64,
    size: ImageSize,
    window: Window,
) -> Result<RgbImage> {
    let (width, height) = covering(original.0, original.1, size);
    let extent = [f64::from(original.0) * scale, f64::from(original.1) * scale];
    let cut = |over: u32, at: f64| (f64::from(over) * at).round_ties_even();
    let (left, top) = (cut(width - size.width, window.x), cut(height - size.height, window.y));
    let (sx, sy) = (extent[0] / f64::from(width), extent[1] / f64::from(height));
    // fast_image_resize 6.1 reads outside of the image where it enlarges a cut whose first pixel
    // falls on a pixel of the source, so that the cut comes after the scaling there.
    if sx > 1.0 && sy > 1.0 {
        let (left, across) = inside(left * sx, f64::from(size.width) * sx, extent[0]);
        let (top, down) = inside(top * sy, f64::from(size.height) * sy, extent[1]);
        return resample(image, size.width, size.height, Some([left, top, across, down]));
    }
    let whole = resample(image, width, height, None)?;
    if whole.dimensions() == (size.width, size.height) {
        return Ok(whole);
    }
    let (left, top) = (left as u32, top as u32);
    Ok(image::imageops::crop_imm(&whole, left, top, size.width, size.height).to_image())
}

/// Width and height once an image of this width and height just covers `size`.
fn covering(width: u32, height: u32, size: ImageSize) -> (u32, u32) {
    let scaled = |to: u32, side: u32, by: u32| {
        (u64::from(to) * u64::from(side) / u64::from(by.max(1))) as u32
    };
    let tall =
        u64::from(width) * u64::from(size.height) <= u64::from(height) * u64::from(size.width);
    if tall {
        (size.width, scaled(size.width, height, width).max(size.height))
    } else {
        (scaled(size.height, width, height).max(size.width), size.height)
    }
}

/// A span within 0..side in spite of rounding.
fn inside(from: f64, length: f64, side: f64) -> (f64, f64) {
    let length = length.min(side);
    let mut from = from.clamp(0.0, side - length);
    while from + length > side {
        from = from.next_down();
    }
    (from, length)
}

/// Scales the whole image so that the shorter side has `short` pixels (antialiased bicubic).
///
/// # Errors
/// For an image without pixels.
pub fn shrink(image: &RgbImage, short: u32) -> Result<RgbImage> {
    let (width, height) = scaled(image.width(), image.height(), short);
    resample(image, width, height, None)
}

/// Scales to `width`×`height` the whole image, or the part `[left, top, width, height]` of it.
///
/// # Errors
/// For an image without pixels.
pub(crate) fn resample(
    image: &RgbImage,
    width: u32,
    height: u32,
    cut: Option<[f64; 4]>,
) -> Result<RgbImage> {
    thread_local! {
        static RESIZER: RefCell<resize::Resizer> = RefCell::new(resize::Resizer::new());
    }
    let failed = |error: &dyn std::fmt::Display| Error::Image(format!("not resizable: {error}"));
    let source = resize::images::ImageRef::new(
        image.width(),
        image.height(),
        image.as_raw(),
        resize::PixelType::U8x3,
    )
    .map_err(|error| failed(&error))?;
    let mut target = resize::images::Image::new(width, height, resize::PixelType::U8x3);
    let filter = resize::ResizeAlg::Convolution(resize::FilterType::CatmullRom);
    let mut options = resize::ResizeOptions::new().resize_alg(filter);
    if let Some([left, top, width, height]) = cut {
        options = options.crop(left, top, width, height);
    }
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options))
        .map_err(|error| failed(&error))?;
    RgbImage::from_raw(width, height, target.into_vec())
        .ok_or_else(|| Error::Image("not resizable: no pixels".into()))
}
