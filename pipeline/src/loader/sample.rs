//! One sample of a stream: read, decode, crop, flip, degrade. Everything random in it is drawn from
//! (seed, epoch, dataset, row).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use image::RgbImage;

use crate::image::{Window, decode_region, quad};
use crate::order::{Order, SampleRef, Shuffle};
use crate::{
    Crop, DataConfig, Dataset, Degraded, Error, ImageSize, OnBadSample, Result, Task, degrade,
};
use random::{Rng, key};
use storage::Ranges;

/// Substitutes that are tried for one bad image: where so many in a row are bad too, the dataset is
/// lost rather than damaged.
const SUBSTITUTES: u64 = 64;

/// A degraded photograph.
pub(super) struct Sample {
    /// Key of the record.
    pub(super) key: String,
    /// The task that was drawn for it.
    pub(super) task: Task,
    /// The photograph, of the configured size.
    pub(super) target: RgbImage,
    /// Source and mask.
    pub(super) degraded: Degraded,
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

/// Makes samples of the configured streams; shared by all threads.
pub(super) struct Sampler {
    /// Those of the configuration, in its order.
    datasets: Vec<Dataset>,
    order: Order,
    /// Without the datasets of weight 0.
    config: DataConfig,
    seed: u64,
    nanos: [AtomicU64; 4],
}

impl Sampler {
    pub(super) fn open(config: &DataConfig, seed: u64) -> Result<Self> {
        let mut config = config.clone();
        let total: f64 = config.datasets.iter().map(|reference| reference.weight).sum();
        config.datasets.retain(|reference| reference.weight > 0.0);
        let mut datasets = Vec::new();
        for reference in &config.datasets {
            let dataset = Dataset::open(&reference.uri)?;
            let found = dataset.digest();
            if let Some(expected) = config.expected.get(&reference.uri)
                && expected != found
            {
                let message = format!(
                    "was made anew while it was in use: its manifest was sha256 {expected}, and is \
                     sha256 {found}"
                );
                return Err(Error::Refused { place: reference.uri.to_string(), message });
            }
            if dataset.is_empty() {
                return Err(Error::dataset(&reference.uri, "holds no images"));
            }
            if reference.weight / total < Order::LEAST_SHARE {
                let allowed = format!("0 or at least {} of all weights", Order::LEAST_SHARE);
                return Err(Error::config("data.datasets.weight", reference.weight, allowed));
            }
            datasets.push(dataset);
        }
        let groups: Vec<_> = datasets.iter().map(Dataset::groups).collect();
        let weights = config.datasets.iter().map(|reference| reference.weight);
        let streams: Vec<_> = groups.iter().map(Vec::as_slice).zip(weights).collect();
        let order = Order::new(seed, config.shuffle, config.window, &streams);
        Ok(Self { datasets, order, config, seed, nanos: Default::default() })
    }

    pub(super) fn size(&self) -> ImageSize {
        self.config.image_size
    }

    pub(super) fn shuffle(&self) -> Shuffle {
        self.config.shuffle
    }

    pub(super) fn window(&self) -> usize {
        self.config.window
    }

    pub(super) fn datasets(&self) -> &[Dataset] {
        &self.datasets
    }

    /// Which image is at a position of the stream.
    pub(super) fn sample_ref(&self, position: u64) -> SampleRef {
        self.order.sample(position)
    }

    pub(super) fn epoch_len(&self) -> u64 {
        self.datasets.first().map_or(0, Dataset::len)
    }

    pub(super) fn stages(&self) -> Stages {
        let [read, decode, resize, degrade] =
            [0, 1, 2, 3].map(|i| Duration::from_nanos(self.nanos[i].load(Ordering::Relaxed)));
        Stages { read, decode, resize, degrade }
    }

    /// The sample at a position of the stream, of what was read ahead for it where something was. Bad
    /// images that the configuration passes over go to `bad`; a store that does not answer and open files
    /// that run out are not the image's fault and never passed over.
    pub(super) fn sample(
        &self,
        position: u64,
        ahead: Option<Ranges>,
        bad: &mut Vec<Error>,
    ) -> Result<Sample> {
        let skips =
            |error: &Error| self.config.on_bad_sample == OnBadSample::Skip && !error.is_shortage();
        let mut error = match self.at(self.order.sample(position), ahead) {
            Err(error) if skips(&error) => error,
            result => return result,
        };
        for attempt in 1..=SUBSTITUTES {
            let sample = self.order.substitute(position, attempt);
            bad.push(error);
            error = match self.at(sample, None) {
                Err(error) if skips(&error) => error,
                result => return result,
            };
        }
        let uri = &self.config.datasets[self.order.sample(position).dataset].uri;
        let message = format!(
            "{SUBSTITUTES} images in place of a bad one are bad too, `pipeline verify` tells how many are; the last: {error}"
        );
        Err(Error::dataset(uri, message))
    }

