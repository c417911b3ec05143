//! The loader: threads read, decode, crop, flip and degrade ahead of the consumer; batches come out
//! in order.
//!
//! Always holds: global batch b is positions bB..(b+1)B of the stream and a rank takes its slice of
//! it, so that the stream is the same for any number of threads and ranks and from any starting
//! point. At most `prefetch` batches exist ahead of the consumer, whatever its pace. Dropping the
//! loader ends its threads.

mod sample;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sample::Sampler;
pub use sample::{Sample, Stages};

use crate::{DataConfig, Error, Result, Task};

/// Bytes of a batch that one thread makes in one piece.
const PART_BYTES: usize = 4 << 20;

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

/// One rank's slice of a global batch. Planes are `[B,C,H,W]`, bytes 0 to 255; masks 0 or 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Number of the global batch.
    pub index: u64,
    /// Images in this slice, B.
    pub size: usize,
    /// Height of the images.
    pub height: usize,
    /// Width of the images.
    pub width: usize,
    /// The photographs, `[B,3,H,W]`.
    pub target: Vec<u8>,
    /// What the network is given, `[B,3,H,W]`; 128 in the holes.
    pub source: Vec<u8>,
    /// 1 where pixels are to be generated, `[B,1,H,W]`.
    pub mask: Vec<u8>,
    /// Task of each image.
    pub tasks: Vec<Task>,
    /// Key of each image.
    pub keys: Vec<String>,
    /// Position of each image in the stream, bB + k: the key of all its randomness.
    pub positions: Vec<u64>,
}

impl Batch {
    fn empty(index: u64, side: usize, capacity: usize) -> Self {
        let plane = side * side * capacity;
        Self {
            index,
            size: 0,
            height: side,
            width: side,
            target: Vec::with_capacity(3 * plane),
            source: Vec::with_capacity(3 * plane),
            mask: Vec::with_capacity(plane),
            tasks: Vec::with_capacity(capacity),
            keys: Vec::with_capacity(capacity),
            positions: Vec::with_capacity(capacity),
        }
    }

    fn push(&mut self, position: u64, sample: Sample) {
        planar(sample.target.as_raw(), &mut self.target);
        planar(sample.degraded.source.as_raw(), &mut self.source);
        self.mask.extend_from_slice(sample.degraded.mask.as_raw());
        self.tasks.push(sample.task);
        self.keys.push(sample.key);
        self.positions.push(position);
        self.size += 1;
    }

    fn append(&mut self, mut part: Self) {
        self.target.append(&mut part.target);
        self.source.append(&mut part.source);
        self.mask.append(&mut part.mask);
        self.tasks.append(&mut part.tasks);
        self.keys.append(&mut part.keys);
        self.positions.append(&mut part.positions);
        self.size += part.size;
    }
}

/// Interleaved RGB to three planes.
fn planar(pixels: &[u8], out: &mut Vec<u8>) {
    let pixels = pixels.as_chunks::<3>().0;
    for channel in 0..3 {
        out.extend(pixels.iter().map(|pixel| pixel[channel]));
    }
}

/// An endless stream of batches, made ahead by threads.
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    next: u64,
    waited: Duration,
}

struct Shared {
    sampler: Sampler,
    slice: Range<u64>,
    batch_size: u64,
    part: u64,
    parts: u64,
    prefetch: u64,
    state: Mutex<State>,
    room: Condvar,
    ready: Condvar,
}

struct State {
    /// Batch and part that the next free thread takes.
    issue: (u64, u64),
    /// The batch that the consumer takes next.
    consumed: u64,
    stop: bool,
    /// Batches in the making: parts done so far.
    making: BTreeMap<u64, Vec<Option<Result<Batch>>>>,
    /// Batches that are whole.
    done: BTreeMap<u64, Result<Batch>>,
}

