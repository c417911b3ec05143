//! Which images a job samples: a dataset, a part of one, or a folder of pictures. Whatever it is becomes
//! a dataset with a digest of its own, which the job names.

use std::cell::OnceCell;
use std::path::Path;

use anyhow::{Context, Result, bail};
use pipeline::Dataset;
use pipeline::dataset::{Choice, List, MANIFEST, parse_rows};
use pipeline::ingest::{Duplicates, Event, IngestOptions, ingest};
use terminal::{Progress, Usage};

/// Opens the dataset, or makes it in the folder of the outputs.
///
/// # Errors
/// When it cannot be opened or made, or lacks an image of the list.
pub fn select(uri: &str, list: Option<&Path>, rows: Option<&str>, out: &str) -> Result<Dataset> {
    let rows = rows.map(parse_rows).transpose().map_err(usage)?;
    let dataset = match Path::new(uri) {
        folder if folder.is_dir() && !folder.join(MANIFEST).exists() => {
            pictures(folder, &format!("{out}/pictures"))?
        }
        _ => Dataset::open(uri)
            .with_context(|| Usage::new(format!("--dataset {uri} cannot be used")))?,
    };
    if list.is_none() && rows.is_none() {
        return Ok(dataset);
    }
    let list = list
        .map(|path| -> Result<_> {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let list = List::read(path).with_context(|| Usage::new("--list cannot be used"))?;
            Ok((list, name))
        })
        .transpose()?;
    let chosen = dataset.choose(&Choice { list, rows, ..Choice::default() }).map_err(usage)?;
    if let Some(first) = chosen.missing.first() {
        let count = chosen.missing.len();
        bail!(Usage::new(format!(
            "--dataset {uri} lacks {count} of the images of the list, the first is {first}"
        )));
    }
    let place = format!("{out}/chosen");
    dataset.cut(&chosen, &place, "chosen", None, false).map_err(usage)?;
    Ok(Dataset::open(&place)?)
}

/// What the user's arguments are at fault for is told as such.
fn usage(error: pipeline::Error) -> anyhow::Error {
    match error.is_usage() {
        true => Usage::new(error.to_string()).into(),
        false => error.into(),
    }
}

/// The pictures of a folder and of those in it as a dataset; every one, also the same picture twice.
fn pictures(folder: &Path, out: &str) -> Result<Dataset> {
    let options = IngestOptions {
        layout: Some("folder".parse()?),
        name: Some("pictures".to_owned()),
        upright: true,
        duplicates: Some(Duplicates::Keep),
        ..IngestOptions::new(vec![folder.to_owned()], out)
    };
    let context = || Usage::new(format!("--dataset {}", folder.display()));
    let progress = OnceCell::new();
    let tell = |event: Event| {
        if let Event::Progress { bytes, total, .. } = event {
            progress.get_or_init(|| Progress::bytes("reading pictures", Some(total))).set(bytes);
        }
    };
    ingest(&options, &tell).with_context(context)?;
    if let Some(progress) = progress.get() {
        progress.finish();
    }
    let dataset = Dataset::open(out)?;
    let rejected = dataset.rejects()?;
    for reject in &rejected {
        tracing::info!(note = true, "{} is left out: {}", reject.key, reject.reason);
    }
    Ok(dataset)
}