    /// The sample; a decoder that panics has met a bad image.
    fn at(&self, sample: SampleRef, ahead: Option<Ranges>) -> Result<Sample> {
        caught::panics(|| self.make(sample, ahead)).unwrap_or_else(|_| {
            let panicked = Error::Image("damaged: the decoder panicked".into());
            Err(self.datasets[sample.dataset].damaged(sample.index, &panicked))
        })
    }

    fn make(&self, sample: SampleRef, ahead: Option<Ranges>) -> Result<Sample> {
        let dataset = &self.datasets[sample.dataset];
        let own = key(&[self.seed, sample.epoch, sample.dataset as u64, sample.index]);
        let mut clock = Instant::now();
        let mut lap = |stage: usize| {
            let now = Instant::now();
            let nanos = now.duration_since(clock).as_nanos() as u64;
            self.nanos[stage].fetch_add(nanos, Ordering::Relaxed);
            clock = now;
        };

        // What is wrong with what was read ahead shows, and is told, where the image itself is read.
        let (name, bytes) = ahead
            .and_then(|source| dataset.photograph_of(sample.index, &source).ok())
            .map_or_else(|| dataset.photograph(sample.index), Ok)?;
        lap(0);
        let damaged = |error| dataset.damaged(sample.index, &error);
        let View { window, mirrored } = self.view(own);
        let (size, fraction) = (self.config.image_size, self.config.scaled_decoding);
        let region = decode_region(&bytes, size, window, fraction).map_err(damaged)?;
        lap(1);
        let mut target = region.cut().map_err(damaged)?;
        if mirrored {
            mirror(&mut target);
        }
        lap(2);
        let tasks = &self.config.tasks;
        let choice = Rng::new(key(&[own, 1])).weighted(tasks.values().copied());
        let task = tasks.keys().copied().nth(choice).unwrap_or(Task::Colorization);
        let degraded = degrade::train(task, &self.config.degradation, &target, key(&[own, 2]))?;
        lap(3);
        Ok(Sample { key: name, task, target, degraded })
    }

    /// How the photograph is looked at.
    fn view(&self, own: u64) -> View {
        let rng = &mut Rng::new(key(&[own, 0]));
        let window = match self.config.crop {
            Crop::Center => Window::CENTER,
            Crop::Random => Window { x: rng.unit(), y: rng.unit() },
        };
        View { window, mirrored: self.config.flip && rng.chance(0.5) }
    }
}

/// Which part of a photograph is taken, and which way round.
struct View {
    window: Window,
    mirrored: bool,
}

/// Turns the image left to right.
fn mirror(image: &mut RgbImage) {
    let length = 3 * image.width() as usize;
    let mut copy = vec![0; length];
    for row in image.chunks_exact_mut(length) {
        copy.copy_from_slice(row);
        let (quads, last) = copy.as_chunks::<12>();
        let (first, to) = row.as_rchunks_mut::<12>();
        for (to, quad) in to.iter_mut().rev().zip(quads) {
            let [a, b, c] = quad::words(quad);
            let words = [
                (c >> 8) | ((b & 0xff_0000) << 8),
                (b >> 24) | ((c & 0xff) << 8) | ((a & 0xff00_0000) >> 8) | (b << 24),
                ((b >> 8) & 0xff) | (a << 8),
            ];
            quad::set(to, words);
        }
        let last = last.as_chunks::<3>().0;
        for (to, pixel) in first.as_chunks_mut::<3>().0.iter_mut().rev().zip(last) {
            *to = *pixel;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_turns_left_to_right() {
        for width in [1, 2, 3, 4, 5, 8, 31, 64] {
            let image =
                RgbImage::from_fn(width, 3, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
            let mut turned = image.clone();
            mirror(&mut turned);
            assert!(turned == image::imageops::flip_horizontal(&image), "{width}");
            mirror(&mut turned);
            assert!(turned == image);
        }
    }
}
