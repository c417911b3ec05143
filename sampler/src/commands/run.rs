//! `sampler run`: pictures of one's own through the weights of a checkpoint folder.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use image::{GrayImage, Luma};
use pipeline::degrade::Degraded;
use pipeline::image::{self as picture, Window};
use pipeline::masks::MaskSet;
use pipeline::{Task, atomic};
use terminal::Usage;

use super::{MaskReading, Process};
use crate::network::{Item, Network};

#[derive(Args)]
pub struct Run {
    /// Folder or address of a checkpoint (`step-…`, or what `trainer import` made).
    #[arg(long, value_name = "DIR")]
    checkpoint: String,
    /// The degraded picture, or a folder of them. The middle square is taken, at the network's size.
    #[arg(long, value_name = "FILE|DIR")]
    input: PathBuf,
    /// White where pixels are to be made; of the size of the input. One picture for all inputs, or
    /// a folder of them with the inputs' names. Needed for inpainting and uncropping.
    #[arg(long, value_name = "FILE|DIR")]
    mask: Option<String>,
    #[command(flatten)]
    mask_reading: MaskReading,
    /// What is to be undone: colorization, inpainting, uncropping, jpeg or superresolution.
    #[arg(long)]
    task: Task,
    /// Where NAME-1.png and so on go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Outputs for each input.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    samples: u32,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    process: Process,
    /// Pictures that go through the network at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
}

impl Run {
    pub fn run(self) -> anyhow::Result<()> {
        let sampling = self.process.config()?;
        if self.task.has_hole() && self.mask.is_none() {
            return Err(Usage::new(format!("--mask is needed for {}", self.task)).into());
        }
        let network = Network::load(&self.checkpoint, torch_ext::device())?;
        let masks = self.mask.as_ref().map(|place| {
            MaskSet::open(place, self.mask_reading.into())
                .map_err(|error| Usage::new(format!("--mask {place} cannot be used: {error}")))
        });
        let masks = masks.transpose()?;
        let mut items = Vec::new();
        for path in inputs(&self.input)? {
            let degraded = read(&path, masks.as_ref(), network.image_size())
                .with_context(|| format!("input {}", path.display()))?;
            let key = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            for sample in 0..self.samples {
                let (degraded, key) = (degraded.clone(), key.clone());
                items.push(Item { task: self.task, degraded, key, sample });
            }
        }
        std::fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        let progress = terminal::Progress::new("sampling", Some(items.len() as u64), "outputs");
        for items in items.chunks(self.batch as usize) {
            let restored = network.restore(items, self.seed, &sampling, &|| true)?;
            for (item, output) in items.iter().zip(restored) {
                let path = self.out.join(format!("{}-{}.png", item.key, item.sample + 1));
                atomic::write(&path, &picture::png(&output.into())?)?;
                terminal::print(&path.display().to_string())?;
            }
            progress.inc(items.len() as u64);
        }
        progress.finish();
        Ok(())
    }
}

/// A picture at the network's size, and where it is to be made anew: everywhere without masks.
fn read(path: &Path, masks: Option<&MaskSet>, size: u32) -> anyhow::Result<Degraded> {
    let picture = picture::decode(&std::fs::read(path)?)?;
    let mask = match masks {
        Some(masks) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let own = masks.own_size(0, &name)?;
            if own.dimensions() != picture.dimensions() {
                let ((mw, mh), (w, h)) = (own.dimensions(), picture.dimensions());
                return Err(Usage::new(format!("the mask is {mw}×{mh}, the input {w}×{h}")).into());
            }
            // Cut as the picture is.
            masks.mask(0, &name, size, size)?
        }
        None => GrayImage::from_pixel(size, size, Luma([1])),
    };
    Ok(Degraded { source: picture::fit(&picture, size, Window::CENTER)?, mask })
}

/// The picture, or the pictures of a folder by name.
fn inputs(input: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("--input {}", input.display());
    if !std::fs::metadata(input).with_context(context)?.is_dir() {
        return Ok(vec![input.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(input).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if ["jpg", "jpeg", "png", "webp"].contains(&extension.as_str()) {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(Usage::new(format!("--input {}: no picture", input.display())).into());
    }
    Ok(paths)
}
