//! `sampler bench`: how many images a second a reverse process gives. Images are random bytes in memory
//! and weights those that training begins with: neither has to be there, and nothing depends on them.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use contracts::Experiment;
use contracts::sampling::{ComputeArgs, Process};
use image::{GrayImage, Luma, RgbImage};
use pipeline::Task;
use pipeline::degrade::Degraded;
use serde::Serialize;
use terminal::Usage;

use super::computing;
use crate::design::Design;
use crate::network::{Item, Network, SeededSampling};

#[derive(Args)]
#[command(after_help = "\
Examples:
  sampler bench configs/small/colorization.toml --process ddim --steps 50")]
pub struct Bench {
    /// Experiment, a TOML file: its network, its objective, the size of its images.
    config: PathBuf,
    #[command(flatten)]
    process: Process,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Images that are restored one after the other where a batch holds fewer [default: a batch].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    images: Option<u32>,
    /// Threads of libtorch, 0 for all cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: i32,
    /// Seconds to measure, three rounds at least.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    seconds: f64,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Measured {
    process: String,
    steps: u64,
    batch: usize,
    images: usize,
    threads: i32,
    device: String,
    precision: String,
    rounds: usize,
    /// Median of the rounds.
    seconds: f64,
    images_per_second: f64,
    peak_memory_bytes: u64,
}

impl Bench {
    pub fn run(self) -> Result<()> {
        let sampling = self.process.config()?;
        let experiment = Experiment::load(&self.config, &[]).map_err(Usage::of)?;
        if self.threads > 0 {
            tch::set_num_threads(self.threads);
        }
        let computing = computing(self.compute)?;
        let device = computing.device;
        let image_size = experiment.size();
        let [height, width] = image_size;
        let Experiment { model, diffusion, .. } = experiment;
        let design = Design { model, diffusion, image_size };
        let network = Network::untrained(design, computing)?;
        let images = self.images.map_or(network.batch(), |images| images as usize);
        let items: Vec<Item> = (0..images).map(|number| item(number, width, height)).collect();
        let seeded = SeededSampling { seed: 0, sampling: &sampling };

        let mut times = Vec::new();
        let mut started = Instant::now();
        // The first round is not counted.
        while times.len() < 4 || started.elapsed().as_secs_f64() < self.seconds {
            let at = Instant::now();
            network.restore(&items, seeded, &mut |_, _| std::ops::ControlFlow::Continue(()))?;
            times.push(at.elapsed().as_secs_f64());
            if times.len() == 1 {
                started = Instant::now();
            }
        }
        let times = times.split_off(1);
        let seconds = statistics::median(&times).context("nothing was measured")?;
        let measured = Measured {
            process: sampling.method.name().to_owned(),
            steps: network.steps(&sampling),
            batch: network.batch().min(images),
            images,
            threads: tch::get_num_threads(),
            device: contracts::device::name(device),
            precision: network.precision().to_string(),
            rounds: times.len(),
            seconds,
            images_per_second: images as f64 / seconds,
            peak_memory_bytes: torch_ext::memory(device)?.peak,
        };
        if self.json {
            return terminal::print_json(&measured);
        }
        terminal::print(&format!(
            "{} {} steps, batch {}, {} threads, {} in {}: {:.3} images/s ({:.1} a second and step), peak \
             memory {}",
            measured.process,
            measured.steps,
            measured.batch,
            measured.threads,
            measured.device,
            measured.precision,
            measured.images_per_second,
            measured.images_per_second * measured.steps as f64,
            terminal::bytes(measured.peak_memory_bytes)
        ))
    }
}

/// Inpainting of the middle: what a hole costs is counted.
fn item(number: usize, width: u32, height: u32) -> Item {
    let source = RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0_u32, 1, 2].map(|c| (x * 7 + y * 13 + c * 31 + number as u32 * 17) as u8))
    });
    let inside = |at: u32, side: u32| (side / 4..side - side / 4).contains(&at);
    let mask = GrayImage::from_fn(width, height, |x, y| {
        Luma([u8::from(inside(x, width) && inside(y, height))])
    });
    let degraded = Degraded::hole(&source, mask);
    Item { task: Task::Inpainting, degraded, key: number.to_string(), sample: 0 }
}
