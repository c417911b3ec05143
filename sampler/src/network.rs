//! The network of a checkpoint, and pictures of any size through it.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use contracts::Trained;
use diffusion::checkpoint::{Checkpoint, Component, LAST};
use diffusion::reverse::Step;
use diffusion::{
    Denoiser, DeviceBatch, Execution, Precision, SamplingConfig, UNet, noise, weights,
};
use image::RgbImage;
use pictures::from_batch;
use pipeline::Task;
use pipeline::degrade::Degraded;
use storage::Place;
use tch::{Device, nn};
use terminal::Usage;
use torch_ext::Numerics;

use crate::batches::{Batches, canvas_bytes};
use crate::canvas;
use crate::design::Design;

/// A picture to restore.
#[derive(Clone)]
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

/// On what and in which numbers a network is computed.
#[derive(Clone, Copy, Debug)]
pub struct Computing {
    /// The device.
    pub device: Device,
    /// The numbers; where it is left out those that the network was trained in on a GPU, fp32 on the CPU.
    pub precision: Option<Precision>,
    /// Images that go through at once; found by the memory where it is left out.
    pub batch: Option<usize>,
    /// Processes, this one included, that share the device's memory.
    pub sharing: usize,
}

/// A reverse process and the seed of its noise.
#[derive(Clone, Copy, Debug)]
pub struct SeededSampling<'a> {
    /// Seed of the noise.
    pub seed: u64,
    /// The reverse process.
    pub sampling: &'a SamplingConfig,
}

/// Sees every step of the reverse process: the number of the first of the items that it is about, and
/// the images. May end it, which is then an error ([`diffusion::Error::Stopped`]). Where memory ran
/// out, steps are seen once more, from the first one.
pub type Watch<'a> = dyn FnMut(usize, &Step) -> ControlFlow<()> + 'a;

/// Opens a checkpoint: a complete folder, or a file of exported weights.
///
/// # Errors
/// When there is none, or a damaged one.
pub fn open(place: &Place) -> Result<Checkpoint> {
    if let Some(file) = place.local().filter(|path| path.is_file()) {
        return Ok(Checkpoint::open(file)?);
    }
    // The home is of the cache alone, and whoever submits may not be able to write there.
    if place.is_local() {
        return Ok(Checkpoint::open(&storage::folder::fetch(place, LAST, Path::new(""))?)?);
    }
    let home = home::Home::from_env()?;
    let cache = home.checkpoint_cache();
    home.make(&cache).with_context(|| format!("{} cannot be made", cache.display()))?;
    Ok(Checkpoint::open(&storage::folder::fetch(place, LAST, &cache)?)?)
}

/// A network with its weights on a device.
pub struct Network {
    design: Design,
    unet: UNet,
    precision: Precision,
    device: Device,
    batches: Batches,
    // The weights live as long as their store.
    _variables: nn::VarStore,
}

impl Network {
    /// The network of a checkpoint with its moving-average weights.
    ///
    /// # Errors
    /// When weights are damaged or do not fit the network.
    pub fn of(checkpoint: &Checkpoint, computing: Computing) -> Result<Self> {
        let metadata = checkpoint.metadata();
        let design = Design {
            model: metadata.model.clone(),
            diffusion: metadata.diffusion.clone(),
            image_size: metadata.image_size,
        };
        let trained = Trained::of(&metadata.experiment).sampling_precision(computing.device);
        let precision = Some(computing.precision.unwrap_or(trained));
        // First the weights: how large the network is that is built for them, the checkpoint alone says.
        let read = checkpoint.read_weights(Component::Ema(0))?;
        Self::new(design, Computing { precision, ..computing }, move |variables| {
            Ok(weights::assign(variables, &read, checkpoint.folder())?)
        })
    }

    /// A network with the weights that training begins with.
    ///
    /// # Errors
    /// When the design is invalid.
    pub fn untrained(design: Design, computing: Computing) -> Result<Self> {
        Self::new(design, computing, |variables| Ok(weights::initialise(variables, 0)?))
    }

    fn new(
        design: Design,
        computing: Computing,
        fill: impl FnOnce(&nn::VarStore) -> Result<()>,
    ) -> Result<Self> {
        let Computing { device, precision, batch, sharing } = computing;
        let precision = precision.unwrap_or_default();
        // Every output is a function of its key, to rounding: nothing here needs the same bits twice.
        Numerics { tf32: precision == Precision::Tf32, deterministic: false }.set()?;
        let mut variables = nn::VarStore::new(device);
        let [height, width] = design.image_size;
        let execution = Execution { precision, recompute: false };
        let unet = UNet::new(&variables.root(), &design.model, height.min(width))?;
        let unet = unet.executed(execution);
        fill(&variables)?;
        variables.freeze();
        let batches = match batch {
            Some(batch) => Batches::of(batch),
            None => Batches::found(&design, precision, device, sharing)?,
        };
        Ok(Self { design, unet, precision, device, batches, _variables: variables })
    }

    /// The numbers that it is computed in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Shorter side of the images that the network was trained on.
    pub fn image_size(&self) -> u32 {
        let [height, width] = self.design.image_size;
        height.min(width)
    }

