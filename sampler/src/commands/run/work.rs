//! Pictures on their way through the network: as many at once as go together.

use std::ops::{ControlFlow, Range};
use std::path::PathBuf;

use anyhow::{Context, Result};
use diffusion::reverse::Step;
use image::RgbImage;
use pipeline::degrade::Degraded;
use storage::named;
use terminal::Usage;

use super::desk::{News, Output};
use super::mark::{self, Mark};
use super::names;
use super::order::Order;
use super::said::Seen;
use crate::extend::{self, Panorama};
use crate::given::Given;
use crate::inputs::{Input, Picture, Reader};
use crate::network::{Item, Network};
use crate::recording::Recording;

/// Pixels that are read ahead for a batch, at most.
const PENDING_PIXELS: u64 = 16 << 20;
/// Bytes of the frames of those that are recorded, at most; a single picture may have more.
const PENDING_FRAMES: u64 = 512 << 20;

/// What an output has of its picture, and not of the network.
struct Kept {
    path: PathBuf,
    given: Given,
    mark: Mark,
}

/// Hears what becomes of the pictures.
pub type Tell<'a> = dyn FnMut(News) -> Result<()> + 'a;

/// Sees every step of items that are restored together, from the item of this number on. An error ends the work.
pub type See<'a> = dyn FnMut(&[Item], usize, &Step) -> Result<()> + 'a;

/// Reads pictures and makes outputs of them. Those that were read wait until they are enough for a batch.
pub struct Work<'a> {
    order: &'a Order,
    reader: &'a Reader,
    network: &'a Network,
    pending: Vec<(Kept, Item)>,
    /// Calls of the network for outputs that are done.
    done: u64,
    tell: &'a mut Tell<'a>,
    see: Option<&'a mut See<'a>>,
}

impl<'a> Work<'a> {
    pub fn new(
        order: &'a Order,
        reader: &'a Reader,
        network: &'a Network,
        tell: &'a mut Tell<'a>,
    ) -> Self {
        Self { order, reader, network, pending: Vec::new(), done: 0, tell, see: None }
    }

    /// Shows it every step; not of panoramas.
    pub fn seen_by(self, see: &'a mut See<'a>) -> Self {
        Self { see: Some(see), ..self }
    }

    /// Takes on outputs of a picture, by their numbers, and makes those that are enough for a batch.
    ///
    /// # Errors
    /// When an output cannot be made or written, and where the only picture cannot be read.
    pub fn take(&mut self, input: &Input, samples: Range<u32>) -> Result<()> {
        let read = self.reader.read(input).and_then(|picture| {
            self.check(&picture.degraded)?;
            Ok(picture)
        });
        match read {
            Ok(mut picture) => {
                if !self.order.extend.is_empty() && picture.given.flatten() {
                    let lost = "transparency and 16 bits, because it is extended";
                    picture.lost.push(lost.to_owned());
                }
                (self.tell)(News::Read(Seen::of(&input.path, &picture)))?;
                self.add(input, &picture, samples)
            }
            Err(error) => self.pass_over(input, error, samples),
        }
    }

    /// Steps of one pass over an image.
    fn steps(&self) -> u64 {
        self.network.steps(&self.order.sampling)
    }

