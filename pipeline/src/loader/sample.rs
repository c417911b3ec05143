//! One sample of a stream: read, decode, crop, flip, degrade. Everything random in it is drawn from
//! (seed, epoch, dataset, row).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use image::RgbImage;

use crate::image::Window;
use crate::order::Order;
use crate::random::{Rng, key};
use crate::{Crop, DataConfig, Dataset, Degraded, Error, Result, Task, degrade};

/// A degraded photograph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Key of the record.
    pub key: String,
    /// The task that was drawn for it.
    pub task: Task,
    /// The photograph, square.
    pub target: RgbImage,
    /// Source and mask.
    pub degraded: Degraded,
}

/// Time in each stage, over all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Reading the page and the key.
    pub read: Duration,
    /// Decoding.
    pub decode: Duration,
    /// Scaling, cropping, flipping.
    pub resize: Duration,
    /// Degrading.
    pub degrade: Duration,
}

pub(super) struct Sampler {
    datasets: Vec<Dataset>,
    order: Order,
    config: DataConfig,
    seed: u64,
    nanos: [AtomicU64; 4],
}

impl Sampler {
    pub(super) fn open(config: &DataConfig, seed: u64) -> Result<Self> {
        let mut datasets = Vec::new();
        for reference in config.datasets.iter().filter(|reference| reference.weight > 0.0) {
            let dataset = Dataset::open(&reference.uri)?;
            if dataset.is_empty() {
                return Err(Error::dataset(dataset.store().uri(), "holds no images"));
            }
            datasets.push((dataset, reference.weight));
        }
        let sizes: Vec<_> =
            datasets.iter().map(|(dataset, weight)| (dataset.len(), *weight)).collect();
        Ok(Self {
            order: Order::new(seed, &sizes),
            datasets: datasets.into_iter().map(|(dataset, _)| dataset).collect(),
            config: config.clone(),
            seed,
            nanos: Default::default(),
        })
    }

    pub(super) fn side(&self) -> usize {
        self.config.image_size as usize
    }

    pub(super) fn epoch_len(&self) -> u64 {
        self.datasets.first().map_or(0, Dataset::len)
    }

    pub(super) fn stages(&self) -> Stages {
        let [read, decode, resize, degrade] =
            [0, 1, 2, 3].map(|i| Duration::from_nanos(self.nanos[i].load(Ordering::Relaxed)));
        Stages { read, decode, resize, degrade }
    }

    /// The sample at a position of the stream.
    pub(super) fn sample(&self, position: u64) -> Result<Sample> {
        let place = self.order.place(position);
        let dataset = &self.datasets[place.dataset];
        let own = key(&[self.seed, place.epoch, place.dataset as u64, place.index]);
        let mut clock = Instant::now();
        let mut lap = |stage: usize| {
            let now = Instant::now();
            let nanos = now.duration_since(clock).as_nanos() as u64;
            self.nanos[stage].fetch_add(nanos, Ordering::Relaxed);
            clock = now;
        };

        let bytes = dataset.image(place.index)?;
        let name = dataset.key(place.index)?;
        lap(0);
        let damaged = |error| dataset.damaged(place.index, &error);
        let image = crate::image::decode(&bytes).map_err(damaged)?;
        lap(1);
        let target = self.crop(image, own).map_err(damaged)?;
        lap(2);
        let tasks = &self.config.tasks;
        let choice = Rng::new(key(&[own, 1])).weighted(tasks.values().copied());
        let task = tasks.keys().copied().nth(choice).unwrap_or(Task::Colorization);
        let degraded = degrade::train(task, &self.config.degradation, &target, key(&[own, 2]))?;
        lap(3);
        Ok(Sample { key: name, task, target, degraded })
    }

    fn crop(&self, image: RgbImage, own: u64) -> Result<RgbImage> {
        let rng = &mut Rng::new(key(&[own, 0]));
        let window = match self.config.crop {
            Crop::Center => Window::CENTER,
            Crop::Random => Window { x: rng.unit(), y: rng.unit() },
        };
        let side = self.config.image_size;
        let mut image = if image.dimensions() == (side, side) {
            image
        } else {
            crate::image::fit(&image, side, window)?
        };
        if self.config.flip && rng.chance(0.5) {
            image::imageops::flip_horizontal_in_place(&mut image);
        }
        Ok(image)
    }
}
