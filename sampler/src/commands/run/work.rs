//! Pictures on their way through the network: as many at once as go together.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use diffusion::SamplingConfig;
use diffusion::reverse::Step;
use image::RgbImage;
use pipeline::degrade::Degraded;
use serde::Serialize;
use storage::named;
use terminal::{Progress, Usage};

use super::mark::{self, Mark};
use super::{RunArgs, names};
use crate::extend::{self, Panorama};
use crate::given::Given;
use crate::inputs::{Input, Picture};
use crate::network::{Item, Network, SeededSampling};
use crate::recording::Recording;

/// Pixels that are read ahead for a batch, at most.
const PENDING_PIXELS: u64 = 16 << 20;
/// Bytes of the frames of those that are recorded, at most; a single picture may have more.
const PENDING_FRAMES: u64 = 512 << 20;

/// An output that was written.
#[derive(Serialize)]
struct Output {
    input: PathBuf,
    output: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<PathBuf>,
    seed: u64,
    sample: u32,
    width: u32,
    height: u32,
}

/// What an output has of its picture, and not of the network.
struct Kept {
    path: PathBuf,
    given: Given,
    mark: Mark,
}

/// Pictures that were read and wait, and what became of those before them.
pub struct Work<'a> {
    run: &'a RunArgs,
    network: &'a Network,
    sampling: &'a SamplingConfig,
    folder: PathBuf,
    pending: Vec<(Kept, Item)>,
    progress: Progress,
    /// Network calls in all, as far as they are known.
    total: u64,
    /// Of outputs that are done.
    done: u64,
    written: Vec<Output>,
    failed: usize,
    mark: Mark,
}

impl<'a> Work<'a> {
    pub fn new(
        run: &'a RunArgs,
        network: &'a Network,
        sampling: &'a SamplingConfig,
        folder: PathBuf,
        inputs: usize,
        mark: Mark,
    ) -> Self {
        let steps = network.steps(sampling);
        let total = inputs as u64 * u64::from(run.samples) * steps;
        let progress = Progress::new("sampling", Some(total), "steps");
        progress.set(0);
        let (pending, written) = (Vec::new(), Vec::new());
        Self {
            run,
            network,
            sampling,
            folder,
            pending,
            progress,
            total,
            done: 0,
            written,
            failed: 0,
            mark,
        }
    }

    /// Steps of one pass over an image.
    fn steps(&self) -> u64 {
        self.network.steps(self.sampling)
    }

    /// Refuses a picture that is or would become too large.
    pub fn check(&self, degraded: &Degraded) -> Result<()> {
        let (width, height) = degraded.source.dimensions();
        let extensions = &self.run.extend;
        let Some([wide, high]) = extend::grown(width, height, extensions) else {
            let message = format!(
                "{width}×{height} extended by {} has more pixels than a picture may have",
                extensions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            );
            return Err(Usage::new(message).into());
        };
        // A panorama is never denoised whole, only a stripe as long as its longer side.
        let side = self.network.image_size();
        match extensions.is_empty() {
            true => self.network.check_size(width.max(side), height.max(side)),
            false => self.network.check_size(wide.max(high).max(side), side),
        }
    }

    /// Takes on the outputs of a picture, and makes those that are enough for a batch.
    pub fn add(&mut self, input: &Input, mut picture: Picture) -> Result<()> {
        if !self.run.extend.is_empty() && picture.given.flatten() {
            let shown = input.path.display();
            tracing::warn!("{shown}: not kept: transparency and 16 bits, because it is extended");
        }
        for sample in 0..self.run.samples {
            let (degraded, key) = (picture.degraded.clone(), input.key.clone());
            let kept = Kept {
                path: input.path.clone(),
                given: picture.given.clone(),
                mark: self.mark.of(&input.key, &picture.digest, sample),
            };
            let item = Item { task: self.run.task, degraded, key, sample };
            self.pending.push((kept, item));
            if self.is_enough() {
                self.go()?;
            }
        }
        // Only panoramas of one size grow together.
        if self.run.extend.is_empty() { Ok(()) } else { self.go() }
    }

    fn is_enough(&self) -> bool {
        let sizes = || self.pending.iter().map(|(_, item)| item.degraded.source.dimensions());
        let pixels: u64 = sizes().map(|(w, h)| u64::from(w) * u64::from(h)).sum();
        let frames: u64 = match self.run.save_process {
            Some(form) => sizes().map(|size| form.bytes(size)).sum(),
            None => 0,
        };
        self.pending.len() >= self.network.batch()
            || pixels >= PENDING_PIXELS
            || frames >= PENDING_FRAMES
    }

