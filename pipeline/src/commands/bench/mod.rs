//! `pipeline bench`: how fast loader and ingest are, and where the time goes. What is compared is
//! measured in turns within one run, since machines differ from one minute to the next.

mod ingest;
mod loader;
mod reference;

use std::path::PathBuf;

use pipeline::Shuffle;
use terminal::Usage;

/// Measure the loader, or ingest.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pipeline bench --dataset data/train --task all --threads 1,2
  pipeline bench --ingest photographs.tar")]
pub struct Args {
    /// Dataset whose images are loaded; several are mixed in equal parts
    #[arg(long, value_name = "URI", num_args = 1.., required_unless_present = "ingest")]
    dataset: Vec<storage::Place>,
    /// Order of the images: `full`, `window` or `none`
    #[arg(long, default_value = "full", value_parser = shuffle)]
    shuffle: Shuffle,
    /// A task, several in equal parts (`jpeg,inpainting`), `mixture` for the four of the paper, or
    /// `all` for every task and the mixture
    #[arg(long, default_value = "mixture")]
    task: String,
    /// Numbers of threads, such as `1,2`; 0 for all cores
    #[arg(long, default_value = "0", value_delimiter = ',')]
    threads: Vec<usize>,
    /// Side of the images in pixels
    #[arg(long, default_value_t = 256)]
    size: u32,
    /// Images in a batch
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Seconds to measure each, over all rounds
    #[arg(long, default_value_t = 5.0, value_name = "S")]
    seconds: f64,
    /// Rounds in which everything is measured in turn; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measure ingest of these archives or folders: against a copy of their bytes and a decode of each
    /// image. Writes into the folder for temporary files
    #[arg(long, value_name = "SOURCE", num_args = 1.., conflicts_with = "dataset")]
    ingest: Vec<PathBuf>,
    /// Print as JSON: an object, or a list where several are measured
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    if !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        let message = format!("--seconds is {}, allowed: more than 0, up to 3600", args.seconds);
        return Err(Usage::new(message).into());
    }
    if !(1..=1000).contains(&args.rounds) {
        return Err(Usage::new(format!("--rounds is {}, allowed: 1 to 1000", args.rounds)).into());
    }
    match args.ingest.is_empty() {
        true => loader::run(&args, &args.dataset),
        false => ingest::run(&args),
    }
}

/// An order by its name in configurations.
fn shuffle(name: &str) -> Result<Shuffle, String> {
    match name {
        "full" => Ok(Shuffle::Full),
        "window" => Ok(Shuffle::Window),
        "none" => Ok(Shuffle::None),
        _ => Err("expected one of full, window, none".to_owned()),
    }
}

/// 0 stands for all cores.
fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// The median of some (at least one) figures.
fn median(figures: &[f64]) -> f64 {
    statistics::median(figures).unwrap_or(f64::NAN)
}

/// The most memory that the process has held so far, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
