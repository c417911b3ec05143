//! `trainer bench`: how long a training step takes, where its time goes and what memory it needs; or with
//! `--exact` whether a run that goes on from a checkpoint ends with the same bits. Steps are made and
//! their losses read as in `trainer run`. Images are random bytes in memory, or with `--dataset` the
//! loader's.

mod exact;
mod feed;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use diffusion::Precision;
use diffusion::checkpoint::Checkpoint;
use serde::Serialize;
use tch::{Cuda, Device};
use terminal::Usage;

use super::ExperimentArgs;
use crate::ranks::Ranks;
use crate::step::{Stage, Steps, Word};
use crate::train_state::TrainState;
use contracts::Experiment;
use feed::Feed;

/// Steps whose stages are told apart, on a GPU.
const STAGED: u64 = 5;

#[derive(Args)]
#[command(after_help = "\
Examples:
  trainer bench configs/small/colorization.toml
  trainer bench configs/paper/colorization.toml --batches 4,8,16 --device cuda")]
pub struct Bench {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// Images a step; all go through the network at once unless train.micro_batch is smaller.
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Measure several batch sizes in turn; one that does not fit into memory is reported as such.
    #[arg(long, value_name = "N,…", value_delimiter = ',', conflicts_with = "batch")]
    batches: Vec<usize>,
    /// Train N steps, again from a checkpoint at N/2, and compare all bits; status 1 where they differ.
    #[arg(long, value_name = "N", conflicts_with = "batches",
          value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    exact: Option<u64>,
    /// Threads of libtorch, 0 for all cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Seconds to measure each size.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    seconds: f64,
    /// Steps before measuring begins.
    #[arg(long, value_name = "N", default_value_t = 3)]
    warmup: u64,
    /// Device: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Precision that the network is computed in [default: as configured].
    #[arg(long)]
    precision: Option<Precision>,
    /// Write a checkpoint of the state after the last step into this folder.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["batches", "exact"],
        value_parser = storage::local_path
    )]
    checkpoint: Option<PathBuf>,
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
    /// Median; the mean on a GPU and with a dataset.
    seconds_per_step: f64,
    images_per_second: f64,
    /// Data stall with a dataset: the share of the time that was spent waiting for data.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<f64>,
    /// Mean loss of the last step.
    loss: f64,
    /// The most in tensors on a GPU, the process's most on the CPU.
    peak_memory_bytes: u64,
    /// The most that libtorch's allocator held of a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved_memory_bytes: Option<u64>,
    /// What the driver says is in use of a GPU after the last step, by all.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_memory_bytes: Option<u64>,
    /// What `trainer check` says of weights, gradients, moments, averages and activations.
    predicted_memory_bytes: u64,
    /// Peak before the first step: programs, weights, moments, average.
    host_memory_before_bytes: u64,
    stages: Stages,
}

/// One of several sizes.
#[derive(Serialize)]
#[serde(untagged)]
enum Size {
    Measured(Box<Measured>),
    Failed { batch: usize, failed: String },
}

#[derive(Serialize)]
struct Sizes {
    sizes: Vec<Size>,
}