    /// Goes on without a picture of a folder, and says why; the only one ends it all.
    pub fn pass_over(&mut self, input: &Input, error: anyhow::Error) -> Result<()> {
        if !self.run.input.is_dir() {
            return Err(error.context(input.path.display().to_string()));
        }
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        tracing::error!("{}: {}", input.path.display(), causes.join(": "));
        self.failed += 1;
        self.total -= u64::from(self.run.samples) * self.steps();
        self.progress.set_total(self.total);
        Ok(())
    }

    /// Restores what waits.
    pub fn go(&mut self) -> Result<()> {
        let (kept, items): (Vec<Kept>, Vec<Item>) = self.pending.drain(..).unzip();
        if items.is_empty() {
            return Ok(());
        }
        let outputs = match self.run.extend.is_empty() {
            true => self.restore(&items, &kept)?,
            false => self.extend(&items)?,
        };
        for ((item, kept), (image, process)) in items.into_iter().zip(kept).zip(outputs) {
            let output = names::output(&self.folder, &item.key, item.sample);
            let (width, height) = image.dimensions();
            let Kept { path, given, mark } = kept;
            let text = vec![(mark::KEYWORD.to_owned(), mark.text())];
            named::write(&output, &given.png(image, &item.degraded.mask, item.task, text)?)?;
            if !self.run.json {
                terminal::print(&output.display().to_string())?;
            }
            let Item { sample, .. } = item;
            let seed = self.run.seed;
            self.written.push(Output { input: path, output, process, seed, sample, width, height });
        }
        Ok(())
    }

    fn seeded(&self) -> SeededSampling<'a> {
        SeededSampling { seed: self.run.seed, sampling: self.sampling }
    }

    fn restore(
        &mut self,
        items: &[Item],
        kept: &[Kept],
    ) -> Result<Vec<(RgbImage, Option<PathBuf>)>> {
        let sizes = items.iter().map(|item| item.degraded.source.dimensions()).collect();
        let mut recording = self.run.save_process.map(|form| Recording::new(form, sizes));
        let mut broken = Ok(());
        let restored = self.network.restore(items, self.seeded(), &mut |first, step| {
            let count = step.y.size().first().copied().unwrap_or(0).cast_unsigned();
            let before = self.done + first as u64 * step.total as u64;
            self.progress.set(before + count * (step.total - step.left) as u64);
            if let Some(recording) = &mut recording {
                broken = recording.see(first, step);
            }
            if broken.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        broken?;
        let restored = restored?;
        self.done += items.len() as u64 * self.steps();
        let mut outputs = Vec::new();
        for (number, image) in restored.into_iter().enumerate() {
            let process = recording.as_ref().map(|recording| {
                let item = &items[number];
                let path = names::process(&self.folder, &item.key, item.sample);
                let written = recording.write(number, &path);
                written.with_context(|| kept[number].path.display().to_string()).map(|()| path)
            });
            outputs.push((image, process.transpose()?));
        }
        Ok(outputs)
    }

    fn extend(&mut self, items: &[Item]) -> Result<Vec<(RgbImage, Option<PathBuf>)>> {
        let mut panoramas: Vec<Panorama> = items
            .iter()
            .map(|item| Panorama {
                picture: item.degraded.source.clone(),
                key: item.key.clone(),
                sample: item.sample,
            })
            .collect();
        let Some(first) = items.first() else { return Ok(Vec::new()) };
        let (width, height) = first.degraded.source.dimensions();
        let side = self.network.image_size();
        let stripes = u64::from(extend::stripes(width, height, &self.run.extend, side));
        self.total += (stripes.max(1) - 1) * items.len() as u64 * self.steps();
        self.progress.set_total(self.total);
        let seeded = self.seeded();
        let done = &mut self.done;
        let progress = &self.progress;
        let mut see = |_: usize, step: &Step| {
            *done += step.y.size().first().copied().unwrap_or(0).cast_unsigned();
            progress.set(*done);
            ControlFlow::Continue(())
        };
        extend::extend(self.network, &mut panoramas, &self.run.extend, seeded, &mut see)?;
        Ok(panoramas.into_iter().map(|panorama| (panorama.picture, None)).collect())
    }

    pub fn finish(self, inputs: usize) -> Result<()> {
        self.progress.finish();
        if self.run.json {
            terminal::print_json(&self.written)?;
        }
        if self.failed > 0 {
            bail!("{} of {inputs} pictures could not be restored", self.failed);
        }
        Ok(())
    }
}
