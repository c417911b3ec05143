//! What is looked at on the way with the first EMA weights: a loss on fixed images with
//! fixed noise, and fixed images restored in few steps. Neither depends on the run's seed, so that
//! runs can be compared.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, Result};
use diffusion::noise::{Stream as Noise, sample_keys};
use diffusion::{Method, SamplingConfig, UNet, noise};
use image::{Rgb, RgbImage};
use pictures::{Sheet, from_batch};
use pipeline::{Batch, Crop, DataConfig, DatasetRef, Loader, Stream};
use registry::PicturePart;
use storage::Place;
use tch::{Kind, Tensor};

use crate::metrics::{Metrics, losses};
use crate::ranks::Ranks;
use crate::ranks::tally::Tally;
use crate::train_state::TrainState;
use crate::watch::{LossDownload, MicroBatch};
use contracts::Experiment;
use contracts::experiment::TrainConfig;

/// The seed of images, degradations and noise.
const SEED: u64 = 1;

/// Most bytes of fixed images that stay in memory; more are read again each time.
const KEPT: u64 = 1 << 29;

/// The first images of a dataset's order, in the middle of each photograph, unmirrored. However many
/// they are, they take a bounded part of the memory.
struct Fixed {
    data: DataConfig,
    stream: Stream,
    /// Batches of this rank.
    batches: usize,
    /// All batches where they are few, else none.
    kept: Vec<Batch>,
}

impl Fixed {
    fn new(
        experiment: &Experiment,
        dataset: Option<&Place>,
        images: usize,
        ranks: Ranks,
    ) -> Result<Self> {
        let mut fixed = Self::planned(experiment, dataset, images, ranks);
        if fixed.is_kept() {
            let mut kept = Vec::with_capacity(fixed.batches);
            fixed.read(|batch| {
                kept.push(batch);
                Ok(None)
            })?;
            fixed.kept = kept;
        } else if fixed.batches > 0 {
            // What is wrong with the dataset shows before the first step.
            Loader::start(&fixed.data, fixed.stream)?.next_batch()?;
        }
        Ok(fixed)
    }

    /// Nothing is read yet.
    fn planned(
        experiment: &Experiment,
        dataset: Option<&Place>,
        images: usize,
        ranks: Ranks,
    ) -> Self {
        let mut data = DataConfig { crop: Crop::Center, flip: false, ..experiment.data.clone() };
        if let Some(place) = dataset {
            data.datasets = vec![DatasetRef { uri: place.clone(), weight: 1.0 }];
        }
        let batch_size = images.min(experiment.train.at_once());
        // The ranks take whole batches in turn, the same ones as one process would.
        let (rank, world_size) = (ranks.rank(), ranks.count());
        let stream = Stream {
            seed: SEED,
            batch_size: batch_size * world_size,
            first_batch: 0,
            rank,
            world_size,
        };
        let all = images.div_ceil(batch_size);
        let batches = all.saturating_sub(rank).div_ceil(world_size);
        Self { data, stream, batches, kept: Vec::new() }
    }

    fn batch_bytes(&self) -> u64 {
        // Two images and a mask.
        7 * self.data.image_size.pixels() as u64 * self.each_batch() as u64
    }

    /// Images of a batch.
    fn each_batch(&self) -> usize {
        self.stream.batch_size / self.stream.world_size
    }

    fn is_kept(&self) -> bool {
        self.batch_bytes().saturating_mul(self.batches as u64) <= KEPT
    }

    /// Bytes of the host's memory: all of them where they are kept, else the batches of a loader.
    fn bytes(&self) -> u64 {
        let batches = if self.is_kept() { self.batches } else { self.data.prefetch + 1 };
        self.batch_bytes() * batches as u64
    }

    /// Every batch in turn, the same ones each time.
    fn each(&self, mut body: impl FnMut(&Batch) -> Result<()>) -> Result<()> {
        if !self.kept.is_empty() {
            return self.kept.iter().try_for_each(body);
        }
        self.read(|batch| body(&batch).map(|()| Some(batch)))
    }

