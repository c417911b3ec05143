//! `pipeline inspect`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pictures::Chart;
use pipeline::Dataset;
use pipeline::dataset::{Overlap, Summary};
use storage::{Place, named};
use terminal::Table;

use super::count;

/// Show what a dataset holds.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pipeline inspect data/train
  pipeline inspect data/train --picture sizes.png --against data/held-out")]
pub struct Args {
    /// The dataset
    uri: Place,
    /// Draw sizes and classes as histograms
    #[arg(long, value_name = "chart.png", value_parser = storage::named::file)]
    picture: Option<PathBuf>,
    /// Look for the same photographs in another dataset
    #[arg(long, value_name = "URI")]
    against: Vec<Place>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.picture.as_deref().is_some_and(named::is_stdout) {
        terminal::leave_stdout();
    }
    let dataset = Dataset::open(&args.uri)?;
    let summary = dataset.summary()?;
    let overlaps = args
        .against
        .iter()
        .map(|uri| dataset.overlap(&Dataset::open(uri)?))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &args.picture {
        named::write(path, &chart(&summary).png()?)?;
    }
    if args.json {
        let mut json = serde_json::to_value(&summary)?;
        json["overlaps"] = serde_json::to_value(&overlaps)?;
        return terminal::print_json(&json);
    }
    print(&dataset, &summary, &overlaps)
}

fn chart(summary: &Summary) -> Chart {
    let sizes = &summary.histograms;
    let mut chart = Chart::default();
    chart.panel("images by shorter side", " pixels", &sizes.short_side.0);
    chart.panel("images by longer side", " pixels", &sizes.long_side.0);
    chart.panel("images by file", " bytes", &sizes.file_bytes.0);
    let mut classes = BTreeMap::new();
    for &images in summary.classes.values() {
        *classes.entry(images).or_default() += 1;
    }
    chart.panel("classes by images", " images", &classes);
    chart
}

fn print(dataset: &Dataset, summary: &Summary, overlaps: &[Overlap]) -> anyhow::Result<()> {
    let manifest = dataset.manifest();
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| {
        table.row([name.to_owned(), value]);
    };
    row("dataset", format!("{} {}", summary.name, summary.split));
    row("digest", summary.digest.clone());
    row("images", summary.rows.to_string());
    if let Some(how) = &summary.cut {
        row("cut", how.clone());
    }
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
        let published = match source.published {
            Some(published) => format!(" of {published} published"),
            None => String::new(),
        };
        let files = count(source.files, "file");
        let layout = &source.layout;
        row("source", format!("{} ({layout}, {files}{published}, {bytes})", source.name));
    }
    let counts = manifest.counts;
    row("duplicates", format!("{}, {} skipped", counts.duplicates, counts.duplicates_skipped));
    row("rejected", counts.rejected.to_string());
    if counts.unlabelled > 0 {
        row("without a label", counts.unlabelled.to_string());
    }
    if counts.noted > 0 {
        row("kept and listed", counts.noted.to_string());
    }
    row("turned by EXIF", summary.turned.to_string());
    if summary.copies > 0 {
        row("smaller or upright copies", summary.copies.to_string());
    }
    table.print()?;
    for overlap in overlaps {
        let images = count(overlap.images, "image");
        terminal::print(&format!("{images} also in {}", overlap.with))?;
        for (here, there) in &overlap.first {
            terminal::print(&format!("  {here} = {there}"))?;
        }
    }
    for (groups, title) in
        [(&summary.rejects, "left out because"), (&summary.noted, "stored and listed")]
    {
        if groups.is_empty() {
            continue;
        }
        let mut table = Table::new(&[title, "files", "first"]);
        for (reason, group) in groups {
            table.row([reason.clone(), count(group.files, "file"), group.first.clone()]);
        }
        table.print()?;
    }
    Ok(())
}