impl Bench {
    pub fn run(mut self) -> anyhow::Result<ExitCode> {
        let device = torch_ext::device_named(&self.device)?;
        let kind = if device == Device::Cpu { "cpu" } else { "cuda" };
        let mut sets = vec![
            // Room for any train.micro_batch; `sized` makes it the size that is measured.
            "train.batch_size=65536".to_owned(),
            format!("train.threads={}", self.threads),
            format!("train.device={kind}"),
        ];
        if let Some(precision) = &self.precision {
            sets.push(format!("train.precision={precision}"));
        }
        self.experiment.set(sets);
        let (mut experiment, _) = self.experiment.load()?;
        experiment.settle(device, None);

        if let Some(steps) = self.exact {
            let experiment = sized(&experiment, self.batch)?;
            let loader = self.experiment.dataset.is_some();
            let exactness = exact::compare(&experiment, device, steps, loader)?;
            if self.json {
                terminal::print_json(&exactness)?;
            } else {
                exactness.print()?;
            }
            return Ok(if exactness.exact { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        if self.batches.is_empty() {
            let measured = self.measure(&sized(&experiment, self.batch)?, device)?;
            if self.json {
                terminal::print_json(&measured)?;
            } else {
                print(&[Size::Measured(Box::new(measured))])?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let sized: Vec<Experiment> = self
            .batches
            .iter()
            .map(|&batch| sized(&experiment, batch))
            .collect::<Result<_, _>>()?;
        let sizes = sized
            .iter()
            .map(|experiment| self.size(experiment, device))
            .collect::<anyhow::Result<_>>()?;
        let sizes = Sizes { sizes };
        if self.json {
            terminal::print_json(&sizes)?
        } else {
            print(&sizes.sizes)?
        }
        Ok(ExitCode::SUCCESS)
    }

    /// One of several sizes, in memory as if it was the first.
    fn size(&self, experiment: &Experiment, device: Device) -> anyhow::Result<Size> {
        torch_ext::release_device(device)?;
        torch_ext::reset_peak_memory(device)?;
        match self.measure(experiment, device) {
            Ok(measured) => Ok(Size::Measured(Box::new(measured))),
            Err(error) if torch_ext::is_out_of_memory(&format!("{error:#}")) => {
                let failed = format!("out of memory: {error:#}");
                Ok(Size::Failed { batch: experiment.train.batch_size, failed })
            }
            Err(error) => Err(error),
        }
    }

    fn measure(&self, experiment: &Experiment, device: Device) -> anyhow::Result<Measured> {
        let mut bench = Running {
            state: TrainState::new(experiment, device, Ranks::ALONE)?,
            experiment,
            feed: Feed::new(experiment, self.experiment.dataset.is_some(), 0)?,
            steps: Steps::new(false),
            loss: f64::NAN,
        };
        let before = torch_ext::memory(Device::Cpu)?.peak;

        for _ in 0..self.warmup.max(1) {
            bench.step(false)?;
        }
        bench.catch_up()?;
        let waited = bench.feed.waited();
        let mut times = Vec::new();
        let mut sums = Stages::default();
        let started = Instant::now();
        while started.elapsed().as_secs_f64() < self.seconds || times.len() < 3 {
            let at = Instant::now();
            sums.add(bench.step(false)?);
            times.push(at.elapsed().as_secs_f64());
        }
        bench.catch_up()?;
        let all = started.elapsed().as_secs_f64();
        let steps = times.len();
        let data_stall =
            waited.zip(bench.feed.waited()).map(|(before, now)| (now - before).as_secs_f64() / all);
        let stages = if device == Device::Cpu {
            sums.over(steps as f64)
        } else {
            // The host only queues work: stages are measured apart.
            let mut sums = Stages::default();
            for _ in 0..STAGED {
                sums.add(bench.step(true)?);
                bench.catch_up()?;
            }
            sums.over(STAGED as f64)
        };
        // Turns of other programs hit single steps; what the steps are kept waiting for counts.
        let seconds = match device {
            Device::Cpu if data_stall.is_none() => statistics::median(&times).unwrap_or_default(),
            _ => all / steps as f64,
        };
        if let Some(folder) = &self.checkpoint {
            if let Some(snapshot) = bench.state.snapshot()? {
                Checkpoint::write(folder, &snapshot, bench.state.metadata()?)?;
            }
        }
        let reserved = torch_ext::reserved_memory(device)?;
        let batch = experiment.train.batch_size;
        Ok(Measured {
            batch,
            threads: tch::get_num_threads(),
            device: self.device.clone(),
            precision: precision(experiment),
            steps,
            seconds_per_step: seconds,
            images_per_second: batch as f64 / seconds,
            waiting: data_stall,
            loss: bench.loss,
            peak_memory_bytes: torch_ext::memory(device)?.peak,
            reserved_memory_bytes: reserved.map(|reserved| reserved.peak),
            device_memory_bytes: reserved.map(|reserved| reserved.in_use),
            predicted_memory_bytes: experiment.memory(device)?.total(),
            host_memory_before_bytes: before,
            stages,
        })
    }
}

/// The experiment with batches of this size.
fn sized(experiment: &Experiment, batch: usize) -> Result<Experiment, Usage> {
    let mut experiment = experiment.clone();
    let train = &mut experiment.train;
    train.batch_size = batch;
    if train.micro_batch > batch {
        train.micro_batch = 0;
    }
    train.validate().map_err(Usage::of)?;
    Ok(experiment)
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
    fn step(&mut self, wait: bool) -> anyhow::Result<Stages> {
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

    /// Reads all losses, so that no step is under way any more.
    fn catch_up(&mut self) -> anyhow::Result<()> {
        self.read(true)?;
        synchronize(self.state.device());
        Ok(())
    }

    fn read(&mut self, all: bool) -> anyhow::Result<()> {
        while let Some(losses) = self.steps.read(all)? {
            self.loss = losses.mean();
        }
        Ok(())
    }
}

fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// The name of a device on the command line.
fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

/// The name of the precision in configurations.
fn precision(experiment: &Experiment) -> String {
    let value = serde_json::to_value(experiment.train.precision).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

impl Stages {
    fn of(&mut self, stage: Stage) -> &mut f64 {
        match stage {
            Stage::Prepare => &mut self.prepare,
            Stage::Forward => &mut self.forward,
            Stage::Backward => &mut self.backward,
            Stage::Optimizer => &mut self.optimizer,
            Stage::Ema => &mut self.ema,
        }
    }

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

fn print(sizes: &[Size]) -> anyhow::Result<()> {
    let ms = |seconds: f64| format!("{:.1}", 1000.0 * seconds);
    let mut table = terminal::Table::new(&[
        "batch",
        "ms a step",
        "images/s",
        "waiting",
        "prepare",
        "forward",
        "backward",
        "optimizer",
        "ema",
        "peak memory",
        "predicted",
    ]);
    for size in sizes {
        let Size::Measured(measured) = size else { continue };
        let stages = &measured.stages;
        table.row([
            measured.batch.to_string(),
            ms(measured.seconds_per_step),
            format!("{:.1}", measured.images_per_second),
            measured.waiting.map_or("-".to_owned(), |share| format!("{:.0} %", 100.0 * share)),
            ms(stages.prepare),
            ms(stages.forward),
            ms(stages.backward),
            ms(stages.optimizer),
            ms(stages.ema),
            terminal::bytes(measured.peak_memory_bytes),
            terminal::bytes(measured.predicted_memory_bytes),
        ]);
    }
    table.print()?;
    for size in sizes {
        if let Size::Failed { batch, failed } = size {
            terminal::print(&format!("batch {batch} failed: {failed}"))?;
        }
    }
    Ok(())
}
