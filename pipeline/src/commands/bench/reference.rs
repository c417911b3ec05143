//! What the loader is measured against: decoding and resizing alone, of images that lie in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use pipeline::image::{Window, decode_region};
use pipeline::{Dataset, ImageSize, Result};

/// Bytes of images that are held.
const BYTES: u64 = 256 << 20;
/// Threads that read them where they are far away.
const READERS: usize = 32;

/// Some images of a dataset, spread over the whole of it.
pub struct Reference {
    images: Vec<bytes::Bytes>,
    size: ImageSize,
}

impl Reference {
    /// Reads the images, several at once where they are far away.
    pub fn load(datasets: &[Dataset], size: ImageSize) -> anyhow::Result<Self> {
        let mut images = Vec::new();
        for dataset in datasets {
            let mean = dataset.manifest().shards.iter().map(|shard| shard.bytes).sum::<u64>()
                / dataset.manifest().shards.iter().map(|shard| shard.rows).sum::<u64>().max(1);
            let most = (BYTES / datasets.len() as u64 / mean.max(1)).max(1);
            let step = dataset.len().div_ceil(most).max(1) as usize;
            let indices: Vec<u64> = (0..dataset.len()).step_by(step).collect();
            let threads = if dataset.store().is_remote() { READERS } else { 1 };
            let each = indices.len().div_ceil(threads).max(1);
            let read = |indices: &[u64]| {
                let read = indices.iter().map(|&index| Ok(dataset.photograph(index)?.1));
                read.collect::<Result<Vec<_>>>()
            };
            let parts = std::thread::scope(|scope| {
                let parts = indices.chunks(each).map(|indices| scope.spawn(move || read(indices)));
                let parts: Vec<_> = parts.collect();
                parts.into_iter().map(|part| part.join().ok()).collect::<Option<Vec<_>>>()
            });
            for part in parts.context("a thread that reads panicked")? {
                images.append(&mut part?);
            }
        }
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
