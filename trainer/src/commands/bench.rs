//! `trainer bench`: how long a training step takes and where its time goes. Images are random bytes in
//! memory, so that the loader is no part of it (`pipeline bench` measures that).

use std::time::Instant;

use clap::Args;
use pipeline::{Batch, Task};
use serde::Serialize;
use tch::{Cuda, Device};

use super::Source;
use crate::experiment::Experiment;
use crate::learner::Learner;
use crate::ranks::Ranks;

/// Steps whose stages are told apart, on a GPU.
const STAGED: u64 = 5;

#[derive(Args)]
pub struct Bench {
    #[command(flatten)]
    source: Source,
    /// Images a step; all go through the network at once unless train.micro_batch is smaller.
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Threads of libtorch, 0 for all cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Seconds to measure.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    seconds: f64,
    /// Steps before measuring begins.
    #[arg(long, value_name = "N", default_value_t = 3)]
    warmup: u64,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
    /// fp32, tf32 or bf16 [default: as configured].
    #[arg(long)]
    precision: Option<String>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Seconds a step.
#[derive(Clone, Copy, Default, Serialize)]
struct Stages {
    prepare: f64,
    forward: f64,
    backward: f64,
    optimizer: f64,
    ema: f64,
}

#[derive(Serialize)]
struct Measured {
    batch: usize,
    threads: i32,
    device: String,
    precision: String,
    steps: usize,
    /// Median.
    seconds_per_step: f64,
    images_per_second: f64,
    peak_memory_bytes: u64,
    /// Peak before the first step: programs, weights, moments, average.
    host_memory_before_bytes: u64,
    stages: Stages,
}

impl Bench {
    pub fn run(mut self) -> anyhow::Result<()> {
        let mut sets = vec![
            format!("train.batch_size={}", self.batch),
            format!("train.threads={}", self.threads),
        ];
        if let Some(precision) = &self.precision {
            sets.push(format!("train.precision={precision}"));
        }
        self.source.set(sets);
        let mut experiment = self.source.load()?;
        let device = torch_ext::device_named(&self.device)?;
        experiment.settle(device, None);
        let mut learner = Learner::new(&experiment, device, Ranks::ALONE)?;
        let batch = random(&experiment);
        let before = torch_ext::memory(Device::Cpu)?.peak;

        for _ in 0..self.warmup.max(1) {
            step(&mut learner, &experiment, &batch, false)?;
        }
        synchronize(device);
        let mut times = Vec::new();
        let mut sums = Stages::default();
        let started = Instant::now();
        while started.elapsed().as_secs_f64() < self.seconds || times.len() < 3 {
            let at = Instant::now();
            let stages = step(&mut learner, &experiment, &batch, false)?;
            // One step may run ahead of the host, as in training, which reads a loss one step late.
            times.push(at.elapsed().as_secs_f64());
            sums.add(stages);
        }
        synchronize(device);
        let all = started.elapsed().as_secs_f64();
        let steps = times.len();
        let (seconds, stages) = if device == Device::Cpu {
            (median(&mut times), sums.over(steps as f64))
        } else {
            // The host only queues work: the whole time counts, and stages are measured apart.
            let mut sums = Stages::default();
            for _ in 0..STAGED {
                sums.add(step(&mut learner, &experiment, &batch, true)?);
            }
            (all / steps as f64, sums.over(STAGED as f64))
        };
        let measured = Measured {
            batch: self.batch,
            threads: tch::get_num_threads(),
            device: self.device.clone(),
            precision: serde_json::to_value(experiment.train.precision)?
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            steps,
            seconds_per_step: seconds,
            images_per_second: self.batch as f64 / seconds,
            peak_memory_bytes: torch_ext::memory(device)?.peak,
            host_memory_before_bytes: before,
            stages,
        };
        if self.json { terminal::print_json(&measured) } else { measured.print() }
    }
}

fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// One training step as the training loop makes it.
fn step(
    learner: &mut Learner,
    experiment: &Experiment,
    batch: &Batch,
    wait: bool,
) -> anyhow::Result<Stages> {
    let device = learner.device();
    let mut at = Instant::now();
    let mut lap = || {
        if wait {
            synchronize(device);
        }
        let now = Instant::now();
        let seconds = now.duration_since(at).as_secs_f64();
        at = now;
        seconds
    };
    let mut stages = Stages::default();
    let size = experiment.train.at_once();
    for from in (0..batch.size).step_by(size) {
        let range = from..(from + size).min(batch.size);
        let images = learner.images(batch, range.clone())?;
        stages.prepare += lap();
        let losses = learner.loss(&images, &batch.positions[range.clone()])?;
        stages.forward += lap();
        learner.gradients(&losses.loss, range.len() as f64 / batch.size as f64)?;
        stages.backward += lap();
    }
    let _ = learner.update()?;
    stages.optimizer = lap();
    learner.average()?;
    stages.ema = lap();
    Ok(stages)
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

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

impl Stages {
    fn add(&mut self, other: Stages) {
        self.prepare += other.prepare;
        self.forward += other.forward;
        self.backward += other.backward;
        self.optimizer += other.optimizer;
        self.ema += other.ema;
    }

    fn over(self, count: f64) -> Stages {
        Stages {
            prepare: self.prepare / count,
            forward: self.forward / count,
            backward: self.backward / count,
            optimizer: self.optimizer / count,
            ema: self.ema / count,
        }
    }
}

impl Measured {
    fn print(&self) -> anyhow::Result<()> {
        let ms = |seconds: f64| format!("{:.1}", 1000.0 * seconds);
        let mut table = terminal::Table::new(&[
            "batch",
            "ms a step",
            "images/s",
            "prepare",
            "forward",
            "backward",
            "optimizer",
            "ema",
            "peak memory",
        ]);
        let stages = &self.stages;
        table.row([
            self.batch.to_string(),
            ms(self.seconds_per_step),
            format!("{:.1}", self.images_per_second),
            ms(stages.prepare),
            ms(stages.forward),
            ms(stages.backward),
            ms(stages.optimizer),
            ms(stages.ema),
            terminal::bytes(self.peak_memory_bytes),
        ]);
        table.print()
    }
}
