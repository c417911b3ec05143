//! The loader by task and number of threads, in turns with decode and resize alone.

use std::time::{Duration, Instant};

use pipeline::{
    Crop, DataConfig, Dataset, DatasetRef, ImageSize, Loader, OnBadSample, Shuffle, Stages, Stream,
    Task,
};
use serde::Serialize;
use storage::{Place, Traffic};
use terminal::{Table, print, print_json};

use super::reference::Reference;
use super::{Args, median, peak_memory, threads};

/// What was measured of one stream on one number of threads.
#[derive(Serialize)]
struct LoaderSpeed {
    /// Its address; those of several are joined by commas.
    dataset: String,
    shuffle: Shuffle,
    task: String,
    image_size: u32,
    batch: usize,
    threads: usize,
    images: u64,
    seconds: f64,
    /// Median, least and most of the rounds.
    images_per_second: f64,
    images_per_second_min: f64,
    images_per_second_max: f64,
    /// Decode and resize alone on as many threads, and the loader's part of it, round by round.
    reference_images_per_second: f64,
    of_reference: f64,
    /// Milliseconds of one thread an image.
    read_ms: f64,
    decode_ms: f64,
    resize_ms: f64,
    degrade_ms: f64,
    /// Of object stores: requests and bytes an image, and milliseconds that a thread which decodes waited
    /// for it. What is read ahead of the consumer is counted when it is read.
    requests_per_image: f64,
    bytes_per_image: f64,
    read_wait_ms: f64,
    /// Share of the time that the consumer waited.
    wait_share: f64,
    /// Bad images in whose place others were loaded.
    skipped: u64,
    /// Of the whole process after a first turn of loading alone, so without the reference's images.
    peak_memory_bytes: Option<u64>,
}

/// A stream under measurement: sums over its turns.
struct Measured {
    task: String,
    config: DataConfig,
    batch: usize,
    next: u64,
    images: u64,
    time: Duration,
    waited: Duration,
    stages: Stages,
    /// Requests and bytes of object stores, and what the threads waited for them.
    traffic: Traffic,
    read_wait: Duration,
    skipped: u64,
    rates: Vec<f64>,
}

/// Measures and prints.
pub fn run(args: &Args, datasets: &[Place]) -> anyhow::Result<()> {
    let span = Duration::from_secs_f64(args.seconds / args.rounds as f64);
    let size = ImageSize::square(args.size);
    let mut groups = Vec::new();
    for &asked in &args.threads {
        let threads = threads(asked);
        let streams = streams(&args.task)?.into_iter();
        let streams: Vec<_> = streams
            .map(|(task, tasks)| Measured::new(args, datasets, task, &tasks, threads))
            .collect();
        groups.push((threads, streams));
    }
    for stream in groups.iter_mut().flat_map(|(_, streams)| streams) {
        stream.turn(span)?;
        *stream = stream.fresh();
    }
    let peak = peak_memory();
    let opened = datasets.iter().map(Dataset::open).collect::<pipeline::Result<Vec<_>>>()?;
    let reference = Reference::load(&opened, size)?;
    let mut references = vec![Vec::new(); groups.len()];
    for _ in 0..args.rounds {
        for ((threads, streams), rates) in groups.iter_mut().zip(&mut references) {
            rates.push(reference.images_per_second(*threads, span)?);
            for stream in streams {
                stream.turn(span)?;
            }
        }
    }
    let speeds: Vec<_> = groups
        .iter()
        .zip(&references)
        .flat_map(|((_, streams), rates)| streams.iter().map(|stream| stream.speed(rates, peak)))
        .collect();
    match speeds.as_slice() {
        [speed] if args.json => print_json(speed),
        speeds if args.json => print_json(&speeds),
        speeds => table(speeds, peak),
    }
}

/// The tasks of the paper, which `mixture` stands for.
const PAPER: [Task; 4] = [Task::Colorization, Task::Inpainting, Task::Uncropping, Task::Jpeg];

/// Names and tasks of the streams that `--task` asks for.
fn streams(asked: &str) -> anyhow::Result<Vec<(String, Vec<Task>)>> {
    let mixture = ("mixture".to_owned(), PAPER.to_vec());
    Ok(match asked {
        "mixture" => vec![mixture],
        "all" => {
            let single = Task::ALL.into_iter().map(|task| (task.to_string(), vec![task]));
            single.chain([mixture]).collect()
        }
        tasks => {
            let list = tasks.split(',').map(str::parse).collect::<pipeline::Result<_>>()?;
            vec![(tasks.to_owned(), list)]
        }
    })
}

impl Measured {
    fn new(args: &Args, datasets: &[Place], task: String, tasks: &[Task], threads: usize) -> Self {
        let config = DataConfig {
            datasets: datasets
                .iter()
                .map(|uri| DatasetRef { uri: uri.clone(), weight: 1.0 })
                .collect(),
            shuffle: args.shuffle,
            image_size: ImageSize::square(args.size),
            crop: Crop::Random,
            flip: true,
            tasks: tasks.iter().map(|&task| (task, 1.0)).collect(),
            on_bad_sample: OnBadSample::Skip,
            threads,
            ..DataConfig::default()
        };
        Self::start(task, config, args.batch)
    }

