//! The network of a checkpoint, and pictures through it.

use std::ops::ControlFlow;

use anyhow::{Context, Result, bail};
use diffusion::checkpoint::{Checkpoint, Facts, LAST, Part};
use diffusion::reverse::Step;
use diffusion::{DeviceBatch, SamplingConfig, UNet, noise, weights};
use image::{GrayImage, RgbImage};
use pipeline::Task;
use pipeline::degrade::Degraded;
use tch::{Device, nn};

/// A picture to restore.
pub struct Item {
    /// What is to be undone.
    pub task: Task,
    /// The picture as it is, and where it is to be made anew.
    pub degraded: Degraded,
    /// Name of the picture: with seed and sample number it decides the noise.
    pub key: String,
    /// Number of the output among those of the same input.
    pub sample: u32,
}

/// A network with the moving-average weights of a checkpoint.
pub struct Network {
    checkpoint: Checkpoint,
    unet: UNet,
    device: Device,
    // The weights live as long as their store.
    _variables: nn::VarStore,
}

impl Network {
    /// Loads the moving-average weights of a checkpoint, a folder or the address of one, onto the
    /// device.
    ///
    /// # Errors
    /// When there is no checkpoint, or a damaged one.
    pub fn load(uri: &str, device: Device) -> Result<Self> {
        let cache = scheduler::Home::from_env()?.checkpoint_cache();
        let folder = pipeline::folder::fetch(uri, LAST, &cache)?;
        let checkpoint = Checkpoint::open(&folder)?;
        let facts = checkpoint.facts();
        let mut variables = nn::VarStore::new(device);
        let unet = UNet::new(&variables.root(), &facts.model, short_side(facts))?;
        weights::assign(&variables, &checkpoint.read(Part::Average(0))?)?;
        variables.freeze();
        Ok(Self { checkpoint, unet, device, _variables: variables })
    }

    /// The checkpoint that the weights are from.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Shorter side of the images that the network was trained on.
    pub fn image_size(&self) -> u32 {
        short_side(self.checkpoint.facts())
    }

    /// Restores pictures of one size. What was given comes back pixel for pixel. Each output depends
    /// on (seed, key, sample) alone. `go_on` is asked before every step of the reverse process.
    ///
    /// # Errors
    /// When the pictures do not fit the network or memory runs out; [`diffusion::Error::Stopped`]
    /// when `go_on` said no.
    pub fn restore(
        &self,
        items: &[Item],
        seed: u64,
        sampling: &SamplingConfig,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<RgbImage>> {
        let Some(first) = items.first() else { return Ok(Vec::new()) };
        let (width, height) = first.degraded.source.dimensions();
        let mut source = Vec::new();
        let mut mask = Vec::new();
        for item in items {
            let sizes = [item.degraded.source.dimensions(), item.degraded.mask.dimensions()];
            if sizes != [(width, height); 2] {
                bail!("`{}` does not have the size of the others, {width}×{height}", item.key);
            }
            planes(&item.degraded.source, &mut source);
            mask.extend_from_slice(item.degraded.mask.as_raw());
        }
        let hole: Vec<bool> = items.iter().map(|item| item.task.has_hole()).collect();
        let keys: Vec<u64> = items
            .iter()
            .map(|item| noise::image_key(seed, &item.key, u64::from(item.sample)))
            .collect();
        let (height, width) = (height as usize, width as usize);
        // The known pixels of a target are those of the source; the others are what we are after.
        let batch =
            DeviceBatch::from_u8(height, width, &source, &source, &mask, &hole, self.device)?;
        let diffusion = &self.checkpoint.facts().diffusion;
        let mut on_step = |_: &Step| {
            if go_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let restored = tch::no_grad(|| {
            let denoiser = (&self.unet).into();
            diffusion::restore(denoiser, diffusion, sampling, &batch, &keys, &mut on_step)
        })?;
        let bytes = diffusion::to_u8(&restored)?;
        items
            .iter()
            .zip(bytes.chunks_exact(3 * height * width))
            .map(|(item, planes)| compose(planes, &item.degraded.source, &item.degraded.mask))
            .collect()
    }
}

fn short_side(facts: &Facts) -> u32 {
    let [height, width] = facts.image_size;
    height.min(width)
}

/// Appends an image `[H,W,3]` as planes `[3,H,W]`.
fn planes(image: &RgbImage, into: &mut Vec<u8>) {
    for channel in 0..3 {
        into.extend(image.as_raw().iter().skip(channel).step_by(3));
    }
}

/// The generated pixels where the mask says so, the given ones elsewhere, exactly.
fn compose(planes: &[u8], given: &RgbImage, mask: &GrayImage) -> Result<RgbImage> {
    let pixels = planes.len() / 3;
    let mut image = given.clone();
    for (index, (pixel, mask)) in image.pixels_mut().zip(mask.pixels()).enumerate() {
        if mask.0[0] != 0 {
            for (channel, value) in pixel.0.iter_mut().enumerate() {
                *value = *planes
                    .get(channel * pixels + index)
                    .context("the network's output has another size than its input")?;
            }
        }
    }
    Ok(image)
}
