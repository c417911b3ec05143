//! `pipeline bench`: how fast the loader is, and where its time goes.

use std::time::{Duration, Instant};

use pipeline::{Crop, DataConfig, DatasetRef, Loader, Stream, Task};
use serde::Serialize;
use terminal::{Table, Usage};

/// Measure the loader.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the dataset
    #[arg(long, value_name = "URI")]
    dataset: String,
    /// A task, or `mixture` for all four in equal parts
    #[arg(long, default_value = "mixture")]
    task: String,
    /// Threads, 0 for all cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Side of the images
    #[arg(long, default_value_t = 256)]
    size: u32,
    /// Images in a batch
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// How long to measure
    #[arg(long, default_value_t = 5.0, value_name = "S")]
    seconds: f64,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Serialize)]
struct Report {
    dataset: String,
    task: String,
    image_size: u32,
    threads: usize,
    images: u64,
    seconds: f64,
    images_per_second: f64,
    /// Milliseconds of one thread an image.
    read_ms: f64,
    decode_ms: f64,
    resize_ms: f64,
    degrade_ms: f64,
    /// Share of the time that the consumer waited.
    wait_share: f64,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let report = measure(&args)?;
    if args.json {
        return terminal::print_json(&report);
    }
    let mut table = Table::new(&[
        "task",
        "size",
        "threads",
        "images/s",
        "read ms",
        "decode ms",
        "resize ms",
        "degrade ms",
        "wait",
    ]);
    table.row([
        report.task.clone(),
        report.image_size.to_string(),
        report.threads.to_string(),
        format!("{:.0}", report.images_per_second),
        format!("{:.3}", report.read_ms),
        format!("{:.3}", report.decode_ms),
        format!("{:.3}", report.resize_ms),
        format!("{:.3}", report.degrade_ms),
        format!("{:.0}%", 100.0 * report.wait_share),
    ]);
    table.print()
}

fn measure(args: &Args) -> anyhow::Result<Report> {
    let tasks: Vec<Task> = match args.task.as_str() {
        "mixture" => Task::ALL.into(),
        task => vec![task.parse()?],
    };
    if !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        let message = format!("--seconds is {}, allowed: more than 0, up to 3600", args.seconds);
        return Err(Usage::new(message).into());
    }
    let threads = match args.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let config = DataConfig {
        datasets: vec![DatasetRef { uri: args.dataset.clone(), weight: 1.0 }],
        image_size: args.size,
        crop: Crop::Random,
        flip: true,
        tasks: tasks.into_iter().map(|task| (task, 1.0)).collect(),
        threads,
        ..DataConfig::default()
    };
    let stream = Stream { seed: 0, batch_size: args.batch, first_batch: 0, rank: 0, world_size: 1 };
    let mut loader = Loader::start(&config, stream)?;
    loader.next_batch()?;
    let (before, waited) = (loader.stages(), loader.waited());
    let started = Instant::now();
    let mut images = 0;
    while started.elapsed().as_secs_f64() < args.seconds {
        images += loader.next_batch()?.size as u64;
    }
    let elapsed = started.elapsed();
    let after = loader.stages();
    // The threads are ahead of the consumer by what is prefetched, at both ends about equally.
    let each = |after: Duration, before: Duration| {
        (after - before).as_secs_f64() * 1000.0 / images.max(1) as f64
    };
    Ok(Report {
        dataset: args.dataset.clone(),
        task: args.task.clone(),
        image_size: args.size,
        threads,
        images,
        seconds: elapsed.as_secs_f64(),
        images_per_second: images as f64 / elapsed.as_secs_f64(),
        read_ms: each(after.read, before.read),
        decode_ms: each(after.decode, before.decode),
        resize_ms: each(after.resize, before.resize),
        degrade_ms: each(after.degrade, before.degrade),
        wait_share: (loader.waited() - waited).as_secs_f64() / elapsed.as_secs_f64(),
    })
}