impl Loader {
    /// Opens the datasets and starts the threads.
    ///
    /// # Errors
    /// For a configuration or stream that makes no sense, and for a dataset that cannot be opened or
    /// is empty.
    pub fn start(config: &DataConfig, stream: Stream) -> Result<Self> {
        config.validate()?;
        let ranks = stream.world_size;
        if stream.batch_size == 0 || ranks == 0 || stream.batch_size < ranks {
            let allowed = format!("at least 1 and at least the number of ranks ({ranks})");
            return Err(Error::config("batch size", stream.batch_size, allowed));
        }
        if stream.rank >= ranks {
            return Err(Error::config("rank", stream.rank, format!("less than {ranks}")));
        }
        let sampler = Sampler::open(config, stream.seed)?;
        let share = |rank: usize| {
            let (even, more) = (stream.batch_size / ranks, stream.batch_size % ranks);
            (rank * even + rank.min(more)) as u64
        };
        let slice = share(stream.rank)..share(stream.rank + 1);
        let bytes = 7 * (config.image_size as usize).pow(2);
        let count = slice.end - slice.start;
        let part = (PART_BYTES / bytes).clamp(1, count as usize) as u64;
        let shared = Arc::new(Shared {
            sampler,
            batch_size: stream.batch_size as u64,
            part,
            parts: count.div_ceil(part),
            slice,
            prefetch: config.prefetch as u64,
            state: Mutex::new(State {
                issue: (stream.first_batch, 0),
                consumed: stream.first_batch,
                stop: false,
                making: BTreeMap::new(),
                done: BTreeMap::new(),
            }),
            room: Condvar::new(),
            ready: Condvar::new(),
        });
        let mut loader =
            Self { shared, threads: Vec::new(), next: stream.first_batch, waited: Duration::ZERO };
        for number in 0..threads(config.threads) {
            let shared = Arc::clone(&loader.shared);
            let thread = std::thread::Builder::new()
                .name(format!("loader-{number}"))
                .spawn(move || shared.work())
                .map_err(Error::io("start a thread for", "the loader"))?;
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// The next batch; waits for it where it is not ready yet.
    ///
    /// # Errors
    /// Where an image of the batch cannot be read, naming shard, row and digest. The stream goes on
    /// with the following batch.
    pub fn next_batch(&mut self) -> Result<Batch> {
        let started = Instant::now();
        let shared = &self.shared;
        let mut state = shared.lock();
        let batch = loop {
            match state.done.remove(&self.next) {
                Some(batch) => break batch,
                None => {
                    state = shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        self.next += 1;
        state.consumed = self.next;
        drop(state);
        shared.room.notify_all();
        self.waited += started.elapsed();
        batch
    }

    /// Time that `next_batch` has waited in all.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Images in an epoch of the first dataset; with one dataset, in an epoch.
    pub fn epoch_len(&self) -> u64 {
        self.shared.sampler.epoch_len()
    }

    /// Time spent in each stage so far, over all threads.
    pub fn stages(&self) -> Stages {
        self.shared.sampler.stages()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.room.notify_all();
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does: takes the next part while there is room, makes it, hands it in.
    fn work(&self) {
        while let Some((batch, part)) = self.take() {
            let made = catch_unwind(AssertUnwindSafe(|| self.make(batch, part)))
                .unwrap_or_else(|_| Err(Error::Image(format!("batch {batch}: decoder panicked"))));
            self.hand_in(batch, part, made);
        }
    }

    fn take(&self) -> Option<(u64, u64)> {
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            let (batch, part) = state.issue;
            if batch < state.consumed + self.prefetch {
                state.issue =
                    if part + 1 == self.parts { (batch + 1, 0) } else { (batch, part + 1) };
                return Some((batch, part));
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn make(&self, index: u64, part: u64) -> Result<Batch> {
        let from = self.slice.start + part * self.part;
        let to = (from + self.part).min(self.slice.end);
        let mut batch = Batch::empty(index, self.sampler.side(), (to - from) as usize);
        for place in from..to {
            let position = index * self.batch_size + place;
            batch.push(position, self.sampler.sample(position)?);
        }
        Ok(batch)
    }

    fn hand_in(&self, index: u64, part: u64, made: Result<Batch>) {
        let mut state = self.lock();
        let parts =
            state.making.entry(index).or_insert_with(|| (0..self.parts).map(|_| None).collect());
        parts[part as usize] = Some(made);
        if parts.iter().any(Option::is_none) {
            return;
        }
        let parts = state.making.remove(&index).unwrap_or_default();
        drop(state);
        let batch = self.join(index, parts.into_iter().flatten());
        self.lock().done.insert(index, batch);
        self.ready.notify_all();
    }

    fn join(&self, index: u64, parts: impl Iterator<Item = Result<Batch>>) -> Result<Batch> {
        if self.parts == 1 {
            return parts.last().unwrap_or_else(|| Ok(Batch::empty(index, 0, 0)));
        }
        let count = (self.slice.end - self.slice.start) as usize;
        let mut whole = Batch::empty(index, self.sampler.side(), count);
        for part in parts {
            whole.append(part?);
        }
        Ok(whole)
    }
}