    /// Reads every batch; what `body` gives back lends its memory to a later one.
    fn read(&self, mut body: impl FnMut(Batch) -> Result<Option<Batch>>) -> Result<()> {
        if self.batches == 0 {
            return Ok(());
        }
        let mut loader = Loader::start(&self.data, self.stream)?;
        for _ in 0..self.batches {
            if let Some(used) = body(loader.next_batch()?)? {
                loader.reuse(used);
            }
        }
        Ok(())
    }
}

/// Bytes of the host's memory that the fixed images of validation and previews take.
pub fn host_bytes(experiment: &Experiment) -> u64 {
    let train = &experiment.train;
    let of = |images: usize| Fixed::planned(experiment, None, images, Ranks::ALONE).bytes();
    train.validation.as_ref().map_or(0, |config| of(config.images))
        + train.preview.as_ref().map_or(0, |config| of(config.images))
}

/// The loss on fixed images; their number is rounded up to whole batches.
pub struct Validation {
    every: u64,
    last: u64,
    noise: bool,
    images: Fixed,
    /// Images of all ranks.
    all: usize,
}

impl Validation {
    /// The validation that the configuration asks for, if it does.
    ///
    /// # Errors
    /// When its dataset cannot be read.
    pub fn new(experiment: &Experiment, ranks: Ranks) -> Result<Option<Self>> {
        let Some(config) = &experiment.train.validation else { return Ok(None) };
        let images = Fixed::new(experiment, Some(&config.dataset), config.images, ranks)
            .with_context(|| format!("train.validation: `{}` cannot be used", config.dataset))?;
        let all = config.images.next_multiple_of(images.each_batch());
        Ok(Some(Self {
            every: config.every,
            last: experiment.train.steps,
            noise: experiment.diffusion.kind == diffusion::Formulation::Diffusion,
            images,
            all,
        }))
    }

    /// Whether it is due at this step.
    pub fn due(&self, step: u64) -> bool {
        step == self.last || step.is_multiple_of(self.every)
    }

    /// The losses as in training, their names below `validation/`. Of several ranks each takes its part of the
    /// images, and all know all losses.
    ///
    /// # Errors
    /// When memory runs out, an image cannot be read, or a rank is lost.
    pub fn run(&self, state: &TrainState, ranks: Ranks) -> Result<Metrics> {
        let mut micro_batches = Vec::with_capacity(self.images.batches);
        state.with_weights(&state.average()?, |network| {
            self.images.each(|batch| {
                micro_batches.push(self.micro_batch(state, network, batch)?);
                Ok(())
            })
        })?;
        let norm = Tensor::f_zeros([1], (Kind::Float, state.device()))?;
        let download = if ranks.count() == 1 {
            LossDownload::new(state.step(), micro_batches, &norm)?
        } else {
            let tally = Tally { images: self.all, ranks: ranks.count() };
            let tail = Tensor::f_zeros([tally.len() as i64], (Kind::Float, state.device()))?;
            let each = self.images.each_batch();
            for (number, images) in micro_batches.iter().enumerate() {
                let place = each * (number * ranks.count() + ranks.rank());
                tally.write_losses(&tail, place, images)?;
                tally.write_given(&tail, place, images)?;
            }
            ranks.sum(&tail)?;
            LossDownload::of_ranks(state.step(), tally, &tail, &norm, 0, Vec::new())?
        };
        let metrics = losses(&download.read()?.images, state, self.noise);
        Ok(metrics.into_iter().map(|(name, value)| (format!("validation/{name}"), value)).collect())
    }

    fn micro_batch(&self, state: &TrainState, network: &UNet, batch: &Batch) -> Result<MicroBatch> {
        let images = state.images(batch, 0..batch.size)?;
        let keys = sample_keys(SEED, Noise::Validation, &batch.positions);
        let losses = state.objective().loss(network, &images, &keys, false)?;
        Ok(MicroBatch::of(losses, batch, 0..batch.size))
    }
}

/// Fixed images, restored on the way.
pub struct Preview {
    steps: u32,
    images: Fixed,
    folder: PathBuf,
    /// What is given was recorded by this attempt.
    given: Cell<bool>,
}

