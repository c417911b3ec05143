//! Which images a job samples: a dataset, a part of one, or a folder of pictures. Whatever it is becomes
//! a dataset with a digest of its own, which the job names.

use std::path::Path;

use pipeline::Dataset;
use pipeline::dataset::{Choice, List, MANIFEST, parse_rows};
use pipeline::ingest::{Duplicates, Event, IngestOptions, ingest};
use storage::Place;

use crate::{Error, Result};

/// Opens the dataset, or makes it in the folder of the outputs.
///
/// # Errors
/// When it cannot be opened or made, or lacks an image of the list.
pub(super) fn select(
    place: &Place,
    list: Option<&Path>,
    rows: Option<&str>,
    out: &Place,
    tell: &dyn Fn(Event),
) -> Result<Dataset> {
    let rows = rows.map(parse_rows).transpose()?;
    let dataset = match place.local() {
        Some(folder) if folder.is_dir() && !folder.join(MANIFEST).exists() => {
            pictures(folder, &out.join("pictures")?, tell)?
        }
        _ => Dataset::open(place)
            .map_err(|error| unusable(&format!("--dataset {place} cannot be used"), &error))?,
    };
    if list.is_none() && rows.is_none() {
        return Ok(dataset);
    }
    let list = list
        .map(|path| -> Result<_> {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let list =
                List::read(path).map_err(|error| unusable("--list cannot be used", &error))?;
            Ok((list, name))
        })
        .transpose()?;
    let chosen = dataset.choose(&Choice { list, rows, ..Choice::default() })?;
    if let Some(first) = chosen.missing.first() {
        let count = chosen.missing.len();
        return Err(Error::Refused(format!(
            "--dataset {place} lacks {count} of the images of the list, the first is {first}"
        )));
    }
    let cut = out.join("chosen")?;
    dataset.cut(&chosen, &cut, "chosen", None, false)?;
    Ok(Dataset::open(&cut)?)
}

/// What was asked for cannot be used, and why.
fn unusable(what: &str, error: &pipeline::Error) -> Error {
    Error::Refused(format!("{what}: {error}"))
}

/// The pictures of a folder and of those in it as a dataset; every one, also the same picture twice.
fn pictures(folder: &Path, out: &Place, tell: &dyn Fn(Event)) -> Result<Dataset> {
    let options = IngestOptions {
        layout: Some("folder".parse()?),
        name: Some("pictures".to_owned()),
        upright: true,
        duplicates: Some(Duplicates::Keep),
        ..IngestOptions::new(vec![folder.to_owned()], out.clone())
    };
    ingest(&options, &|event| tell(event))
        .map_err(|error| unusable(&format!("--dataset {}", folder.display()), &error))?;
    let dataset = Dataset::open(out)?;
    for reject in dataset.rejects()? {
        tracing::warn!("{} is left out: {}", reject.key, reject.reason);
    }
    Ok(dataset)
}