    fn start(task: String, config: DataConfig, batch: usize) -> Self {
        let (next, images, time, waited, stages) = Default::default();
        let (traffic, read_wait, skipped, rates) = Default::default();
        Self {
            task,
            config,
            batch,
            next,
            images,
            time,
            waited,
            stages,
            traffic,
            read_wait,
            skipped,
            rates,
        }
    }

    /// The same stream with nothing measured yet.
    fn fresh(&self) -> Self {
        Self::start(self.task.clone(), self.config.clone(), self.batch)
    }

    /// One turn, from where the last one ended. Its own loader, so that nothing is made ahead in the
    /// turns of others; the first batch, for which all threads start at once, is not counted.
    fn turn(&mut self, span: Duration) -> anyhow::Result<()> {
        let first_batch = self.next;
        let stream =
            Stream { seed: 0, batch_size: self.batch, first_batch, rank: 0, world_size: 1 };
        let mut loader = Loader::start(&self.config, stream)?;
        loader.next_batch()?;
        let (before, waited) = (loader.stages(), loader.waited());
        let (traffic, read_wait) = (storage::traffic(), loader.waited_for_reads());
        let started = Instant::now();
        let (mut images, mut batches) = (0, 1);
        while started.elapsed() < span {
            let batch = loader.next_batch()?;
            images += batch.size as u64;
            batches += 1;
            loader.reuse(batch);
        }
        let elapsed = started.elapsed();
        let after = loader.stages();
        let now = storage::traffic();
        self.traffic.requests += now.requests - traffic.requests;
        self.traffic.bytes += now.bytes - traffic.bytes;
        self.read_wait += loader.waited_for_reads() - read_wait;
        self.stages.read += after.read - before.read;
        self.stages.decode += after.decode - before.decode;
        self.stages.resize += after.resize - before.resize;
        self.stages.degrade += after.degrade - before.degrade;
        self.next += batches;
        self.images += images;
        self.time += elapsed;
        self.waited += loader.waited() - waited;
        self.skipped += loader.skipped().count;
        self.rates.push(images as f64 / elapsed.as_secs_f64());
        Ok(())
    }

    fn speed(&self, references: &[f64], peak_memory_bytes: Option<u64>) -> LoaderSpeed {
        // The threads are ahead of the consumer by what is in the making, at both ends alike.
        let each = |stage: Duration| stage.as_secs_f64() * 1000.0 / self.images.max(1) as f64;
        let parts: Vec<_> =
            self.rates.iter().zip(references).map(|(rate, reference)| rate / reference).collect();
        LoaderSpeed {
            dataset: self
                .config
                .datasets
                .iter()
                .map(|dataset| dataset.uri.to_string())
                .collect::<Vec<_>>()
                .join(","),
            shuffle: self.config.shuffle,
            task: self.task.clone(),
            image_size: self.config.image_size.width,
            batch: self.batch,
            threads: self.config.threads,
            images: self.images,
            seconds: self.time.as_secs_f64(),
            images_per_second: median(&self.rates),
            images_per_second_min: self.rates.iter().copied().fold(f64::INFINITY, f64::min),
            images_per_second_max: self.rates.iter().copied().fold(0.0, f64::max),
            reference_images_per_second: median(references),
            of_reference: median(&parts),
            read_ms: each(self.stages.read),
            decode_ms: each(self.stages.decode),
            resize_ms: each(self.stages.resize),
            degrade_ms: each(self.stages.degrade),
            requests_per_image: self.traffic.requests as f64 / self.images.max(1) as f64,
            bytes_per_image: self.traffic.bytes as f64 / self.images.max(1) as f64,
            read_wait_ms: each(self.read_wait),
            wait_share: self.waited.as_secs_f64() / self.time.as_secs_f64(),
            skipped: self.skipped,
            peak_memory_bytes,
        }
    }
}

fn table(speeds: &[LoaderSpeed], peak: Option<u64>) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "task",
        "size",
        "threads",
        "images/s",
        "of decode+resize",
        "read ms",
        "decode ms",
        "resize ms",
        "degrade ms",
        "requests",
        "kB",
        "read wait ms",
        "wait",
        "skipped",
    ]);
    for speed in speeds {
        table.row([
            speed.task.clone(),
            speed.image_size.to_string(),
            speed.threads.to_string(),
            format!("{:.0}", speed.images_per_second),
            format!("{:.0}%", 100.0 * speed.of_reference),
            format!("{:.3}", speed.read_ms),
            format!("{:.3}", speed.decode_ms),
            format!("{:.3}", speed.resize_ms),
            format!("{:.3}", speed.degrade_ms),
            format!("{:.2}", speed.requests_per_image),
            format!("{:.1}", speed.bytes_per_image / 1e3),
            format!("{:.3}", speed.read_wait_ms),
            format!("{:.0}%", 100.0 * speed.wait_share),
            speed.skipped.to_string(),
        ]);
    }
    table.print()?;
    match peak {
        Some(bytes) => print(&format!("peak memory {}", terminal::bytes(bytes))),
        None => Ok(()),
    }
}
