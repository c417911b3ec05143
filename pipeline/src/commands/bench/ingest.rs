//! Ingest, in turns with its lower bound: a plain copy of the same bytes, and one decode of each
//! image on as many threads.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Context;
use pipeline::ingest::{IngestOptions, ingest};
use pipeline::{Dataset, Place};
use serde::Serialize;
use terminal::{Table, Usage, print, print_json};

use super::{Args, median, peak_memory, threads};

/// What was measured; times are medians of the rounds, in seconds.
#[derive(Serialize)]
struct Report {
    sources: Vec<PathBuf>,
    threads: usize,
    images: u64,
    rejected: u64,
    source_bytes: u64,
    ingest_seconds: f64,
    images_per_second: f64,
    megabytes_per_second: f64,
    copy_seconds: f64,
    decode_seconds: f64,
    /// Time of ingest over that of copy and decode together, round by round.
    of_copy_and_decode: f64,
    peak_memory_bytes: Option<u64>,
}

/// Measures and prints.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let threads = match args.threads.as_slice() {
        [asked] => threads(*asked),
        _ => return Err(Usage::new("--ingest takes one number of --threads").into()),
    };
    let folder = tempfile::tempdir().context("create a temporary folder")?;
    let mut files = Vec::new();
    for source in &args.ingest {
        list(source, &mut files).with_context(|| format!("list {}", source.display()))?;
    }
    let (mut ingests, mut copies, mut decodes, mut ratios) = <[Vec<f64>; 4]>::default().into();
    let mut counts = (0, 0);
    let mut source_bytes = 0;
    for _ in 0..args.rounds {
        let out = folder.path().join("dataset");
        let place = Place::folder(&out)?;
        let started = Instant::now();
        let mut options = IngestOptions::new(args.ingest.clone(), place.clone());
        options.workers = threads;
        let manifest = ingest(&options, &|_| {})?;
        ingests.push(started.elapsed().as_secs_f64());
        counts = (manifest.rows, manifest.counts.rejected);

        let started = Instant::now();
        source_bytes = copy(&files, &folder.path().join("copy"))?;
        copies.push(started.elapsed().as_secs_f64());

        let dataset = Dataset::open(&place)?;
        // The first reading compares digests, which is no part of a decode.
        (0..dataset.len()).try_for_each(|index| dataset.photograph(index).map(drop))?;
        let started = Instant::now();
        decode(&dataset, threads)?;
        decodes.push(started.elapsed().as_secs_f64());
        std::fs::remove_dir_all(&out).context("remove the dataset of a round")?;
        let last = |times: &[f64]| times.last().copied().unwrap_or_default();
        ratios.push(last(&ingests) / (last(&copies) + last(&decodes)));
    }
    let seconds = median(&ingests);
    let report = Report {
        sources: args.ingest.clone(),
        threads,
        images: counts.0,
        rejected: counts.1,
        source_bytes,
        ingest_seconds: seconds,
        images_per_second: counts.0 as f64 / seconds,
        megabytes_per_second: source_bytes as f64 / 1e6 / seconds,
        copy_seconds: median(&copies),
        decode_seconds: median(&decodes),
        of_copy_and_decode: median(&ratios),
        peak_memory_bytes: peak_memory(),
    };
    if args.json { print_json(&report) } else { table(&report) }
}

/// All files of a source, in a fixed order.
fn list(source: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !source.is_dir() {
        files.push(source.to_owned());
        return Ok(());
    }
    let mut entries = std::fs::read_dir(source)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    entries.iter().try_for_each(|entry| list(entry, files))
}

/// Copies the bytes of all files into one, synced as shards are; gives their number.
fn copy(files: &[PathBuf], to: &Path) -> anyhow::Result<u64> {
    let mut out = File::create(to).context("create the copy")?;
    let mut sum = 0;
    for path in files {
        let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut out));
        sum += copied.with_context(|| format!("copy {}", path.display()))?;
    }
    out.sync_all().context("sync the copy")?;
    Ok(sum)
}

/// Decodes every image once.
fn decode(dataset: &Dataset, threads: usize) -> anyhow::Result<()> {
    let next = AtomicU64::new(0);
    let work = || -> pipeline::Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= dataset.len() {
                return Ok(());
            }
            std::hint::black_box(pipeline::image::decode(&dataset.photograph(index)?.1)?);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => Ok(result?),
            Err(_) => anyhow::bail!("the decoder panicked on an image that ingest took"),
        })
    })
}

fn table(report: &Report) -> anyhow::Result<()> {
    let mut table = Table::new(&["what", "seconds", "images/s", "MB/s"]);
    let megabytes = report.source_bytes as f64 / 1e6;
    for (what, seconds) in [
        ("ingest", report.ingest_seconds),
        ("copy of the bytes", report.copy_seconds),
        ("decode of each image", report.decode_seconds),
    ] {
        table.row([
            what.to_owned(),
            format!("{seconds:.3}"),
            format!("{:.0}", report.images as f64 / seconds),
            format!("{:.0}", megabytes / seconds),
        ]);
    }
    table.print()?;
    print(&format!(
        "{} images on {} threads: ingest takes {:.2} times copy and decode",
        report.images, report.threads, report.of_copy_and_decode
    ))
}
