//! `sampler run`: pictures of one's own through the weights of a checkpoint folder.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use image::{GrayImage, Luma, RgbImage};
use pipeline::degrade::Degraded;
use pipeline::image::{self as picture, Window};
use pipeline::{Task, atomic};
use terminal::Usage;

use super::Process;
use crate::network::{Item, Network};

/// Values of a mask file from here on count as masked.
const MASKED_FROM: u8 = 128;

#[derive(Args)]
pub struct Run {
    /// Folder of a checkpoint (`step-…`).
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// The degraded picture, or a folder of them. The middle square is taken, at the network's size.
    #[arg(long, value_name = "FILE|DIR")]
    input: PathBuf,
    /// White where pixels are to be made (from grey 128 on); of the size of the input. Needed for
    /// inpainting and uncropping.
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
    /// What is to be undone: colorization, inpainting, uncropping or jpeg.
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
        let mut items = Vec::new();
        for path in inputs(&self.input)? {
            let degraded = self
                .read(&path, network.image_size())
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

    fn read(&self, path: &Path, size: u32) -> anyhow::Result<Degraded> {
        let picture = picture::decode(&std::fs::read(path)?)?;
        let mask = match &self.mask {
            Some(path) => mask(path, &picture)?,
            None => GrayImage::from_pixel(picture.width(), picture.height(), Luma([1])),
        };
        // Scaled in the same way as the picture, then made binary again.
        let white = RgbImage::from_fn(mask.width(), mask.height(), |x, y| {
            [mask.get_pixel(x, y).0[0] * 255; 3].into()
        });
        let white = picture::fit(&white, size, Window::CENTER)?;
        let mask = GrayImage::from_fn(size, size, |x, y| {
            Luma([u8::from(white.get_pixel(x, y).0[0] >= MASKED_FROM)])
        });
        Ok(Degraded { source: picture::fit(&picture, size, Window::CENTER)?, mask })
    }
}

/// The mask file with 1 for masked; refused where its size is another than the picture's or nothing
/// is masked.
fn mask(path: &Path, picture: &RgbImage) -> anyhow::Result<GrayImage> {
    let name = path.display();
    let drawn = picture::decode(&std::fs::read(path).with_context(|| format!("--mask {name}"))?)
        .with_context(|| format!("--mask {name}"))?;
    if drawn.dimensions() != picture.dimensions() {
        let ((mw, mh), (w, h)) = (drawn.dimensions(), picture.dimensions());
        return Err(Usage::new(format!("--mask {name} is {mw}×{mh}, the input is {w}×{h}")).into());
    }
    let mask = GrayImage::from_fn(drawn.width(), drawn.height(), |x, y| {
        Luma([u8::from(drawn.get_pixel(x, y).0[0] >= MASKED_FROM)])
    });
    if mask.pixels().all(|pixel| pixel.0[0] == 0) {
        let message = format!(
            "--mask {name} masks nothing: white (grey from {MASKED_FROM}) is what is to be made"
        );
        return Err(Usage::new(message).into());
    }
    Ok(mask)
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
