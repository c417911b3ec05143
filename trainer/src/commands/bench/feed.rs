//! Where the images of a measurement come from: memory, or the loader.

use std::time::Duration;

use anyhow::Result;
use pipeline::{Batch, Loader, Stream, Task};

use contracts::Experiment;

/// Batches of a run, from any step on.
pub enum Feed {
    /// The same random bytes in every step, at the positions of that step.
    Bytes(Option<Batch>),
    /// The run's own stream.
    Loader(Box<Loader>),
}

impl Feed {
    /// Batches from that of step `first` (counted from 0) on; from the datasets of the configuration
    /// with `loader`.
    ///
    /// # Errors
    /// When a dataset cannot be read.
    pub fn new(experiment: &Experiment, loader: bool, first: u64) -> Result<Self> {
        if !loader {
            return Ok(Self::Bytes(Some(random(experiment))));
        }
        let stream = Stream {
            seed: experiment.seed,
            batch_size: experiment.train.batch_size,
            first_batch: first,
            rank: 0,
            world_size: 1,
        };
        Ok(Self::Loader(Box::new(Loader::start(&experiment.data, stream)?)))
    }

    /// The batch of step `step` (counted from 0), the next one in turn.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn take(&mut self, step: u64, experiment: &Experiment) -> Result<Batch> {
        match self {
            Self::Bytes(batch) => {
                let mut batch = batch.take().unwrap_or_else(|| random(experiment));
                for (position, at) in batch.positions.iter_mut().zip(0..) {
                    *position = step * batch.size as u64 + at;
                }
                Ok(batch)
            }
            Self::Loader(loader) => Ok(loader.next_batch()?),
        }
    }

    /// Takes a batch back that is done with.
    pub fn give(&mut self, batch: Batch) {
        match self {
            Self::Bytes(place) => *place = Some(batch),
            Self::Loader(loader) => loader.reuse(batch),
        }
    }

    /// Time that was spent waiting for the loader so far; none without one.
    pub fn waited(&self) -> Option<Duration> {
        match self {
            Self::Bytes(_) => None,
            Self::Loader(loader) => Some(loader.waited()),
        }
    }
}

/// Random bytes; the share of images with a hole is that of the tasks, the hole the middle quarter.
fn random(experiment: &Experiment) -> Batch {
    let [height, width] = experiment.size().map(|side| side as usize);
    let size = experiment.train.batch_size;
    let weights = experiment.data.tasks.iter().filter(|(_, weight)| **weight > 0.0);
    let total: f64 = weights.clone().map(|(_, weight)| weight).sum();
    let task = |number: usize| {
        let mut left = (number as f64 + 0.5) / size as f64 * total;
        weights
            .clone()
            .find(|(_, weight)| {
                left -= **weight;
                left <= 0.0
            })
            .map_or(Task::ALL[0], |(task, _)| *task)
    };
    let tasks: Vec<Task> = (0..size).map(task).collect();
    let mut state = 1_u64;
    let mut byte = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let pixels = height * width;
    let mut plane = |count: usize| (0..count).map(|_| byte()).collect::<Vec<u8>>();
    let (target, source) = (plane(3 * pixels * size), plane(3 * pixels * size));
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
        keys: (0..size).map(|number| number.to_string()).collect(),
        positions: (0..size as u64).collect(),
        tasks,
    }
}