    /// Calls of a reverse process's steps that an image takes.
    pub fn steps(&self, sampling: &SamplingConfig) -> u64 {
        sampling.steps(&self.design.diffusion) as u64
    }

    /// Images that go through the network at once.
    pub fn batch(&self) -> usize {
        self.batches.size()
    }

    /// Refuses a picture whose reverse process does not fit into the memory that is free.
    ///
    /// # Errors
    /// Says how much is wanted, and what to do.
    pub fn check_size(&self, width: u32, height: u32) -> Result<()> {
        let wanted = canvas_bytes(u64::from(width) * u64::from(height));
        let free = torch_ext::free_memory(self.device)?;
        if wanted <= free {
            return Ok(());
        }
        Err(Usage::new(format!(
            "{width}×{height} pixels want some {} of memory, {} are free: make it smaller, for \
             instance by --short-side",
            terminal::bytes(wanted),
            terminal::bytes(free)
        ))
        .into())
    }

    /// Restores pictures. Those of the network's size go through it whole, many at once; others in
    /// windows, one picture at a time. What was given comes back pixel for pixel. Each output depends
    /// on (seed, key, sample) alone.
    ///
    /// # Errors
    /// When memory runs out for a single image; [`diffusion::Error::Stopped`] when `watch` said so.
    pub fn restore(
        &self,
        items: &[Item],
        seeded: SeededSampling,
        watch: &mut Watch,
    ) -> Result<Vec<RgbImage>> {
        let mut outputs = Vec::with_capacity(items.len());
        while let Some(left) = items.get(outputs.len()..).filter(|left| !left.is_empty()) {
            let first = outputs.len();
            let whole = left.iter().take_while(|item| self.is_whole(item)).count();
            let mut see = |step: &Step| watch(first, step);
            outputs.extend(match whole {
                0 => vec![self.restore_canvas(&left[0], seeded, &mut see)?],
                _ => self.batches.fit(whole, |count| {
                    self.draw((&self.unet).into(), &left[..count], seeded, &mut see)
                })?,
            });
        }
        Ok(outputs)
    }

    fn is_whole(&self, item: &Item) -> bool {
        let [height, width] = self.design.image_size;
        item.degraded.source.dimensions() == (width, height)
    }

    fn restore_canvas(
        &self,
        item: &Item,
        seeded: SeededSampling,
        see: &mut dyn FnMut(&Step) -> ControlFlow<()>,
    ) -> Result<RgbImage> {
        let (width, height) = item.degraded.source.dimensions();
        let side = self.image_size();
        let canvas = Item { degraded: canvas::canvas(&item.degraded, side), ..item.clone() };
        let mut outputs = self.batches.fit(usize::MAX, |batch| {
            let windows = Some(canvas::windows(side, batch));
            let denoiser = Denoiser { windows, ..(&self.unet).into() };
            self.draw(denoiser, std::slice::from_ref(&canvas), seeded, see)
        })?;
        let output = outputs.pop().context("no output for a picture")?;
        Ok(canvas::cut(&output, width, height))
    }

    /// One reverse process of items of one size.
    fn draw(
        &self,
        denoiser: Denoiser,
        items: &[Item],
        seeded: SeededSampling,
        see: &mut dyn FnMut(&Step) -> ControlFlow<()>,
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
            source.extend_from_slice(item.degraded.source.as_raw());
            mask.extend_from_slice(item.degraded.mask.as_raw());
        }
        let hole: Vec<bool> = items.iter().map(|item| item.task.has_hole()).collect();
        let keys: Vec<u64> = items
            .iter()
            .map(|item| noise::image_key(seeded.seed, &item.key, u64::from(item.sample)))
            .collect();
        let (height, width) = (height as usize, width as usize);
        // The known pixels of a target are those of the source; the others are what we are after.
        let batch =
            DeviceBatch::from_u8(height, width, &source, &source, &mask, &hole, self.device)?;
        drop((source, mask));
        let diffusion = &self.design.diffusion;
        let restored = tch::no_grad(|| {
            diffusion::restore(denoiser, diffusion, seeded.sampling, &batch, &keys, see)
        });
        let restored = restored.map_err(|error| match error {
            diffusion::Error::LostImage { step, total, image } => anyhow::anyhow!(
                "`{}`: the network gave values that are NaN or infinite at step {step} of {total}, so \
                 there is no picture; its weights are bad, or do not suit --precision {}",
                items.get(image).map_or("", |item| &item.key),
                self.precision
            ),
            other => other.into(),
        })?;
        let bytes = diffusion::to_u8(&restored)?;
        let made = (0..items.len()).map(|number| from_batch(&bytes, number, (height, width)));
        Ok(items.iter().zip(made).map(|(item, made)| compose(made, &item.degraded)).collect())
    }
}

/// The generated pixels where the mask says so, the given ones elsewhere, exactly.
pub fn compose(mut made: RgbImage, given: &Degraded) -> RgbImage {
    for ((pixel, given), mask) in
        made.pixels_mut().zip(given.source.pixels()).zip(given.mask.pixels())
    {
        if mask.0[0] == 0 {
            *pixel = *given;
        }
    }
    made
}
