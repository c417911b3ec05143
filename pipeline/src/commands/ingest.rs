//! `pipeline ingest`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use pipeline::Dataset;
use pipeline::dataset::{Manifest, Overlap};
use pipeline::ingest::{
    self, Duplicates, Event, Holdout, IngestOptions, LayoutKind, OnDamage, ingest,
};
use storage::{NoPlace, Place, Reach, Source, local_path};
use terminal::Progress;

use super::count;

/// Read archives or folders and write a dataset.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pipeline ingest photographs --out data/train
  pipeline ingest ILSVRC2012_img_train.tar --layout imagenet-train --out data/imagenet/train
  pipeline ingest photographs --holdout 0.02 --part held-out --out data/held-out")]
pub struct Args {
    /// Archives (tar, also gzipped or packed by zstd; zip), parquet files and folders, in order; also
    /// s3://BUCKET/PATH, gs://BUCKET/PATH and https://HOST/PATH, which are read as they are downloaded
    #[arg(required = true, value_name = "SOURCE")]
    // Texts: an address that cannot be read is not to be printed with what may be secret in it.
    sources: Vec<OsString>,
    /// How the sources are laid out
    #[arg(long, default_value = "auto", value_parser = layouts())]
    layout: String,
    /// Where the dataset is made: a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX
    #[arg(long, value_name = "URI")]
    out: Place,
    /// Name of the dataset [default: that of the first source]
    #[arg(long, value_parser = storage::names::name)]
    name: Option<String>,
    /// Split, a part of the shards' names [default: what the layout stands for]
    #[arg(long, value_parser = storage::names::name)]
    split: Option<String>,
    /// Labels beside the archive: one synset a line, or the devkit (imagenet-val); or
    /// places365_val.txt (places365)
    #[arg(long, value_name = "FILE", value_parser = local_path)]
    labels: Option<PathBuf>,
    /// Names of the classes in the order of their labels, one a line
    #[arg(long, value_name = "FILE", value_parser = local_path)]
    classes: Option<PathBuf>,
    /// Take the classes and the order of their labels from another dataset, such as the train split
    #[arg(long, value_name = "URI", conflicts_with = "classes")]
    classes_from: Option<Place>,
    /// Column of parquet files that holds the labels: whole numbers or text [default: ClassLabel, else
    /// label, labels or cls]
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// Take only what is below this folder, such as train; `.` takes splits side by side for classes
    #[arg(long, value_name = "NAME")]
    split_folder: Option<String>,
    /// Store smaller copies, with this many pixels on the shorter side
    #[arg(long, value_name = "PX")]
    short_side: Option<u32>,
    /// Store upright copies of images that EXIF says are turned [default: only note it]
    #[arg(long)]
    upright: bool,
    /// JPEG quality of copies, 1 to 100
    #[arg(long, default_value_t = 95)]
    quality: u8,
    /// Close a shard after this many bytes (256 MiB by default), or after 65,536 images
    #[arg(long, value_name = "N", default_value_t = 256 << 20)]
    shard_bytes: u64,
    /// Decoding threads, 0 for all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    workers: usize,
    /// What becomes of images with the same bytes as an earlier one [default: keep in official archives, else
    /// skip]
    #[arg(long, value_enum)]
    duplicates: Option<Again>,
    /// What becomes of images that are damaged but can be decoded (libjpeg warns: cut off, corrupt codes,
    /// missing restarts); those kept are listed in rejects.parquet
    #[arg(long, value_enum, default_value = "reject")]
    on_damage: Damaged,
    /// Split the images into training and held-out ones by content; this share is held out, such as 0.02
    #[arg(long, value_name = "SHARE", requires = "part")]
    holdout: Option<f64>,
    /// Which part of the split to store
    #[arg(long, value_enum, requires = "holdout")]
    part: Option<Side>,
    /// Stop after this many images
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Replace a finished dataset at --out, once the new one is complete
    #[arg(long)]
    overwrite: bool,
    /// Seconds without a byte after which a connection to a source is given up and made again
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    source_timeout: u64,
    /// Seconds without a byte, retries included, after which the ingest ends; it goes on when it is
    /// started again
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    source_patience: u64,
    /// Take sources unencrypted (http://) from other machines too; anybody on the way can change them
    #[arg(long)]
    plain_http: bool,
    /// Another dataset to look for the same photographs in, besides those next to --out
    #[arg(long, value_name = "URI")]
    against: Vec<Place>,
    /// Print the manifest as JSON
    #[arg(long)]
    json: bool,
}