    /// Refuses a picture that is or would become too large.
    fn check(&self, degraded: &Degraded) -> Result<()> {
        let (width, height) = degraded.source.dimensions();
        let extensions = &self.order.extend;
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

    fn add(&mut self, input: &Input, picture: &Picture, samples: Range<u32>) -> Result<()> {
        for sample in samples {
            let (degraded, key) = (picture.degraded.clone(), input.key.clone());
            let kept = Kept {
                path: input.path.clone(),
                given: picture.given.clone(),
                mark: self.order.mark.of(&input.key, &picture.digest, sample),
            };
            let item = Item { task: self.order.task, degraded, key, sample };
            self.pending.push((kept, item));
            if self.is_enough() {
                self.go()?;
            }
        }
        // Only panoramas of one size grow together.
        if self.order.extend.is_empty() { Ok(()) } else { self.go() }
    }

    fn is_enough(&self) -> bool {
        let sizes = || self.pending.iter().map(|(_, item)| item.degraded.source.dimensions());
        let pixels: u64 = sizes().map(|(w, h)| u64::from(w) * u64::from(h)).sum();
        let frames: u64 = match self.order.save_process {
            Some(form) => sizes().map(|size| form.bytes(size)).sum(),
            None => 0,
        };
        self.pending.len() >= self.network.batch()
            || pixels >= PENDING_PIXELS
            || frames >= PENDING_FRAMES
    }

    /// Goes on without a picture of a folder, and says why; the only one ends it all.
    fn pass_over(
        &mut self,
        input: &Input,
        error: anyhow::Error,
        samples: Range<u32>,
    ) -> Result<()> {
        if !self.order.several {
            return Err(error.context(input.path.display().to_string()));
        }
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        let (input, why) = (input.path.clone(), causes.join(": "));
        (self.tell)(News::PassedOver { input, why, outputs: samples.len() as u32 })
    }

    /// Restores what waits.
    pub fn go(&mut self) -> Result<()> {
        let (kept, items): (Vec<Kept>, Vec<Item>) = self.pending.drain(..).unzip();
        if items.is_empty() {
            return Ok(());
        }
        let outputs = match self.order.extend.is_empty() {
            true => self.restore(&items, &kept)?,
            false => self.extend(&items)?,
        };
        for ((item, kept), (image, process)) in items.into_iter().zip(kept).zip(outputs) {
            let output = names::output(&self.order.folder, &item.key, item.sample);
            let (width, height) = image.dimensions();
            let Kept { path, given, mark } = kept;
            let text = vec![(mark::KEYWORD.to_owned(), mark.text())];
            named::write(&output, &given.png(image, &item.degraded.mask, item.task, text)?)?;
            let (sample, seed) = (item.sample, self.order.seed);
            let made = Output { input: path, output, process, seed, sample, width, height };
            (self.tell)(News::Written(made))?;
        }
        Ok(())
    }

    fn restore(
        &mut self,
        items: &[Item],
        kept: &[Kept],
    ) -> Result<Vec<(RgbImage, Option<PathBuf>)>> {
        let sizes = items.iter().map(|item| item.degraded.source.dimensions()).collect();
        let mut recording = self.order.save_process.map(|form| Recording::new(form, sizes));
        let mut broken = Ok(());
        let (order, done) = (self.order, self.done);
        let (tell, see) = (&mut self.tell, &mut self.see);
        let restored = self.network.restore(items, order.seeded(), &mut |first, step| {
            let count = step.y.size().first().copied().unwrap_or(0).cast_unsigned();
            let before = done + first as u64 * step.total as u64;
            broken = tell(News::Made(before + count * (step.total - step.left) as u64));
            if let Some(recording) = recording.as_mut().filter(|_| broken.is_ok()) {
                broken = recording.see(first, step);
            }
            if let Some(see) = see.as_mut().filter(|_| broken.is_ok()) {
                broken = see(items, first, step);
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
                let path = names::process(&self.order.folder, &item.key, item.sample);
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
        let stripes = u64::from(extend::stripes(width, height, &self.order.extend, side));
        let more = (stripes.max(1) - 1) * items.len() as u64 * self.steps();
        (self.tell)(News::More(more))?;
        let order = self.order;
        let (done, tell) = (&mut self.done, &mut self.tell);
        let mut broken = Ok(());
        let mut see = |_: usize, step: &Step| {
            *done += step.y.size().first().copied().unwrap_or(0).cast_unsigned();
            broken = tell(News::Made(*done));
            if broken.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let extended =
            extend::extend(self.network, &mut panoramas, &order.extend, order.seeded(), &mut see);
        broken?;
        extended?;
        Ok(panoramas.into_iter().map(|panorama| (panorama.picture, None)).collect())
    }
}
