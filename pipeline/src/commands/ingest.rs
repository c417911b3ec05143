//! `pipeline ingest`.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use clap::ValueEnum;
use pipeline::ingest::{self, Duplicates, Event, IngestOptions, LayoutKind, Part, ingest};
use terminal::Progress;

use super::count;

/// Read archives or folders and write a dataset.
#[derive(clap::Args)]
pub struct Args {
    /// Archives (.tar) and folders, in order
    #[arg(required = true)]
    sources: Vec<PathBuf>,
    /// How the sources are laid out
    #[arg(long, value_enum, default_value_t = Layout::Auto)]
    layout: Layout,
    /// Folder of the dataset
    #[arg(long, value_name = "URI")]
    out: String,
    /// Name of the dataset [default: that of the first source]
    #[arg(long)]
    name: Option<String>,
    /// Split, a part of the shards' names [default: train, or val for imagenet-val]
    #[arg(long)]
    split: Option<String>,
    /// One synset a line in order of file number (imagenet-val)
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Store smaller copies with this many pixels on the shorter side
    #[arg(long, value_name = "PX")]
    short_side: Option<u32>,
    /// JPEG quality of the smaller copies
    #[arg(long, default_value_t = 95, requires = "short_side")]
    quality: u8,
    /// Bytes after which a shard is closed
    #[arg(long, value_name = "N", default_value_t = 256 << 20)]
    shard_bytes: u64,
    /// Decoding threads, 0 for all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    workers: usize,
    /// Images with the very bytes of an earlier one [default: keep in official archives, else skip]
    #[arg(long, value_enum)]
    duplicates: Option<Again>,
    /// Cut the images into training and held-out ones by content; this share is held out
    #[arg(long, value_name = "SHARE", requires = "part")]
    holdout: Option<f64>,
    /// Side of the cut to store
    #[arg(long, value_enum, requires = "holdout")]
    part: Option<Side>,
    /// Stop after this many images
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Replace a finished dataset in the folder, once the new one is complete
    #[arg(long)]
    overwrite: bool,
    /// Print the manifest as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Layout {
    Auto,
    ImagenetTrain,
    ImagenetVal,
    Places365,
    Folder,
    Webdataset,
    Parquet,
}

#[derive(Clone, Copy, ValueEnum)]
enum Side {
    Train,
    HeldOut,
}

#[derive(Clone, Copy, ValueEnum)]
enum Again {
    Skip,
    Keep,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let options = IngestOptions {
        layout: match args.layout {
            Layout::Auto => None,
            Layout::ImagenetTrain => Some(LayoutKind::ImagenetTrain),
            Layout::ImagenetVal => Some(LayoutKind::ImagenetVal),
            Layout::Places365 => Some(LayoutKind::Places365),
            Layout::Folder => Some(LayoutKind::Folder),
            Layout::Webdataset => Some(LayoutKind::WebDataset),
            Layout::Parquet => Some(LayoutKind::Parquet),
        },
        name: args.name,
        split: args.split,
        labels: args.labels,
        short_side: args.short_side,
        quality: args.quality,
        shard_bytes: args.shard_bytes,
        workers: args.workers,
        duplicates: args.duplicates.map(|again| match again {
            Again::Skip => Duplicates::Skip,
            Again::Keep => Duplicates::Keep,
        }),
        part: args.holdout.zip(args.part).map(|(held_out, side)| Part {
            held_out,
            side: match side {
                Side::Train => ingest::Side::Train,
                Side::HeldOut => ingest::Side::HeldOut,
            },
        }),
        limit: args.limit,
        overwrite: args.overwrite,
        ..IngestOptions::new(args.sources, args.out.clone())
    };
    let started = Instant::now();
    let bar: Mutex<Option<Progress>> = Mutex::new(None);
    let manifest = ingest(&options, &|event| match event {
        Event::Taken { source, layout, found } => {
            eprintln!("{} is taken for {layout}: {found}", source.display());
        }
        Event::Progress { bytes, total, images } => {
            let Ok(mut bar) = bar.lock() else { return };
            let bar = bar.get_or_insert_with(|| Progress::new("ingest", Some(total / 1000), "kB"));
            bar.message(count(images, "image"));
            bar.set(bytes.min(total) / 1000);
        }
    })?;
    if let Ok(Some(bar)) = bar.into_inner() {
        bar.finish();
    }
    if args.json {
        return terminal::print_json(&manifest);
    }
    let elapsed = started.elapsed();
    let bytes: u64 = manifest.shards.iter().map(|shard| shard.bytes).sum();
    let counts = manifest.counts;
    terminal::print(&format!(
        "{} in {} ({}) at {}: {} rejected, {} ({} skipped); {}, {:.0} images/s",
        count(manifest.rows, "image"),
        count(manifest.shards.len() as u64, "shard"),
        terminal::bytes(bytes),
        args.out,
        counts.rejected,
        count(counts.duplicates, "duplicate"),
        counts.duplicates_skipped,
        terminal::duration(elapsed),
        manifest.rows as f64 / elapsed.as_secs_f64(),
    ))?;
    if counts.rejected + counts.duplicates_skipped > 0 {
        terminal::print(&format!("see `pipeline inspect {}` for the reasons", args.out))?;
    }
    Ok(())
}
