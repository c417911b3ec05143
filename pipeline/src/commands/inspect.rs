//! `pipeline inspect`.

use pipeline::Dataset;
use pipeline::dataset::Summary;
use terminal::Table;

use super::count;

/// Show what a dataset holds.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the dataset
    uri: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let dataset = Dataset::open(&args.uri)?;
    let summary = dataset.summary()?;
    if args.json {
        return terminal::print_json(&summary);
    }
    print(&dataset, &summary)
}

fn print(dataset: &Dataset, summary: &Summary) -> anyhow::Result<()> {
    let manifest = dataset.manifest();
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| {
        table.row([name.to_owned(), value]);
    };
    row("dataset", format!("{} {}", summary.name, summary.split));
    row("digest", summary.digest.clone());
    row("images", summary.rows.to_string());
    row("shards", format!("{}, {}", summary.shards, terminal::bytes(summary.bytes)));
    let formats: Vec<_> =
        summary.formats.iter().map(|(format, rows)| format!("{rows} {format}")).collect();
    row("formats", formats.join(", "));
    let [short, long] = [&summary.short_side, &summary.long_side];
    row("shorter side", format!("{} to {}, median {}", short.min, short.max, short.median));
    row("longer side", format!("{} to {}, median {}", long.min, long.max, long.median));
    row("file", {
        let file = &summary.file_bytes;
        let [min, max, median] = [file.min, file.max, file.median].map(terminal::bytes);
        format!("{min} to {max}, median {median}")
    });
    match summary.classes.len() {
        0 => row("classes", "none".into()),
        classes => {
            let (min, max) = (summary.classes.values().min(), summary.classes.values().max());
            let (min, max) = (min.copied().unwrap_or(0), max.copied().unwrap_or(0));
            row("classes", format!("{classes}, {min} to {max} images each"));
        }
    }
    for source in &manifest.sources {
        let bytes = terminal::bytes(source.bytes);
        row("source", format!("{} ({}, {bytes})", source.name, source.layout));
    }
    let counts = manifest.counts;
    row("duplicates", format!("{}, {} skipped", counts.duplicates, counts.duplicates_skipped));
    row("rejected", counts.rejected.to_string());
    table.print()?;
    if !summary.rejects.is_empty() {
        let mut table = Table::new(&["left out because", "files", "first"]);
        for (reason, group) in &summary.rejects {
            table.row([reason.clone(), count(group.files, "file"), group.first.clone()]);
        }
        table.print()?;
    }
    Ok(())
}
