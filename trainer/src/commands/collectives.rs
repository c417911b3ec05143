//! `trainer collectives`: how fast the ranks of a run speak to each other, over Gloo on the CPU and NCCL on GPUs;
//! without a network or data. Before anything is measured every operation is checked against known numbers.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use tch::{Device, Kind, Tensor};
use torch_ext::group::Group;

use super::bench::steps::synchronize;
use super::team::Team;
use crate::ranks::plan::{Plan, Sizes};
use crate::ranks::{Ranks, meeting};

/// Rounds before measuring begins.
const WARMUP: usize = 2;

/// Fewest rounds that are measured.
const LEAST: usize = 5;

/// Bytes of a number.
const WIDTH: u64 = 4;

#[derive(Args)]
#[command(after_help = "\
Examples:
  trainer collectives --ranks 2
  trainer collectives --ranks 8 --device cuda --megabytes 32,256,2211")]
pub struct Collectives {
    /// Processes on this host that take part; with GPUs each takes one. One alone checks that NCCL works.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    ranks: Option<u16>,
    /// Sizes to measure, in units of a million bytes: 2211 is the gradient of the paper's network.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "4,32,256",
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    megabytes: Vec<u64>,
    /// Seconds to measure each size of each operation.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = super::seconds)]
    seconds: f64,
    /// Device: auto, cpu or cuda.
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Serialize)]
struct Report {
    ranks: usize,
    device: String,
    /// What carries the numbers.
    backend: &'static str,
    /// Every operation gave the known numbers; the command fails where one does not.
    correct: bool,
    sizes: Vec<Measured>,
}

/// An operation on numbers of one size.
#[derive(Serialize)]
pub struct Measured {
    operation: &'static str,
    bytes: u64,
    rounds: usize,
    /// Median.
    seconds: f64,
    least_seconds: f64,
    most_seconds: f64,
    /// Bytes over the median.
    bytes_per_second: f64,
    /// What each link carries where the operation is a ring: the bytes that a rank sends, over the median.
    bus_bytes_per_second: f64,
}

/// What ranks do with a tensor of one size.
#[derive(Clone, Copy)]
enum Operation {
    /// The sum over all ranks, in place.
    Sum,
    /// How `train.shares` sums: parts are exchanged and, once each rank has added up its part, gathered.
    ExchangeAndGather,
    /// The first rank's numbers for all, as weights are spread.
    Broadcast,
}

