//! The denoising of a picture, to look at: side by side, or as an animated PNG.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use diffusion::reverse::Step;
use image::RgbImage;
use pictures::{Sheet, animation, from_batch};
use pipeline::image as picture;
use serde::{Deserialize, Serialize};
use storage::named;

/// What a recording becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Form {
    /// Eight moments side by side.
    Strip,
    /// Up to 48 moments one after the other.
    Animation,
}

impl Form {
    fn frames(self) -> usize {
        match self {
            Self::Strip => 8,
            Self::Animation => 48,
        }
    }

    /// Longer side of a frame at most, in pixels.
    fn side(self) -> u32 {
        match self {
            Self::Strip => 256,
            Self::Animation => 512,
        }
    }

    /// Bytes that the frames of a picture of this width and height take in memory, about.
    pub fn bytes(self, (width, height): (u32, u32)) -> u64 {
        let long = width.max(height).max(1);
        let scale = match long <= self.side() {
            true => f64::from(enlargement(long)),
            false => f64::from(self.side()) / f64::from(long),
        };
        let pixels = f64::from(width) * f64::from(height) * scale * scale;
        3 * self.frames() as u64 * pixels.round() as u64
    }
}

/// Recordings of pictures that are restored together: their frames are in memory until they are
/// written ([`Form::bytes`] a picture).
pub struct Recording {
    form: Form,
    /// Width and height of each picture, which may be less than those of its canvas.
    sizes: Vec<(u32, u32)>,
    frames: Vec<Vec<RgbImage>>,
    /// The steps that the frames are after, the same of all pictures.
    steps: Vec<usize>,
}

impl Recording {
    /// Of pictures with these widths and heights.
    pub fn new(form: Form, sizes: Vec<(u32, u32)>) -> Self {
        let frames = vec![Vec::new(); sizes.len()];
        Self { form, sizes, frames, steps: Vec::new() }
    }

    /// Sees a step of the pictures from number `first` on.
    ///
    /// # Errors
    /// When the device does not give the images.
    pub fn see(&mut self, first: usize, step: &Step) -> Result<()> {
        let count = usize::try_from(step.y.size()[0])?;
        let done = step.total - step.left;
        let frames =
            self.frames.get_mut(first..first + count).context("pictures beyond the last")?;
        if done == 1 {
            frames.iter_mut().for_each(Vec::clear);
            self.steps.clear();
        }
        if !is_frame(done, step.total, self.form.frames()) {
            return Ok(());
        }
        self.steps.push(done);
        let size = step.y.size();
        let (height, width) = (usize::try_from(size[2])?, usize::try_from(size[3])?);
        let bytes = diffusion::to_u8(step.y)?;
        for (number, frames) in frames.iter_mut().enumerate() {
            let whole = from_batch(&bytes, number, (height, width));
            let (width, height) = self.sizes[first + number];
            let own = crate::canvas::cut(&whole, width, height);
            frames.push(larger(smaller(own, self.form.side())?));
        }
        Ok(())
    }

    /// Writes the recording of a picture, a PNG file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, number: usize, path: &Path) -> Result<()> {
        let frames = self.frames.get(number).filter(|frames| !frames.is_empty());
        let frames = frames.context("nothing was recorded")?;
        let bytes = match self.form {
            Form::Strip => {
                let headings: Vec<String> =
                    self.steps.iter().map(|step| format!("step {step}")).collect();
                let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
                let mut sheet = Sheet::new(&headings);
                sheet.row("", frames.clone());
                sheet.png()?
            }
            Form::Animation => animation(frames)?,
        };
        Ok(named::write(path, &bytes)?)
    }
}

/// Whether the step is among `frames` that lie evenly over `total` steps, the last one included.
pub fn is_frame(done: usize, total: usize, frames: usize) -> bool {
    done * frames / total != (done - 1) * frames / total
}

/// Its longer side has so many pixels at most.
///
/// # Errors
/// For a picture without pixels.
pub fn smaller(image: RgbImage, side: u32) -> Result<RgbImage> {
    let (short, long) = (image.width().min(image.height()), image.width().max(image.height()));
    if long <= side {
        return Ok(image);
    }
    let short = (u64::from(short) * u64::from(side) / u64::from(long)).max(1);
    Ok(picture::shrink(&image, u32::try_from(short)?)?)
}

/// Small pictures are enlarged by whole factors, so that every pixel shows.
fn larger(image: RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    let factor = enlargement(width.max(height).max(1));
    let nearest = image::imageops::FilterType::Nearest;
    image::imageops::resize(&image, width * factor, height * factor, nearest)
}

fn enlargement(long: u32) -> u32 {
    const SIDE: u32 = 128;
    (SIDE / long).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_in_memory_are_counted() {
        assert_eq!(Form::Strip.bytes((64, 64)), 8 * 3 * 128 * 128);
        assert_eq!(Form::Animation.bytes((512, 256)), 48 * 3 * 512 * 256);
        assert_eq!(Form::Animation.bytes((2000, 1000)), 48 * 3 * 512 * 256);
        for size in [(64, 64), (200, 100), (2000, 1001), (3, 3)] {
            let frame = larger(smaller(RgbImage::new(size.0, size.1), 512).unwrap());
            let (frames, told) = (48 * frame.as_raw().len() as u64, Form::Animation.bytes(size));
            assert!(told.abs_diff(frames) * 100 <= frames, "{size:?}: {told}, {frames}");
        }
    }

    #[test]
    fn frames_lie_evenly_and_the_last_step_is_one() {
        let seen = |total, frames| (1..=total).filter(move |&done| is_frame(done, total, frames));
        assert_eq!(seen(1000, 8).collect::<Vec<_>>(), [125, 250, 375, 500, 625, 750, 875, 1000]);
        assert_eq!(seen(3, 8).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(seen(50, 48).count(), 48);
    }
}