fn layouts() -> PossibleValuesParser {
    ["auto"].into_iter().chain(LayoutKind::ALL.map(LayoutKind::name)).collect::<Vec<_>>().into()
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

#[derive(Clone, Copy, ValueEnum)]
enum Damaged {
    Reject,
    Keep,
}

/// A source as it was typed; what is not UTF-8 is a path.
fn source(text: OsString) -> Result<Source, NoPlace> {
    match text.into_string() {
        Ok(text) => text.parse(),
        Err(path) => Ok(PathBuf::from(path).into()),
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let sources = args.sources.into_iter().map(source).collect::<Result<Vec<_>, _>>()?;
    let options = IngestOptions {
        layout: match args.layout.as_str() {
            "auto" => None,
            name => Some(name.parse()?),
        },
        name: args.name,
        split: args.split,
        labels: args.labels,
        classes: args.classes,
        classes_from: args.classes_from,
        label_column: args.label_column,
        split_folder: args.split_folder,
        upright: args.upright,
        short_side: args.short_side,
        quality: args.quality,
        shard_bytes: args.shard_bytes,
        workers: args.workers,
        duplicates: args.duplicates.map(|again| match again {
            Again::Skip => Duplicates::Skip,
            Again::Keep => Duplicates::Keep,
        }),
        on_damage: match args.on_damage {
            Damaged::Reject => OnDamage::Reject,
            Damaged::Keep => OnDamage::Keep,
        },
        holdout: args.holdout.zip(args.part).map(|(share, side)| Holdout {
            share,
            side: match side {
                Side::Train => ingest::Side::Train,
                Side::HeldOut => ingest::Side::HeldOut,
            },
        }),
        limit: args.limit,
        overwrite: args.overwrite,
        reach: Reach {
            stall: Duration::from_secs(args.source_timeout),
            patience: Duration::from_secs(args.source_patience),
            plain_http: args.plain_http,
        },
        ..IngestOptions::new(sources, args.out.clone())
    };
    let started = Instant::now();
    let bar: Mutex<Option<Progress>> = Mutex::new(None);
    let manifest = ingest(&options, &|event| match event {
        Event::Found { source, bytes } => {
            tracing::info!("{source} has {}; it is looked through first", terminal::bytes(bytes));
        }
        Event::Taken { source, layout, found } => {
            tracing::info!("{source} is taken for {layout}: {found}");
        }
        Event::Compared { source } => {
            tracing::info!("{source} has another time than it had: its content is compared");
        }
        Event::Note { source, note } => {
            tracing::warn!(note = true, "{source}: {note}");
        }
        Event::Resumed { shards, images } => {
            let (shards, images) = (count(shards as u64, "shard"), count(images, "image"));
            tracing::info!("goes on after {shards} with {images}");
        }
        Event::Finished => tracing::info!("{} is finished already, nothing is done", args.out),
        Event::Progress { bytes, total, images } => {
            let Ok(mut bar) = bar.lock() else { return };
            let bar = bar.get_or_insert_with(|| Progress::bytes("ingest", Some(total)));
            bar.message(count(images, "image"));
            bar.set(bytes.min(total));
        }
    })?;
    if let Ok(Some(bar)) = bar.into_inner() {
        bar.finish();
    }
    for note in notes(&manifest) {
        tracing::info!(note = true, "{note}");
    }
    for overlap in overlaps(&args.out, &args.against)? {
        let (here, there) = &overlap.first[0];
        let images = count(overlap.images, "image");
        let with = overlap.with;
        tracing::info!(note = true, "{images} also in {with}, the first is {here}, there {there}");
    }
    if args.json {
        return terminal::print_json(&manifest);
    }
    summarize(&manifest, &args.out, started)
}

fn summarize(manifest: &Manifest, out: &Place, started: Instant) -> anyhow::Result<()> {
    let elapsed = started.elapsed();
    let bytes: u64 = manifest.shards.iter().map(|shard| shard.bytes).sum();
    let counts = manifest.counts;
    terminal::print(&format!(
        "{} in {} ({}) at {out}: {} rejected, {} ({} skipped); {}, {:.0} images/s",
        count(manifest.rows, "image"),
        count(manifest.shards.len() as u64, "shard"),
        terminal::bytes(bytes),
        counts.rejected,
        count(counts.duplicates, "duplicate"),
        counts.duplicates_skipped,
        terminal::duration(elapsed),
        manifest.rows as f64 / elapsed.as_secs_f64(),
    ))?;
    if counts.noted > 0 {
        terminal::print(&format!(
            "{} stored although damaged, odd or refused by other programs",
            count(counts.noted, "image")
        ))?;
    }
    if counts.rejected + counts.duplicates_skipped + counts.noted > 0 {
        terminal::print(&format!("see `pipeline inspect {out}` for the reasons"))?;
    }
    Ok(())
}

/// Sources that have not as many images as their publisher says, and images without a label beside others.
fn notes(manifest: &Manifest) -> Vec<String> {
    let (unlabelled, images) = (manifest.counts.unlabelled, manifest.counts.accepted);
    let some = (unlabelled > 0 && unlabelled < images)
        .then(|| format!("{unlabelled} of {} have no label; theirs is -1", count(images, "image")));
    let whole = manifest.options["limit"].is_null() && manifest.options["part"].is_null();
    let counted = manifest.sources.iter().filter_map(|source| Some((source, source.published?)));
    let differs = counted.filter(|(source, published)| whole && source.files != *published);
    differs
        .map(|(source, published)| {
            format!(
                "{} has {}, {published} are published: it is a part, or images are missing",
                source.name,
                count(source.files, "image")
            )
        })
        .chain(some)
        .collect()
}

/// What a new dataset shares with those of other splits next to it, and with those named.
fn overlaps(out: &Place, against: &[Place]) -> anyhow::Result<Vec<Overlap>> {
    let dataset = Dataset::open(out)?;
    let mut overlaps = Vec::new();
    for place in dataset.neighbours()? {
        // A neighbour of another kind or version is none of ours.
        let Ok(other) = Dataset::open(&place) else { continue };
        if other.manifest().split != dataset.manifest().split && !against.contains(&place) {
            overlaps.push(dataset.overlap(&other)?);
        }
    }
    for place in against {
        overlaps.push(dataset.overlap(&Dataset::open(place)?)?);
    }
    overlaps.retain(|overlap| overlap.images > 0);
    Ok(overlaps)
}
