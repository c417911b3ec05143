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
    Cut::new(image.dimensions(), size, window).take(image, [0, 0], 1.0)
}

/// A cut of `size` out of an image that was scaled until it just covers it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    original: (u32, u32),
    size: ImageSize,
    /// Width and height of the scaled image.
    scaled: (u32, u32),
    /// Columns and rows of the scaled image before the cut.
    before: [f64; 2],
    /// Pixels of the original for one of the scaled image, across and down.
    step: [f64; 2],
}

impl Cut {
    /// The cut at `window` of an image of `original` width and height.
    pub(super) fn new(original: (u32, u32), size: ImageSize, window: Window) -> Self {
        let scaled = covering(original.0, original.1, size);
        let cut = |over: u32, at: f64| (f64::from(over) * at).round_ties_even();
        let before = [cut(scaled.0 - size.width, window.x), cut(scaled.1 - size.height, window.y)];
        let step = |original: u32, scaled: u32| f64::from(original) / f64::from(scaled);
        let step = [step(original.0, scaled.0), step(original.1, scaled.1)];
        Self { original, size, scaled, before, step }
    }

    /// fast_image_resize 6.1 reads outside of the image where it enlarges a cut whose first pixel falls
    /// on a pixel of the source, so that there the whole image is scaled and cut afterwards.
    fn reduces(&self) -> bool {
        self.step.iter().all(|&step| step > 1.0)
    }

    /// Where the cut begins and how long it is, across and down: in pixels of the original at `scale`,
    /// from `corner` of it on.
    fn spans(&self, corner: [u32; 2], scale: f64) -> [(f64, f64); 2] {
        let size = [self.size.width, self.size.height];
        let sides = [self.original.0, self.original.1];
        [0, 1].map(|axis| {
            let (step, before) = (self.step[axis] * scale, f64::from(corner[axis]));
            let side = f64::from(sides[axis]) * scale - before;
            inside(self.before[axis] * step - before, f64::from(size[axis]) * step, side)
        })
    }

    /// What of the original the filter reads, a pixel more on either side: left, top, right, bottom.
    pub(super) fn needs(&self) -> [u32; 4] {
        let (width, height) = self.original;
        if !self.reduces() {
            return [0, 0, width, height];
        }
        let [across, down] = self.spans([0, 0], 1.0);
        let reach = |(from, length): (f64, f64), step: f64, side: u32| {
            let margin = REACH * step + 1.0;
            let end = (from + length + margin).ceil().min(f64::from(side));
            ((from - margin).floor().max(0.0) as u32, end as u32)
        };
        let (left, right) = reach(across, self.step[0], width);
        let (top, bottom) = reach(down, self.step[1], height);
        [left, top, right, bottom]
    }

    /// Takes the cut out of a part of the original that holds what it needs: `image` begins at `corner`
    /// (left, top) of the original at `scale` of its size.
    pub(super) fn take(&self, image: &RgbImage, corner: [u32; 2], scale: f64) -> Result<RgbImage> {
        let ImageSize { width, height } = self.size;
        if self.reduces() {
            let [(left, across), (top, down)] = self.spans(corner, scale);
            return resample(image, width, height, Some([left, top, across, down]));
        }
        let whole = resample(image, self.scaled.0, self.scaled.1, None)?;
        if whole.dimensions() == (width, height) {
            return Ok(whole);
        }
        let [left, top] = self.before.map(|before| before as u32);
        Ok(image::imageops::crop_imm(&whole, left, top, width, height).to_image())
    }
}

/// How far the bicubic filter reads, in pixels of the smaller image.
const REACH: f64 = 2.0;

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
