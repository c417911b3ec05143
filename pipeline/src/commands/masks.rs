//! `pipeline masks`: the masks of an evaluation, drawn once and kept beside the dataset.

use std::path::PathBuf;

use pictures::{Sheet, from_mask};
use pipeline::Dataset;
use pipeline::degrade::inpainting::bin;
use pipeline::masks::{MaskOptions, MaskSet, StoredMasks, store};
use storage::{Place, named};
use terminal::{Progress, Usage};

use super::count;

/// Store the masks of an evaluation beside a dataset.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pipeline masks data/imagenet/val
  pipeline masks data/imagenet/val --bin 20-30 --size 64 --picture masks.png")]
pub struct Args {
    /// The dataset; the masks go to its folder `masks`
    #[arg(value_name = "DATASET")]
    dataset: Place,
    /// Percent of the image that the free-form strokes cover, such as 10-20; may be repeated
    #[arg(long = "bin", value_name = "A-B", default_values = ["10-20", "20-30", "30-40"], value_parser = parse)]
    bins: Vec<[u8; 2]>,
    /// Seed of the evaluation
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Side of the masks in pixels: that of the images that they are for
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(8..=4096))]
    size: u32,
    /// Also draw the masks of the first images
    #[arg(long, value_name = "sheet.png", value_parser = storage::named::file)]
    picture: Option<PathBuf>,
}

/// Images on the picture.
const SHOWN: u64 = 12;

fn parse(text: &str) -> Result<[u8; 2], String> {
    bin(text).ok_or_else(|| "wanted is A-B in percent with 1 <= A < B <= 60".into())
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.picture.as_deref().is_some_and(named::is_stdout) {
        terminal::leave_stdout();
    }
    let dataset = Dataset::open(&args.dataset)?;
    if dataset.is_empty() {
        return Err(Usage::new(format!("{}: no image to mask", args.dataset)).into());
    }
    let Some(folder) = dataset.folder().map(|folder| folder.join("masks")) else {
        let message = format!("{}: masks are stored on this machine only", args.dataset);
        return Err(Usage::new(message).into());
    };
    let mut sets = Vec::new();
    for &bin in &args.bins {
        let wanted = StoredMasks { bin, seed: args.seed, size: args.size };
        let bar = Progress::new(&wanted.file(), Some(dataset.len()), "masks");
        let path = store(&dataset, &wanted, &folder, &|rows| bar.set(rows))?;
        bar.finish();
        terminal::print(&format!("{} in {}", count(dataset.len(), "mask"), path.display()))?;
        sets.push(MaskSet::open(&path.to_string_lossy(), MaskOptions::default())?);
    }
    let Some(picture) = args.picture else { return Ok(()) };
    let headings: Vec<_> = args.bins.iter().map(|[low, high]| format!("{low}-{high}%")).collect();
    let mut sheet = Sheet::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for row in 0..dataset.len().min(SHOWN) {
        let key = dataset.key(row)?;
        let masks = sets.iter().map(|set| set.mask(row, &key, args.size, args.size));
        let masks = masks.map(|mask| Ok(from_mask(&mask?)));
        sheet.row(key.clone(), masks.collect::<pipeline::Result<_>>()?);
    }
    Ok(named::write(&picture, &sheet.png()?)?)
}
