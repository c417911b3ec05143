//! Measured training steps, made and their losses read as in `trainer run`: by one process, or by every rank of
//! several, which all make as many steps as the leader says.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use contracts::Experiment;
use diffusion::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device};

use super::feed::Feed;
use crate::ranks::Ranks;
use crate::ranks::plan::Measurement;
use crate::step::{Stage, Steps, Word};
use crate::train_state::{Held, TrainState};

/// Steps whose stages are told apart, on a GPU.
const STAGED: u64 = 5;

/// Steps by which the leader finds out how many there are time for.
const TRIED: u32 = 2;

/// Fewest steps that are measured.
const LEAST: usize = 3;

/// Seconds a step.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Stages {
    pub prepare: f64,
    pub forward: f64,
    pub backward: f64,
    /// The sum over the ranks, and with `train.shard_optimizer` the weights that they give each other; the wait
    /// for slower ranks included.
    #[serde(skip_serializing_if = "is_zero")]
    pub collectives: f64,
    pub optimizer: f64,
    pub ema: f64,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

#[derive(Serialize)]
pub struct Measured {
    /// Images of all ranks.
    pub batch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks: Option<usize>,
    pub threads: i32,
    pub device: String,
    pub precision: String,
    pub steps: usize,
    /// Median; the mean on a GPU and with a dataset.
    pub seconds_per_step: f64,
    pub images_per_second: f64,
    /// Data stall with a dataset: the share of the time that was spent waiting for data, of the rank that waited most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<f64>,
    /// Of several ranks: seconds a step in collectives, of the rank that waited least for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collective_seconds: Option<f64>,
    /// Mean loss of the last step.
    pub loss: f64,
    /// The most in tensors on a GPU, the process's most on the CPU; of several ranks that of the largest.
    pub peak_memory_bytes: u64,
    /// The most that libtorch's allocator held of a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_memory_bytes: Option<u64>,
    /// What the driver says is in use of a GPU after the last step, by all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_memory_bytes: Option<u64>,
    /// What `trainer check` says of weights, gradients, moments, averages and activations of a rank's images.
    pub predicted_memory_bytes: u64,
    /// What the first rank has in tensors between two steps.
    pub state_memory: Held,
    /// Peak before the first step: programs, weights, moments, average.
    pub host_memory_before_bytes: u64,
    pub stages: Stages,
}

/// What a rank says of itself to the others.
#[derive(Serialize, Deserialize)]
struct OfRank {
    waited: Option<f64>,
    in_collectives: f64,
    peak_memory_bytes: u64,
}

/// Measures steps of this experiment. All ranks call this; what the leader gives back counts. With
/// `measurement.keep` the leader writes the state into `folder`.
///
/// # Errors
/// When memory runs out, data cannot be read, or a rank is lost.
pub fn measure(
    experiment: &Experiment,
    measurement: Measurement,
    device: Device,
    ranks: Ranks,
    folder: Option<&Path>,
) -> Result<Measured> {
    let several = ranks.count() > 1;
    let state = match ranks.leads() {
        true => TrainState::new(experiment, device, ranks)?,
        false => TrainState::followed(experiment, device, ranks)?,
    };
    let feed = Feed::new(experiment, measurement.loader, 0, ranks)?;
    let mut run = Running { state, experiment, feed, steps: Steps::new(several), loss: f64::NAN };
    let before = torch_ext::memory(Device::Cpu)?.peak;

    for _ in 0..measurement.warmup.max(1) {
        run.step(false)?;
    }
    run.catch_up()?;
    let count = if several { Some(run.count(measurement.seconds, ranks)?) } else { None };
    let waited = run.feed.waited();
    let mut times = Vec::new();
    let mut sums = Stages::default();
    let started = Instant::now();
    let enough = |done: usize| match count {
        Some(count) => done >= count,
        None => done >= LEAST && started.elapsed().as_secs_f64() >= measurement.seconds,
    };
    while !enough(times.len()) {
        let at = Instant::now();
        sums.add(run.step(false)?);
        times.push(at.elapsed().as_secs_f64());
    }
    run.catch_up()?;
    let all = started.elapsed().as_secs_f64();
    let steps = times.len();
    let waited = waited.zip(run.feed.waited()).map(|(before, now)| now.saturating_sub(before));
    let stages = if device == Device::Cpu {
        sums.over(steps as f64)
    } else {
        // The host only queues work: stages are measured apart.
        let mut sums = Stages::default();
        for _ in 0..STAGED {
            sums.add(run.step(true)?);
            run.catch_up()?;
        }
        sums.over(STAGED as f64)
    };
    if measurement.keep {
        let snapshot = run.state.snapshot()?;
        if let Some((folder, snapshot)) = folder.zip(snapshot) {
            Checkpoint::write(folder, &snapshot, run.state.metadata()?)?;
        }
    }
    let own = OfRank {
        waited: waited.as_ref().map(Duration::as_secs_f64),
        in_collectives: stages.collectives,
        peak_memory_bytes: torch_ext::memory(device)?.peak,
    };
    let of_ranks = ranks
        .gather_words(&serde_json::to_string(&own)?)?
        .iter()
        .map(|word| Ok(serde_json::from_str(word)?))
        .collect::<Result<Vec<OfRank>>>()?;
    let least = of_ranks.iter().map(|rank| rank.in_collectives).min_by(f64::total_cmp);

    // Turns of other programs hit single steps; what the steps are kept waiting for counts.
    let seconds = match device {
        Device::Cpu if waited.is_none() => statistics::median(&times).unwrap_or_default(),
        _ => all / steps as f64,
    };
    let reserved = torch_ext::reserved_memory(device)?;
    let batch = experiment.train.batch_size;
    Ok(Measured {
        batch,
        ranks: several.then_some(ranks.count()),
        threads: tch::get_num_threads(),
        device: super::name(device),
        precision: super::precision(experiment),
        steps,
        seconds_per_step: seconds,
        images_per_second: batch as f64 / seconds,
        waiting: of_ranks
            .iter()
            .filter_map(|rank| rank.waited)
            .max_by(f64::total_cmp)
            .map(|waited| waited / all),
        collective_seconds: least.filter(|_| several),
        loss: run.loss,
        peak_memory_bytes: of_ranks.iter().map(|rank| rank.peak_memory_bytes).max().unwrap_or(0),
        reserved_memory_bytes: reserved.map(|reserved| reserved.peak),
        device_memory_bytes: reserved.map(|reserved| reserved.in_use),
        predicted_memory_bytes: experiment.memory(device, ranks.count())?.total(),
        state_memory: run.state.held(),
        host_memory_before_bytes: before,
        stages: if several { stages } else { Stages { collectives: 0.0, ..stages } },
    })
}

