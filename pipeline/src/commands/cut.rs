//! `pipeline cut`.

use std::path::PathBuf;

use pipeline::Dataset;
use pipeline::dataset::{Choice, List, parse_rows};
use storage::Place;
use terminal::Usage;

use super::count;

/// Make some images of a dataset a dataset of their own; no image is copied.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pipeline cut data/imagenet/val --list ctest10k.txt --out data/imagenet/ctest10k
  pipeline cut data/places/val --per-class 30 --out data/places10k")]
pub struct Args {
    /// The dataset to cut
    uri: Place,
    /// Where the cut's manifest is written; the shards stay where they are
    #[arg(long, value_name = "URI")]
    out: Place,
    /// Take the images of a list, in its order: a name a line, with or without folders, and perhaps a label
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Leave out images of the list that the dataset lacks
    #[arg(long, requires = "list")]
    allow_missing: bool,
    /// Take N images of each class, drawn by --seed
    #[arg(long, value_name = "N")]
    per_class: Option<u64>,
    /// Seed of the draw
    #[arg(long, default_value_t = 0, requires = "per_class")]
    seed: u64,
    /// Take these rows of what the options above leave, the last one not included: 0..5000
    #[arg(long, value_name = "FROM..TO")]
    rows: Option<String>,
    /// Name of the cut [default: the last part of --out]
    #[arg(long, value_parser = storage::names::name)]
    name: Option<String>,
    /// Split [default: that of the dataset]
    #[arg(long, value_parser = storage::names::name)]
    split: Option<String>,
    /// Replace another cut at --out
    #[arg(long)]
    overwrite: bool,
    /// Print the manifest as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.list.is_none() && args.per_class.is_none() && args.rows.is_none() {
        return Err(Usage::new("say what to take: --list, --per-class or --rows").into());
    }
    let dataset = Dataset::open(&args.uri)?;
    let mut choice = Choice {
        per_class: args.per_class.map(|images| (images, args.seed)),
        rows: args.rows.as_deref().map(parse_rows).transpose()?,
        ..Choice::default()
    };
    if let Some(path) = &args.list {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        choice.list = Some((List::read(path)?, name));
    }
    let chosen = dataset.choose(&choice)?;
    if let Some(first) = chosen.missing.first()
        && !args.allow_missing
    {
        let missing = count(chosen.missing.len() as u64, "image");
        anyhow::bail!(
            "dataset {}: lacks {missing} of the list, the first is {first}; say --allow-missing to \
             take what is there",
            args.uri
        );
    }
    if let Some(first) = chosen.mislabelled.first() {
        let images = count(chosen.mislabelled.len() as u64, "image");
        tracing::info!(
            note = true,
            "{images} with other labels than the list's, the first: {first}"
        );
    }
    let name = args.name.as_deref().unwrap_or(args.out.name());
    let manifest = dataset.cut(&chosen, &args.out, name, args.split.as_deref(), args.overwrite)?;
    if args.json {
        return terminal::print_json(&manifest);
    }
    let missing = match chosen.missing.len() as u64 {
        0 => String::new(),
        missing => format!(", {} of the list are not in it", count(missing, "image")),
    };
    let (images, out) = (count(manifest.rows, "image"), &args.out);
    terminal::print(&format!("{images} of {} at {out}{missing}", args.uri))
}
