//! Where the images of a measurement come from: memory, or the loader.

use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use pipeline::{Batch, Loader, Stream, Task};

use crate::ranks::Ranks;
use contracts::Experiment;

/// Batches of a run, from any step on.
pub enum Feed {
    /// The same random bytes in every step, at the positions of that step; of a rank its slice of them.
    Bytes { batch: Option<Batch>, slice: Range<usize> },
    /// The run's own stream.
    Loader(Box<Loader>),
}

impl Feed {
    /// Batches from that of step `first` (counted from 0) on; from the datasets of the configuration
    /// with `loader`. Each of several ranks gets its slice of them.
    ///
    /// # Errors
    /// When a dataset cannot be read.
    pub fn new(experiment: &Experiment, loader: bool, first: u64, ranks: Ranks) -> Result<Self> {
        let (rank, world_size) = (ranks.rank(), ranks.count());
        let batch_size = experiment.train.batch_size;
        if !loader {
            let slice = slice(batch_size, rank, world_size);
            return Ok(Self::Bytes { batch: Some(random(experiment, &slice)), slice });
        }
        let stream =
            Stream { seed: experiment.seed, batch_size, first_batch: first, rank, world_size };
        let mut data = experiment.data.clone();
        if world_size > 1 && data.threads == 0 {
            data.threads = ranks.cores();
        }
        Ok(Self::Loader(Box::new(Loader::start(&data, stream)?)))
    }

    /// The batch of step `step` (counted from 0), the next one in turn.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn take(&mut self, step: u64, experiment: &Experiment) -> Result<Batch> {
        match self {
            Self::Bytes { batch, slice } => {
                let mut batch = batch.take().unwrap_or_else(|| random(experiment, slice));
                let begin = step * experiment.train.batch_size as u64 + slice.start as u64;
                for (position, at) in batch.positions.iter_mut().zip(begin..) {
                    *position = at;
                }
                batch.index = step;
                Ok(batch)
            }
            Self::Loader(loader) => Ok(loader.next_batch()?),
        }
    }

    /// Takes a batch back that is done with.
    pub fn give(&mut self, batch: Batch) {
        match self {
            Self::Bytes { batch: place, .. } => *place = Some(batch),
            Self::Loader(loader) => loader.reuse(batch),
        }
    }

    /// Time that was spent waiting for the loader so far; none without one.
    pub fn waited(&self) -> Option<Duration> {
        match self {
            Self::Bytes { .. } => None,
            Self::Loader(loader) => Some(loader.waited()),
        }
    }
}

/// The places of a rank in a batch, as the loader has it: the first ranks take one image more where they are not
/// even.
fn slice(images: usize, rank: usize, ranks: usize) -> Range<usize> {
    let begin = |rank: usize| images / ranks * rank + rank.min(images % ranks);
    begin(rank)..begin(rank + 1)
}

/// Random bytes; the share of images with a hole is that of the tasks, the hole the middle quarter.
fn random(experiment: &Experiment, slice: &Range<usize>) -> Batch {
    let [height, width] = experiment.size().map(|side| side as usize);
    let (size, whole) = (slice.len(), experiment.train.batch_size);
    let weights = experiment.data.tasks.iter().filter(|(_, weight)| **weight > 0.0);
    let total: f64 = weights.clone().map(|(_, weight)| weight).sum();
    let task = |number: usize| {
        let mut left = (number as f64 + 0.5) / whole as f64 * total;
        weights
            .clone()
            .find(|(_, weight)| {
                left -= **weight;
                left <= 0.0
            })
            .map_or(Task::ALL[0], |(task, _)| *task)
    };
    let tasks: Vec<Task> = slice.clone().map(task).collect();
    let pixels = height * width;
    // An image is the same whatever rank it falls to.
    let (mut target, mut source) = (Vec::new(), Vec::new());
    for image in slice.clone() {
        let mut state = image as u64 + 1;
        let mut byte = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        target.extend((0..3 * pixels).map(|_| byte()));
        source.extend((0..3 * pixels).map(|_| byte()));
    }
    let middle = |at: usize| {
        let (y, x) = (at / width, at % width);
        (height / 4..height * 3 / 4).contains(&y) && (width / 4..width * 3 / 4).contains(&x)
    };
    let mask = tasks
        .iter()
        .flat_map(|task| {
            let hole = task.has_hole();
            (0..pixels).map(move |at| u8::from(!hole || middle(at)))
        })
        .collect();
    Batch {
        index: 0,
        size,
        height,
        width,
        target,
        source,
        mask,
        keys: slice.clone().map(|number| number.to_string()).collect(),
        positions: (0..size as u64).collect(),
        tasks,
    }
}
