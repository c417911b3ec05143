//! `pipeline verify`.

use pipeline::Dataset;
use storage::Place;
use terminal::{Progress, Table};

use super::count;

/// Compare every shard and every image with its digest.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pipeline verify data/train
  pipeline verify s3://datasets/places/train")]
pub struct Args {
    /// The dataset
    uri: Place,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let dataset = Dataset::open(&args.uri)?;
    let bar = Progress::new("verify", Some(dataset.len()), "images");
    let verified = dataset.verify(|| bar.inc(1))?;
    bar.finish();
    if args.json {
        terminal::print_json(&verified)?;
    } else if !verified.findings.is_empty() {
        let mut table = Table::new(&["shard", "what is wrong"]);
        for finding in &verified.findings {
            table.row([&finding.shard, &finding.message]);
        }
        table.print()?;
    } else {
        let (shards, images) = (count(verified.shards, "shard"), count(verified.images, "image"));
        terminal::print(&format!("{shards} and {images} are as their digests say"))?;
    }
    if verified.findings.is_empty() {
        return Ok(());
    }
    let findings = count(verified.findings.len() as u64, "finding");
    anyhow::bail!("dataset {}: {findings}; ingest it again or restore the shards", args.uri)
}