impl Collectives {
    pub fn run(self) -> Result<ExitCode> {
        let team = Team::new(self.ranks, &self.device)?;
        if team.follows() {
            return team.follow();
        }
        let sizes = Sizes { megabytes: self.megabytes, seconds: self.seconds };
        let device = team.device()?;
        let measured = team.lead(|crew| {
            let ranks = crew.ranks();
            Plan::Collectives(sizes.clone()).say(ranks)?;
            match crew.group() {
                Some(group) => measure(&sizes, group, ranks),
                None => measure(&sizes, &meeting::alone(device)?, ranks),
            }
        })?;
        let report = Report {
            ranks: team.count(),
            device: super::bench::name(device),
            backend: if device == Device::Cpu { "gloo" } else { "nccl" },
            correct: true,
            sizes: measured,
        };
        if self.json {
            terminal::print_json(&report)?
        } else {
            print(&report)?
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Checks and measures. All ranks call this; what the leader gives back counts.
///
/// # Errors
/// When an operation gives wrong numbers, memory runs out or a rank is lost.
pub fn measure(sizes: &Sizes, group: &Group, ranks: Ranks) -> Result<Vec<Measured>> {
    check(group)?;
    let mut measured = Vec::new();
    for &megabytes in &sizes.megabytes {
        // The ranks take equal parts.
        let count = group.member().size as u64;
        let numbers = (megabytes * 1_000_000 / WIDTH).next_multiple_of(count);
        for operation in [Operation::Sum, Operation::ExchangeAndGather, Operation::Broadcast] {
            measured.push(operation.measure(numbers, sizes.seconds, group, ranks)?);
        }
    }
    Ok(measured)
}

/// Compares every operation with what it is to give.
fn check(group: &Group) -> Result<()> {
    let member = group.member();
    let (size, device, limit) = (member.size as i64, member.device, member.limit);
    let rank = member.rank as i64;
    let numbers = |first: i64, count: i64| -> Result<Tensor> {
        Ok(Tensor::f_arange_start(first, first + count, (Kind::Float, device))?)
    };
    // More than one block of a kernel; sums stay whole numbers of f32.
    let each = 10_000;
    let sum = numbers(rank, each)?;
    group.sum(&sum, limit)?.wait()?;
    let expected = numbers(0, each)?.f_mul_scalar(size)?.f_add_scalar(size * (size - 1) / 2)?;
    compare("sum", &sum, &expected)?;

    let told = numbers(100 * rank, each)?;
    group.broadcast(&told, member.size - 1, limit)?.wait()?;
    compare("broadcast", &told, &numbers(100 * (size - 1), each)?)?;

    let from = numbers(1000 * rank, each * size)?;
    let to = from.f_zeros_like()?;
    group.exchange(&to, &from, limit)?.wait()?;
    let parts = (0..size)
        .map(|other| numbers(1000 * other + each * rank, each))
        .collect::<Result<Vec<_>>>();
    compare("exchange", &to, &Tensor::f_cat(&parts?, 0)?)?;

    let every = from.f_zeros_like()?;
    group.gather(&every, &numbers(7 * rank, each)?, limit)?.wait()?;
    let parts = (0..size).map(|other| numbers(7 * other, each)).collect::<Result<Vec<_>>>();
    compare("gather", &every, &Tensor::f_cat(&parts?, 0)?)
}

fn compare(operation: &str, found: &Tensor, expected: &Tensor) -> Result<()> {
    if !found.f_equal(expected)? {
        let off = (found - expected).abs().max().double_value(&[]);
        bail!("{operation} over the ranks gives wrong numbers, off by up to {off}");
    }
    Ok(())
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::ExchangeAndGather => "exchange and gather",
            Self::Broadcast => "broadcast",
        }
    }

    /// What a rank sends in a ring, of all bytes.
    fn share(self, size: usize) -> f64 {
        match self {
            Self::Sum | Self::ExchangeAndGather => 2.0 * (size - 1) as f64 / size as f64,
            Self::Broadcast => f64::from(u8::from(size > 1)),
        }
    }

    fn round(self, tensor: &Tensor, parts: Option<&Tensor>, group: &Group) -> Result<()> {
        let limit = group.member().limit;
        match (self, parts) {
            (Self::ExchangeAndGather, Some(parts)) => {
                group.exchange(parts, tensor, limit)?.wait()?;
                let sums = parts.f_chunk(group.member().size as i64, 0)?;
                let mut sum = sums.first().context("there are no parts")?.shallow_clone();
                for other in &sums[1..] {
                    let _ = sum.f_add_(other)?;
                }
                group.gather(tensor, &sum, limit)?.wait()?;
            }
            (Self::Broadcast, _) => group.broadcast(tensor, 0, limit)?.wait()?,
            _ => group.sum(tensor, limit)?.wait()?,
        }
        synchronize(group.member().device);
        Ok(())
    }

    fn measure(self, numbers: u64, seconds: f64, group: &Group, ranks: Ranks) -> Result<Measured> {
        let device = group.member().device;
        // Zeros stay zeros, however often they are added up.
        let tensor = Tensor::f_zeros([numbers.cast_signed()], (Kind::Float, device))?;
        let parts = match self {
            Self::ExchangeAndGather => Some(tensor.f_zeros_like()?),
            _ => None,
        };
        let round = || {
            let begun = Instant::now();
            self.round(&tensor, parts.as_ref(), group)?;
            anyhow::Ok(begun.elapsed().as_secs_f64())
        };
        for _ in 1..WARMUP {
            round()?;
        }
        let each = round()?;
        let count = (seconds / each).ceil().clamp(LEAST as f64, 10_000.0);
        let told = ranks.tell(format!("{count}").as_bytes())?;
        let count: usize = String::from_utf8(told)?.parse().context("no number of rounds")?;
        let times = (0..count).map(|_| round()).collect::<Result<Vec<f64>>>()?;

        let median = statistics::median(&times).unwrap_or_default();
        let bytes = WIDTH * numbers;
        let rate = bytes as f64 / median;
        Ok(Measured {
            operation: self.name(),
            bytes,
            rounds: count,
            seconds: median,
            least_seconds: times.iter().copied().fold(f64::INFINITY, f64::min),
            most_seconds: times.iter().copied().fold(0.0, f64::max),
            bytes_per_second: rate,
            bus_bytes_per_second: rate * self.share(group.member().size),
        })
    }
}

fn print(report: &Report) -> Result<()> {
    let ms = |seconds: f64| format!("{:.2}", 1000.0 * seconds);
    let rate = |bytes: f64| format!("{:.2}", bytes / 1e9);
    let mut table = terminal::Table::new(&[
        "MB",
        "operation",
        "ms",
        "least",
        "most",
        "rounds",
        "GB/s",
        "GB/s of a link",
    ]);
    for one in &report.sizes {
        table.row([
            format!("{:.0}", one.bytes as f64 / 1e6),
            one.operation.to_owned(),
            ms(one.seconds),
            ms(one.least_seconds),
            ms(one.most_seconds),
            one.rounds.to_string(),
            rate(one.bytes_per_second),
            rate(one.bus_bytes_per_second),
        ]);
    }
    table.print()?;
    let Report { ranks, device, backend, .. } = report;
    let plural = if *ranks == 1 { "rank" } else { "ranks" };
    terminal::print(&format!(
        "{ranks} {plural}, {device}, {backend}: sums, broadcasts, exchanges and gathers give the known numbers"
    ))?;
    Ok(())
}
