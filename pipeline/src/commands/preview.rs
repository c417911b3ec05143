//! `pipeline preview`: what a configuration feeds a network with, as a picture.

use std::path::PathBuf;

use anyhow::Context;
use pictures::{Sheet, from_batch, from_mask};
use pipeline::{DataConfig, DatasetRef, Loader, Stream, Task};
use storage::{Place, named};
use terminal::Usage;

/// A configuration is text that people write; more than this is something else.
const LARGEST_CONFIGURATION: u64 = 1 << 20;

/// Draw source, mask and target of a configuration side by side.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pipeline preview configs/paper/colorization.toml --out preview.png
  pipeline preview --dataset data/train --task inpainting --out preview.png")]
pub struct Args {
    /// Experiment file; its table [data] is read [default: the paper's numbers]
    #[arg(required_unless_present = "dataset")]
    config: Option<PathBuf>,
    /// The picture
    #[arg(long, value_name = "sheet.png", value_parser = storage::named::file)]
    out: PathBuf,
    /// Images to show
    #[arg(long, default_value_t = 8)]
    count: usize,
    /// Seed of order and degradations
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Dataset to take in place of the configured ones
    #[arg(long, value_name = "URI")]
    dataset: Option<Place>,
    /// Task to show in place of the configured mixture
    #[arg(long)]
    task: Option<Task>,
    /// Change a value of the configuration, such as data.image_size=64
    #[arg(long = "set", value_name = "a.b=v")]
    set: Vec<String>,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    if named::is_stdout(&args.out) {
        terminal::leave_stdout();
    }
    let config = configuration(&args)?;
    if !(1..=200).contains(&args.count) {
        return Err(Usage::new(format!("--count is {}, allowed: 1 to 200", args.count)).into());
    }
    let stream =
        Stream { seed: args.seed, batch_size: args.count, first_batch: 0, rank: 0, world_size: 1 };
    let mut loader = Loader::start(&config, stream)?;
    let batch = loader.next_batch()?;
    let mut sheet = Sheet::new(&["source", "mask", "target"]);
    let (width, height) = (batch.width as u32, batch.height as u32);
    let plane = batch.width * batch.height;
    for image in 0..batch.size {
        let picture = |images| from_batch(images, image, (batch.height, batch.width));
        let mask = batch.mask[image * plane..(image + 1) * plane].to_vec();
        let mask = image::GrayImage::from_raw(width, height, mask).unwrap_or_default();
        let task = batch.tasks[image];
        let hole = 100.0 * pipeline::degrade::area(&mask);
        let drawn = if task.has_hole() { format!(", {hole:.0}% hole") } else { String::new() };
        let label = format!("{task}{drawn}\n{}", batch.keys[image]);
        sheet.row(label, vec![picture(&batch.source), from_mask(&mask), picture(&batch.target)]);
    }
    let pages = sheet.png_pages()?;
    if pages.len() > 1 && !named::is_file(&args.out) {
        let (out, pages) = (args.out.display(), pages.len());
        let message = format!(
            "--out {out} takes one page, and these are {pages}: lower --count or name a file"
        );
        return Err(Usage::new(message).into());
    }
    for (number, bytes) in pages.iter().enumerate() {
        named::write(&pictures::page(&args.out, number), bytes)?;
    }
    for error in &loader.skipped().first {
        terminal::print(&format!("skipped: {error}"))?;
    }
    let skipped = match loader.skipped().count {
        0 => String::new(),
        count => format!(", in place of {}", super::count(count, "bad image")),
    };
    let more = match pages.len() {
        1 => String::new(),
        pages => format!(" and {} more pages beside it", pages - 1),
    };
    terminal::print(&format!("{}{more} shows {} images{skipped}", args.out.display(), batch.size))
}

fn configuration(args: &Args) -> anyhow::Result<DataConfig> {
    let mut table = toml::Table::new();
    let mut file = String::from("configuration");
    if let Some(path) = &args.config {
        file = path.display().to_string();
        let text = storage::limited::read_text(path, LARGEST_CONFIGURATION)
            .with_context(|| format!("open {file}"))?;
        table = text
            .parse()
            .map_err(|error: toml::de::Error| Usage::new(format!("{file}: {}", error.message())))?;
    }
    for change in &args.set {
        set(&mut table, change)?;
    }
    let data = table.remove("data").unwrap_or_else(|| toml::Table::new().into());
    let mut config: DataConfig = data.try_into().map_err(|error: toml::de::Error| {
        Usage::new(format!("{file}: table [data]: {}", error.message()))
    })?;
    if let Some(uri) = &args.dataset {
        config.datasets = vec![DatasetRef { uri: uri.clone(), weight: 1.0 }];
    }
    if let Some(task) = args.task {
        config.tasks = [(task, 1.0)].into();
    } else if config.tasks.is_empty() {
        config.tasks = Task::ALL.map(|task| (task, 1.0)).into();
    }
    config.validate().map_err(|error| Usage::new(format!("{file}: {error}")))?;
    Ok(config)
}

/// Puts `a.b=value` into a table; a value that is no TOML is taken as text.
fn set(table: &mut toml::Table, change: &str) -> anyhow::Result<()> {
    let wrong = |why: &str| Usage::new(format!("--set {change}: {why}"));
    let (path, value) = change.split_once('=').ok_or_else(|| wrong("a.b=value is expected"))?;
    let value = format!("v = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| value.into());
    let mut keys: Vec<&str> = path.split('.').map(str::trim).collect();
    let last = keys.pop().unwrap_or_default();
    let mut at = table;
    for key in keys {
        at = at
            .entry(key)
            .or_insert_with(|| toml::Table::new().into())
            .as_table_mut()
            .ok_or_else(|| wrong(&format!("{key} is no table")))?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}