/// What a preview shows.
pub struct Drawn {
    /// Its contact sheet.
    sheet: Sheet,
    step: u64,
    /// Each picture by itself.
    pub pictures: Vec<Shown>,
}

/// A picture of a preview.
pub struct Shown {
    /// What it shows.
    pub part: PicturePart,
    /// Which of the fixed images, from 0.
    pub input: usize,
    /// The task.
    pub task: String,
    /// The key of the photograph.
    pub key: String,
    /// Its pixels.
    pub pixels: RgbImage,
}

impl Preview {
    /// The preview that the configuration asks for, if it does; its pictures go into `folder`.
    ///
    /// # Errors
    /// When its dataset cannot be read.
    pub fn new(experiment: &Experiment, folder: PathBuf) -> Result<Option<Self>> {
        let train = &experiment.train;
        let Some(config) = &train.preview else { return Ok(None) };
        let validation = train.validation.as_ref().map(|validation| &validation.dataset);
        let dataset = config.dataset.as_ref().or(validation);
        let images = Fixed::new(experiment, dataset, config.images, Ranks::ALONE)
            .context("train.preview: its images cannot be read")?;
        let steps = match experiment.diffusion.kind {
            diffusion::Formulation::Diffusion => config.steps,
            diffusion::Formulation::Regression => 1,
        };
        Ok(Some(Self { steps, images, folder, given: Cell::new(false) }))
    }

    /// Whether pictures are due at this step.
    pub fn due(config: &TrainConfig, step: u64) -> bool {
        let every = config.preview.as_ref().map(|preview| preview.every);
        every.is_some_and(|every| step == config.steps || step.is_multiple_of(every))
    }

    /// Restores the fixed images with the EMA weights `average`. What is given is among the pictures until
    /// [`Preview::recorded`] says that it is recorded.
    ///
    /// # Errors
    /// When memory runs out or an image cannot be read.
    pub fn draw(
        &self,
        state: &TrainState,
        average: &[Tensor],
        experiment: &Experiment,
    ) -> Result<Drawn> {
        let sampling = SamplingConfig {
            method: Method::Ddim,
            steps: Some(self.steps),
            ..SamplingConfig::default()
        };
        let mut sheet = Sheet::new(&["source", "output", "photograph"]);
        let mut pictures: Vec<Shown> = Vec::new();
        let mut first = 0;
        let step = state.step();
        sheet.title(format!("{}, step {step}, {} steps", experiment.name, self.steps));
        self.images.each(|batch| {
            let images = state.images(batch, 0..batch.size)?;
            let keys: Vec<u64> =
                batch.keys.iter().map(|key| noise::image_key(SEED, key, 0)).collect();
            let restored = state.with_weights(average, |network| {
                let config = &experiment.diffusion;
                let mut on_step = |_: &diffusion::reverse::Step| ControlFlow::Continue(());
                Ok(diffusion::restore(
                    network.into(),
                    config,
                    &sampling,
                    &images,
                    &keys,
                    &mut on_step,
                )?)
            })?;
            let outputs = diffusion::to_u8(&restored)?;
            let size = (batch.height, batch.width);
            for image in 0..batch.size {
                let row = [&batch.source, &outputs, &batch.target]
                    .map(|images| from_batch(images, image, size));
                let mut show = |part, pixels: RgbImage| {
                    let (task, key) = (batch.tasks[image].to_string(), batch.keys[image].clone());
                    pictures.push(Shown { part, input: first + image, task, key, pixels });
                };
                show(PicturePart::Output, row[1].clone());
                if !self.given.get() {
                    show(PicturePart::Source, row[0].clone());
                    show(PicturePart::Reference, row[2].clone());
                    // A mask of all pixels says nothing.
                    if let Some(mask) = mask(&batch.mask, image, size) {
                        show(PicturePart::Mask, mask);
                    }
                }
                sheet.row(format!("{}\n{}", batch.tasks[image], batch.keys[image]), row.into());
            }
            first += batch.size;
            Ok(())
        })?;
        Ok(Drawn { sheet, step, pictures })
    }

