//! What the loader is measured against: decoding and resizing alone, of images that lie in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use pipeline::image::{Window, decode_region};
use pipeline::{Dataset, ImageSize, Result};

/// Bytes of images that are held.
const BYTES: usize = 256 << 20;

/// Some images of a dataset, spread over the whole of it.
pub struct Reference {
    images: Vec<bytes::Bytes>,
    size: ImageSize,
}

impl Reference {
    /// Reads the images.
    pub fn load(dataset: &Dataset, size: ImageSize) -> anyhow::Result<Self> {
        let mean = dataset.manifest().shards.iter().map(|shard| shard.bytes).sum::<u64>()
            / dataset.len().max(1);
        let step = dataset.len().div_ceil((BYTES as u64 / mean.max(1)).max(1)).max(1);
        let indices = (0..dataset.len()).step_by(step as usize);
        let images =
            indices.map(|index| Ok(dataset.photograph(index)?.1)).collect::<Result<_>>()?;
        Ok(Self { images, size })
    }

    /// Images a second on this number of threads.
    pub fn images_per_second(&self, threads: usize, span: Duration) -> anyhow::Result<f64> {
        let next = AtomicUsize::new(0);
        let started = Instant::now();
        let work = || -> Result<usize> {
            let mut count = 0;
            while started.elapsed() < span {
                let image = &self.images[next.fetch_add(1, Ordering::Relaxed) % self.images.len()];
                let region = decode_region(image, self.size, Window::CENTER, false)?;
                std::hint::black_box(region.cut()?);
                count += 1;
            }
            Ok(count)
        };
        let counts = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().ok()).collect::<Option<Vec<_>>>()
        });
        let counts = counts.context("the decoder panicked, `pipeline verify` finds the image")?;
        let count: usize = counts.into_iter().sum::<Result<usize>>()?;
        Ok(count as f64 / started.elapsed().as_secs_f64())
    }
}
