//! The loader: threads read, decode, crop, flip and degrade ahead of the consumer; batches come out
//! in order.
//!
//! Always holds: global batch b is positions bB..(b+1)B of the stream and a rank takes its slice of
//! it, so that the stream is the same for any number of threads and ranks and from any starting
//! point. At most `prefetch` batches exist ahead of the consumer, whatever its pace. Nothing bad is
//! passed over unless the configuration says so, and then it is counted. Dropping the loader ends its
//! threads.

mod ahead;
mod batch;
mod queue;
mod sample;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use batch::Batch;
use queue::Queue;
use sample::Sampler;
pub use sample::Stages;

use crate::{DataConfig, Error, Result};

/// Errors of bad images that are kept for a report.
const KEPT_ERRORS: usize = 8;

/// Which part of which stream is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Seed of order and degradations.
    pub seed: u64,
    /// Size of the global batch, over all ranks.
    pub batch_size: usize,
    /// Number of the first batch.
    pub first_batch: u64,
    /// This rank.
    pub rank: usize,
    /// Number of ranks; the first `batch_size % world_size` ranks take one image more.
    pub world_size: usize,
}

/// Bad images in whose place others stand, in the batches that were handed out.
#[derive(Debug, Default)]
pub struct Skipped {
    /// How many.
    pub count: u64,
    /// What was wrong with the first few: shard, row and digest.
    pub first: Vec<Error>,
}

/// An endless stream of batches, made ahead by threads.
pub struct Loader {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
    next: u64,
    waited: Duration,
    skipped: Skipped,
}

impl Loader {
    /// Opens the datasets and starts the threads.
    ///
    /// # Errors
    /// For a configuration or stream that makes no sense, and for a dataset that cannot be opened or
    /// is empty.
    pub fn start(config: &DataConfig, stream: Stream) -> Result<Self> {
        config.validate()?;
        let Stream { batch_size, first_batch: next, rank, world_size: ranks, .. } = stream;
        if batch_size == 0 || ranks == 0 || batch_size < ranks {
            let allowed = format!("at least 1 and at least the number of ranks ({ranks})");
            return Err(Error::config("batch size", batch_size, allowed));
        }
        if rank >= ranks {
            return Err(Error::config("rank", rank, format!("less than {ranks}")));
        }
        let sampler = Sampler::open(config, stream.seed)?;
        let share =
            |rank: usize| (rank * (batch_size / ranks) + rank.min(batch_size % ranks)) as u64;
        let slice = share(rank)..share(rank + 1);
        let queue = Queue::new(sampler, slice, batch_size as u64, next, config.prefetch as u64);
        let (threads, waited, skipped) = Default::default();
        let mut loader = Self { queue: Arc::new(queue), threads, next, waited, skipped };
        for number in 0..self::threads(config.threads) {
            let queue = Arc::clone(&loader.queue);
            let thread = std::thread::Builder::new()
                .name(format!("loader-{number}"))
                .spawn(move || queue.work())
                .map_err(Error::io("start a thread for", "the loader"))?;
            loader.threads.push(thread);
        }
        let readers = if loader.queue.ahead.is_some() { ahead::REQUESTS } else { 0 };
        for number in 0..readers {
            let queue = Arc::clone(&loader.queue);
            let read = move || {
                if let Some(ahead) = &queue.ahead {
                    ahead.work(&queue.sampler);
                }
            };
            let thread = std::thread::Builder::new()
                .name(format!("reader-{number}"))
                .spawn(read)
                .map_err(Error::io("start a thread for", "the loader"))?;
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// The next batch; waits for it where it is not ready yet.
    ///
    /// # Errors
    /// Where an image of the batch cannot be read, naming shard, row and digest. The stream goes on
    /// with the following batch. With `on_bad_sample = "skip"` only where its substitutes are bad
    /// too.
    pub fn next_batch(&mut self) -> Result<Batch> {
        let started = Instant::now();
        let delivery = self.queue.deliver(self.next);
        self.next += 1;
        self.waited += started.elapsed();
        self.skipped.count += delivery.bad.len() as u64;
        let room = KEPT_ERRORS - self.skipped.first.len();
        self.skipped.first.extend(delivery.bad.into_iter().take(room));
        delivery.batch
    }

    /// Takes a batch back once it is done with: a later one comes to lie in its memory. Nobody must,
    /// but fresh memory for every batch costs some percent of the loader's speed.
    pub fn reuse(&mut self, batch: Batch) {
        self.queue.reuse(batch);
    }

    /// Bad images that were passed over so far; none where a bad image is an error.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Time that `next_batch` has waited in all.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Batches that exist ahead of the consumer, in the making or ready: at most `prefetch`.
    pub fn ahead(&self) -> usize {
        self.queue.ahead()
    }

    /// Images in an epoch of the first dataset; with one dataset, in an epoch.
    pub fn epoch_len(&self) -> u64 {
        self.queue.sampler.epoch_len()
    }

    /// Time that the threads have waited for what is read ahead from object stores, over all of them.
    pub fn waited_for_reads(&self) -> Duration {
        self.queue.ahead.as_ref().map(ahead::Ahead::waited).unwrap_or_default()
    }

    /// Time spent in each stage so far, over all threads.
    pub fn stages(&self) -> Stages {
        self.queue.sampler.stages()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.queue.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has reported itself; there is nothing left to do for it.
            let _ = thread.join();
        }
    }
}

/// The number of threads asked for, where 0 stands for all cores.
pub(crate) fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}
