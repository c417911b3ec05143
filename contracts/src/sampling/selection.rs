//! Which images a job samples: a dataset, a part of one, or a folder of pictures. Whatever it is becomes
//! a dataset with a digest of its own, which the job names.

use std::path::Path;

use pipeline::Dataset;
use pipeline::dataset::{Choice, Chosen, List, MANIFEST, parse_rows};
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
    let part = Part::read(list, rows)?;
    let dataset = match folder_of_pictures(place) {
        Some(folder) => pictures(folder, &out.join("pictures")?, tell)?,
        None => open(place)?,
    };
    let Some(chosen) = part.of(&dataset, place)? else { return Ok(dataset) };
    let cut = out.join("chosen")?;
    dataset.cut(&chosen, &cut, "chosen", None, false)?;
    Ok(Dataset::open(&cut)?)
}

/// Refuses what [`select`] would refuse, and makes nothing. Of a folder of pictures, whose dataset is yet to be
/// made, only the list and the rows themselves are looked at.
///
/// # Errors
/// As [`select`].
pub(super) fn check(place: &Place, list: Option<&Path>, rows: Option<&str>) -> Result<()> {
    let part = Part::read(list, rows)?;
    match folder_of_pictures(place) {
        Some(_) => Ok(()),
        None => part.of(&open(place)?, place).map(|_| ()),
    }
}

/// The folder, where it is one of pictures rather than a dataset.
fn folder_of_pictures(place: &Place) -> Option<&Path> {
    place.local().filter(|folder| folder.is_dir() && !folder.join(MANIFEST).exists())
}

fn open(place: &Place) -> Result<Dataset> {
    Dataset::open(place)
        .map_err(|error| unusable(&format!("--dataset {place} cannot be used"), &error))
}

/// Which part of a dataset is asked for.
struct Part(Choice);

impl Part {
    fn read(list: Option<&Path>, rows: Option<&str>) -> Result<Self> {
        let rows = rows.map(parse_rows).transpose()?;
        let list = list
            .map(|path| -> Result<_> {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let list =
                    List::read(path).map_err(|error| unusable("--list cannot be used", &error))?;
                Ok((list, name))
            })
            .transpose()?;
        Ok(Self(Choice { list, rows, ..Choice::default() }))
    }

    /// What is chosen of a dataset; none where all of it is.
    fn of(&self, dataset: &Dataset, place: &Place) -> Result<Option<Chosen>> {
        if self.0.list.is_none() && self.0.rows.is_none() {
            return Ok(None);
        }
        let chosen = dataset.choose(&self.0)?;
        match chosen.missing.first() {
            None => Ok(Some(chosen)),
            Some(first) => {
                let list = self.0.list.as_ref().map_or("", |(_, name)| name.as_str());
                let number = chosen.missing.len();
                Err(Error::Refused(format!(
                    "--dataset {place} lacks {number} of the images of the list, the first is {first} of {list}"
                )))
            }
        }
    }
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
        tracing::info!(note = true, "{} is left out: {}", reject.key, reject.reason);
    }
    Ok(dataset)
}
