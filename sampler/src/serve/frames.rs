//! What is seen of a try before it is done: what the network was given, and how the picture is estimated after steps.

use anyhow::Result;
use diffusion::reverse::Step;
use image::{Rgb, RgbImage};
use pictures::{from_batch, png};
use pipeline::Task;
use pipeline::degrade::Degraded;
use registry::{NewTryPicture, TryPart};

use crate::canvas;
use crate::network::{Item, compose};
use crate::recording::{is_frame, smaller};

/// Frames of a sample, evenly over its steps.
const FRAMES: usize = 12;
/// Longer side of a frame, at most.
const SIDE: u32 = 192;
/// What stands in a hole.
const HOLE: Rgb<u8> = Rgb([128, 128, 128]);

/// Collects pictures until they are taken.
pub struct Frames(Vec<NewTryPicture>);

impl Frames {
    /// With these to begin with.
    pub fn new(first: Vec<NewTryPicture>) -> Self {
        Self(first)
    }

    /// Sees a step of the items from number `first` on.
    ///
    /// # Errors
    /// When the device does not give the images.
    pub fn see(&mut self, items: &[Item], first: usize, step: &Step) -> Result<()> {
        let done = step.total - step.left;
        if !is_frame(done, step.total, FRAMES) {
            return Ok(());
        }
        let size = step.y0.size();
        let (count, height, width) =
            (usize::try_from(size[0])?, usize::try_from(size[2])?, usize::try_from(size[3])?);
        let bytes = diffusion::to_u8(&step.y0.f_clamp(-1.0, 1.0)?)?;
        for (number, item) in items.iter().skip(first).take(count).enumerate() {
            let (own_width, own_height) = item.degraded.source.dimensions();
            let whole = from_batch(&bytes, number, (height, width));
            let own = compose(canvas::cut(&whole, own_width, own_height), &item.degraded);
            let small = smaller(own, SIDE)?;
            self.0.push(new(TryPart::Frame, item.sample, done, &small)?);
        }
        Ok(())
    }

    /// Some wait to be taken.
    pub fn waiting(&self) -> bool {
        !self.0.is_empty()
    }

    /// Those that came since the last time.
    pub fn take(&mut self) -> Vec<NewTryPicture> {
        std::mem::take(&mut self.0)
    }
}

/// What the network is given; the hole is grey.
///
/// # Errors
/// When it cannot be encoded.
pub fn given(degraded: &Degraded, task: Task) -> Result<NewTryPicture> {
    let mut picture = degraded.source.clone();
    if task.has_hole() {
        for (pixel, mask) in picture.pixels_mut().zip(degraded.mask.pixels()) {
            if mask.0[0] > 0 {
                *pixel = HOLE;
            }
        }
    }
    new(TryPart::Given, 0, 0, &picture)
}

fn new(what: TryPart, sample: u32, step: usize, picture: &RgbImage) -> Result<NewTryPicture> {
    Ok(NewTryPicture {
        what,
        sample: sample.cast_signed(),
        step: i32::try_from(step)?,
        width: picture.width().cast_signed(),
        height: picture.height().cast_signed(),
        media: "image/png",
        bytes: png(picture)?,
    })
}
