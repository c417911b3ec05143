//! What is looked at on the way with the weights of the first average: a loss on fixed images with
//! fixed noise, and fixed images restored in few steps. Neither depends on the run's seed, so that
//! runs can be compared.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use diffusion::noise::{Stream as Noise, sample_keys};
use diffusion::{Method, SamplingConfig, UNet, noise};
use pipeline::sheet::{Sheet, picture};
use pipeline::{Batch, Crop, DataConfig, DatasetRef, Loader, Stream};
use storage::Place;
use tch::{Kind, Tensor};

use crate::learner::Learner;
use crate::report::{Numbers, losses};
use crate::watch::{Cost, Part};
use contracts::Experiment;

/// The seed of images, degradations and noise.
const SEED: u64 = 1;

/// The first images of a dataset's order, in the middle of each photograph, unmirrored.
fn fixed(experiment: &Experiment, dataset: Option<&Place>, images: usize) -> Result<Vec<Batch>> {
    let mut data = DataConfig { crop: Crop::Center, flip: false, ..experiment.data.clone() };
    if let Some(place) = dataset {
        data.datasets = vec![DatasetRef { uri: place.clone(), weight: 1.0 }];
    }
    let batch_size = images.min(experiment.train.at_once());
    let stream = Stream { seed: SEED, batch_size, first_batch: 0, rank: 0, world_size: 1 };
    let mut loader = Loader::start(&data, stream)?;
    (0..images.div_ceil(batch_size)).map(|_| Ok(loader.next_batch()?)).collect()
}

/// The loss on fixed images; their number is rounded up to whole batches.
pub struct Validation {
    every: u64,
    last: u64,
    noise: bool,
    batches: Vec<Batch>,
}

impl Validation {
    /// The validation that the configuration asks for, if it does.
    ///
    /// # Errors
    /// When its dataset cannot be read.
    pub fn new(experiment: &Experiment) -> Result<Option<Self>> {
        let Some(config) = &experiment.train.validation else { return Ok(None) };
        let batches = fixed(experiment, Some(&config.dataset), config.images)
            .with_context(|| format!("train.validation: `{}` cannot be used", config.dataset))?;
        Ok(Some(Self {
            every: config.every,
            last: experiment.train.steps,
            noise: experiment.diffusion.kind == diffusion::Kind::Diffusion,
            batches,
        }))
    }

    /// Whether it is due at this step.
    pub fn due(&self, step: u64) -> bool {
        step == self.last || step.is_multiple_of(self.every)
    }

    /// The losses as in training, their names below `validation/`.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn run(&self, learner: &Learner) -> Result<Numbers> {
        let parts = learner.with_average(|network| {
            self.batches.iter().map(|batch| self.part(learner, network, batch)).collect()
        })?;
        let norm = Tensor::f_zeros([1], (Kind::Float, learner.device()))?;
        let costs = Cost::new(learner.step(), parts, &norm)?.read()?;
        let numbers = losses(&costs.images, learner, self.noise);
        Ok(numbers.into_iter().map(|(name, value)| (format!("validation/{name}"), value)).collect())
    }

    fn part(&self, learner: &Learner, network: &UNet, batch: &Batch) -> Result<Part> {
        let images = learner.images(batch, 0..batch.size)?;
        let keys = sample_keys(SEED, Noise::Validation, &batch.positions);
        let losses = learner.objective().loss(network, &images, &keys, false)?;
        Ok(Part::of(losses, batch, 0..batch.size))
    }
}

/// Fixed images, restored on the way.
pub struct Preview {
    every: u64,
    last: u64,
    steps: u32,
    batches: Vec<Batch>,
    folder: PathBuf,
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
        let batches = fixed(experiment, dataset, config.images)
            .context("train.preview: its images cannot be read")?;
        let steps = match experiment.diffusion.kind {
            diffusion::Kind::Diffusion => config.steps,
            diffusion::Kind::Regression => 1,
        };
        Ok(Some(Self { every: config.every, last: train.steps, steps, batches, folder }))
    }

    /// Whether it is due at this step.
    pub fn due(&self, step: u64) -> bool {
        step == self.last || step.is_multiple_of(self.every)
    }

    /// Draws `step-00001000.png`: what is given, what comes out, what was to come out.
    ///
    /// # Errors
    /// When memory runs out or the picture cannot be written.
    pub fn draw(&self, learner: &Learner, experiment: &Experiment) -> Result<PathBuf> {
        let sampling = SamplingConfig {
            method: Method::Ddim,
            steps: Some(self.steps),
            ..SamplingConfig::default()
        };
        let mut sheet = Sheet::new(&["source", "output", "photograph"]);
        let step = learner.step();
        sheet.title(format!("{}, step {step}, {} steps", experiment.name, self.steps));
        for batch in &self.batches {
            let images = learner.images(batch, 0..batch.size)?;
            let keys: Vec<u64> =
                batch.keys.iter().map(|key| noise::image_key(SEED, key, 0)).collect();
            let restored = learner.with_average(|network| {
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
                let pictures = [&batch.source, &outputs, &batch.target]
                    .map(|planes| picture(planes, image, size));
                sheet
                    .row(format!("{}\n{}", batch.tasks[image], batch.keys[image]), pictures.into());
            }
        }
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("{} cannot be made", self.folder.display()))?;
        let path = self.folder.join(name(step));
        sheet.write_png(&path)?;
        Ok(path)
    }
}

/// The file name of the picture of a step.
pub fn name(step: u64) -> String {
    format!("step-{step:08}.png")
}

/// Takes a picture that lies here to where the run's things are kept.
///
/// # Errors
/// When the place cannot be written.
pub fn publish(picture: &Path, place: &Place) -> Result<()> {
    let folder = picture.parent().unwrap_or(Path::new("."));
    let file = picture.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(storage::folder::publish(folder, &[file], &place.join("previews")?)?)
}
