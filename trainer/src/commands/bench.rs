//! `trainer bench`: how long a training step takes, where its time goes and what memory it needs; or with
//! `--exact` whether a run that goes on from a checkpoint ends with the same bits. Steps are made and
//! their losses read as in `trainer run`, by one process or by several ranks. Images are random bytes in
//! memory, or with `--dataset` the loader's.

mod exact;
mod feed;
pub mod steps;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use diffusion::Precision;
use serde::Serialize;
use tch::Device;
use terminal::Usage;

use super::ExperimentArgs;
use super::team::Team;
use crate::ranks::plan::{Measurement, Plan, Told};
use crate::ranks::{Ranks, crew};
use contracts::Experiment;
use steps::Measured;

#[derive(Args)]
#[command(after_help = "\
Examples:
  trainer bench configs/small/colorization.toml
  trainer bench configs/paper/colorization.toml --batches 4,8,16 --device cuda
  trainer bench configs/small/colorization.toml --ranks 2 --set train.shares=4")]
pub struct Bench {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// Images a step, of all ranks; those of a rank go through the network at once unless train.micro_batch is
    /// smaller.
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Measure several batch sizes in turn; one that does not fit into memory is reported as such, and with
    /// several ranks ends the command.
    #[arg(long, value_name = "N,…", value_delimiter = ',', conflicts_with = "batch")]
    batches: Vec<usize>,
    /// Train N steps, again from a checkpoint at N/2, and compare all bits; status 1 where they differ.
    #[arg(long, value_name = "N", conflicts_with = "batches",
          value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    exact: Option<u64>,
    /// Measure the steps that N processes on this host make together; with GPUs each takes one.
    #[arg(long, value_name = "N", conflicts_with = "exact",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    ranks: Option<u16>,
    /// Threads of libtorch in each process, 0 for its part of all cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Seconds to measure each size.
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = super::seconds)]
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
        let team = Team::new(self.ranks, &self.device)?;
        if self.exact.is_some() && team.count() > 1 {
            return Err(Usage::new("--exact compares the bits of one process, not of ranks").into());
        }
        if team.follows() {
            return team.follow();
        }
        let device = team.device()?;
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
        if team.count() > 1 && device == Device::Cpu && self.threads == 0 {
            tch::set_num_threads(i32::try_from(team.cores())?);
        }
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
        let batches = if self.batches.is_empty() { &[self.batch][..] } else { &self.batches };
        let sized: Vec<Experiment> =
            batches.iter().map(|&batch| sized(&experiment, batch)).collect::<Result<_, _>>()?;
        for experiment in &sized {
            crew::check(experiment, team.count())?;
        }
        let sizes: Vec<Size> = team.lead(|crew| {
            let ranks = crew.ranks();
            sized.iter().map(|experiment| self.size(experiment, device, ranks)).collect()
        })?;
        match (&sizes[..], self.json) {
            ([Size::Measured(one)], true) if self.batches.is_empty() => {
                terminal::print_json(&**one)?
            }
            (_, true) => terminal::print_json(&Sizes { sizes })?,
            (_, false) => print(&sizes)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// One of the sizes; of several each is in memory as if it was the first.
    fn size(&self, experiment: &Experiment, device: Device, ranks: Ranks) -> anyhow::Result<Size> {
        if !self.batches.is_empty() {
            torch_ext::release_device(device)?;
            torch_ext::reset_peak_memory(device)?;
        }
        let measurement = Measurement {
            loader: self.experiment.dataset.is_some(),
            warmup: self.warmup,
            seconds: self.seconds,
            keep: self.checkpoint.is_some(),
        };
        Plan::Steps(Told::of(experiment)?, measurement).say(ranks)?;
        match steps::measure(experiment, measurement, device, ranks, self.checkpoint.as_deref()) {
            Ok(measured) => Ok(Size::Measured(Box::new(measured))),
            // The others of several ranks wait for one that is without memory.
            Err(error)
                if ranks.count() == 1
                    && !self.batches.is_empty()
                    && torch_ext::is_out_of_memory(&format!("{error:#}")) =>
            {
                let failed = format!("out of memory: {error:#}");
                Ok(Size::Failed { batch: experiment.train.batch_size, failed })
            }
            Err(error) => Err(error),
        }
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

/// The name of a device on the command line.
pub fn name(device: Device) -> String {
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

fn print(sizes: &[Size]) -> anyhow::Result<()> {
    let several = |size: &Size| matches!(size, Size::Measured(one) if one.ranks.is_some());
    let collectives = sizes.iter().any(several);
    let ms = |seconds: f64| format!("{:.1}", 1000.0 * seconds);
    let mut headings = vec![
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
    ];
    if collectives {
        headings.insert(0, "ranks");
        headings.insert(8, "collectives");
    }
    let mut table = terminal::Table::new(&headings);
    for size in sizes {
        let Size::Measured(measured) = size else { continue };
        let stages = &measured.stages;
        let mut row = vec![
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
        ];
        if collectives {
            let share = 100.0 * stages.collectives / measured.seconds_per_step;
            row.insert(0, measured.ranks.unwrap_or(1).to_string());
            row.insert(8, format!("{} ({share:.0} %)", ms(stages.collectives)));
        }
        table.row(row);
    }
    table.print()?;
    for size in sizes {
        if let Size::Failed { batch, failed } = size {
            terminal::print(&format!("batch {batch} failed: {failed}"))?;
        }
    }
    Ok(())
}