    /// Says that what is given is recorded: it is the same at every step.
    pub fn recorded(&self) {
        self.given.set(true);
    }

    /// Writes the contact sheet `step-00001000.png`; many images are more pages, `step-00001000-2.png` and so on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, drawn: &Drawn) -> Result<Vec<PathBuf>> {
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("{} cannot be made", self.folder.display()))?;
        let first = self.folder.join(name(drawn.step));
        let pages = drawn.sheet.png_pages()?.into_iter().enumerate().map(|(number, page)| {
            let path = pictures::page(&first, number);
            storage::atomic::write(&path, &page)?;
            Ok(path)
        });
        pages.collect()
    }
}

/// Whether there is no picture because the network gives values that are NaN or infinite.
pub fn is_lost(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(diffusion::Error::LostImage { .. }))
}

/// The mask of an image `[B,H,W]`, white where pixels are to be generated; none where that is everywhere or nowhere.
fn mask(masks: &[u8], image: usize, (height, width): (usize, usize)) -> Option<RgbImage> {
    let pixels = height * width;
    let mask = masks.get(pixels * image..pixels * (image + 1))?;
    let first = mask.first()?;
    if mask.iter().all(|pixel| pixel == first) {
        return None;
    }
    Some(RgbImage::from_fn(width as u32, height as u32, |x, y| {
        Rgb([mask[y as usize * width + x as usize].min(1) * 255; 3])
    }))
}

/// The file name of the first page of a step.
fn name(step: u64) -> String {
    format!("step-{step:08}.png")
}

/// Takes pages that lie here, in one folder, to where the run's things are kept.
///
/// # Errors
/// When the place cannot be written.
pub fn publish(pages: &[PathBuf], place: &Place) -> Result<()> {
    let Some(folder) = pages.first().and_then(|page| page.parent()) else { return Ok(()) };
    let name = |page: &PathBuf| page.file_name().map(|name| name.to_string_lossy().into_owned());
    let files: Vec<String> = pages.iter().filter_map(name).collect();
    Ok(storage::folder::publish(folder, &files, &place.join("previews")?)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn experiment(dataset: &str, side: u32) -> Experiment {
        Experiment::from_json(&json!({
            "name": "e",
            "data": {
                "datasets": [{ "uri": dataset }],
                "tasks": { "inpainting": 1.0 },
                "image_size": side,
            },
            "train": { "batch_size": 4, "validation": { "dataset": dataset, "every": 1 } },
        }))
        .unwrap()
    }

    #[test]
    fn images_that_are_read_each_time_are_those_that_would_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        let photos = folder.path().join("photos");
        std::fs::create_dir(&photos).unwrap();
        for number in 0..6 {
            let name = photos.join(format!("{number}.png"));
            pipeline::scenes::scene(number, 40).save(name).unwrap();
        }
        let uri = folder.path().join("dataset").to_str().unwrap().to_owned();
        let out = Place::folder(&uri).unwrap();
        let options = pipeline::ingest::IngestOptions::new(vec![photos], out);
        pipeline::ingest::ingest(&options, &|_| {}).unwrap();

        let experiment = experiment(&uri, 32);
        let kept = Fixed::new(&experiment, None, 10, Ranks::ALONE).unwrap();
        assert_eq!((kept.kept.len(), kept.bytes()), (3, 3 * 4 * 7 * 32 * 32));
        let read = Fixed::planned(&experiment, None, 10, Ranks::ALONE);
        for _ in 0..2 {
            let mut expected = kept.kept.iter();
            read.each(|batch| {
                assert!(Some(batch) == expected.next());
                Ok(())
            })
            .unwrap();
            assert!(expected.next().is_none());
        }
    }

    #[test]
    fn any_number_of_images_takes_a_bounded_part_of_the_memory() {
        let mut experiment = experiment("d", 256);
        for (images, bytes) in [(1000, 250 * 4), (100_000, 4 * (4 + 1))] {
            experiment.train.validation.as_mut().unwrap().images = images;
            assert_eq!(host_bytes(&experiment), bytes * 7 * 256 * 256);
        }
    }
}