/// A run that is measured.
struct Running<'a> {
    state: TrainState<'a>,
    experiment: &'a Experiment,
    feed: Feed,
    steps: Steps,
    loss: f64,
}

impl Running<'_> {
    /// One step as the training loop makes it. With `wait` each stage is over before the next begins.
    fn step(&mut self, wait: bool) -> Result<Stages> {
        let device = self.state.device();
        let batch = self.feed.take(self.state.step(), self.experiment)?;
        let mut stages = Stages::default();
        let mut at = Instant::now();
        self.steps.make(&mut self.state, &batch, Word::default(), &mut |stage| {
            if wait {
                synchronize(device);
            }
            let now = Instant::now();
            *stages.of(stage) += now.duration_since(at).as_secs_f64();
            at = now;
        })?;
        self.feed.give(batch);
        self.read(false)?;
        Ok(stages)
    }

    /// How many steps the leader finds that there is time for, the same on all ranks.
    fn count(&mut self, seconds: f64, ranks: Ranks) -> Result<usize> {
        let started = Instant::now();
        for _ in 0..TRIED {
            self.step(false)?;
        }
        self.catch_up()?;
        let each = started.elapsed().as_secs_f64() / f64::from(TRIED);
        let count = (seconds / each).ceil().clamp(LEAST as f64, 1e9);
        let told = ranks.tell(format!("{count}").as_bytes())?;
        String::from_utf8(told)?.parse().context("the first rank says no number of steps")
    }

    /// Reads all losses, so that no step is under way any more.
    fn catch_up(&mut self) -> Result<()> {
        self.read(true)?;
        synchronize(self.state.device());
        Ok(())
    }

    fn read(&mut self, all: bool) -> Result<()> {
        while let Some(losses) = self.steps.read(all)? {
            self.loss = losses.mean();
        }
        Ok(())
    }
}

/// Waits for what is queued on a device.
pub fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

impl Stages {
    fn of(&mut self, stage: Stage) -> &mut f64 {
        match stage {
            Stage::Prepare => &mut self.prepare,
            Stage::Forward => &mut self.forward,
            Stage::Backward => &mut self.backward,
            Stage::Collectives => &mut self.collectives,
            Stage::Optimizer => &mut self.optimizer,
            Stage::Ema => &mut self.ema,
        }
    }

    fn add(&mut self, other: Stages) {
        self.prepare += other.prepare;
        self.forward += other.forward;
        self.backward += other.backward;
        self.collectives += other.collectives;
        self.optimizer += other.optimizer;
        self.ema += other.ema;
    }

    fn over(self, count: f64) -> Stages {
        Stages {
            prepare: self.prepare / count,
            forward: self.forward / count,
            backward: self.backward / count,
            collectives: self.collectives / count,
            optimizer: self.optimizer / count,
            ema: self.ema / count,
        }
    }
}
