//! The datasets that are known: those that runs read, and those that the server was given.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pipeline::Dataset;
use pipeline::dataset::MANIFEST;
use registry::KnownDataset;
use storage::Place;
use time::OffsetDateTime;

use crate::{Answer, Refusal, Room};

/// Datasets of the registry that are looked at.
const MOST: i64 = 500;
/// For how long the list is taken for true.
const AGE: Duration = Duration::from_secs(30);
/// Folders that are looked through below one that the server was given, and how deep they are.
const FOLDERS: usize = 2000;
const DEPTH: usize = 3;

/// A dataset that is known.
#[derive(Clone, Debug)]
pub struct Known {
    /// SHA-256 of its manifest.
    pub digest: String,
    /// Its name.
    pub name: String,
    /// Where it was seen last.
    pub place: String,
    /// Images.
    pub rows: u64,
    /// Runs that read it.
    pub runs: i64,
    /// When it was recorded, where the registry knows it.
    pub recorded: Option<OffsetDateTime>,
    /// How it is.
    pub state: State,
}

/// How a dataset is.
#[derive(Clone, Debug)]
pub enum State {
    /// It is there.
    There(About),
    /// It lies in an object store, and is looked at when it is opened.
    Elsewhere,
    /// It is gone, damaged or another one; why.
    Lost(String),
}

/// What a list says of a dataset.
#[derive(Clone, Debug)]
pub struct About {
    /// Its split.
    pub split: String,
    /// Its classes.
    pub classes: usize,
    /// Bytes of its shards.
    pub bytes: u64,
    /// Shards.
    pub shards: usize,
    /// What it was made from.
    pub sources: Vec<String>,
}

/// All of them, those of the registry first; made once for all who ask.
///
/// # Errors
/// Those of the database.
pub async fn all(room: &Room) -> Answer<Arc<Vec<Known>>> {
    let make = async {
        let recorded = room.database.datasets(MOST).await?;
        let given = room.data.clone();
        room.work.short(move || Ok(look(recorded, &given))).await
    };
    room.shared.get("data.all", AGE, make).await
}

fn look(recorded: Vec<KnownDataset>, given: &[Place]) -> Vec<Known> {
    let mut all: Vec<Known> = recorded.into_iter().map(of_registry).collect();
    let mut places = BTreeMap::new();
    for place in given {
        below(place, &mut places);
    }
    for (place, opened) in places {
        let known = |digest: &str| all.iter().any(|one| one.digest == digest);
        match opened {
            Ok(dataset) if known(dataset.digest()) => {
                // The one that is there counts.
                let found = all.iter_mut().find(|one| one.digest == dataset.digest());
                if let Some(found) = found.filter(|one| !matches!(one.state, State::There(_))) {
                    (found.place, found.state) = (place, State::There(about(&dataset)));
                }
            }
            Ok(dataset) => all.push(Known {
                digest: dataset.digest().to_owned(),
                name: dataset.manifest().name.clone(),
                place,
                rows: dataset.len(),
                runs: 0,
                recorded: None,
                state: State::There(about(&dataset)),
            }),
            Err(why) => all.push(Known {
                digest: String::new(),
                name: place.clone(),
                place,
                rows: 0,
                runs: 0,
                recorded: None,
                state: State::Lost(why),
            }),
        }
    }
    all
}

fn of_registry(one: KnownDataset) -> Known {
    let state = match Place::stored(&one.uri) {
        Err(error) => State::Lost(error.to_string()),
        Ok(place) if !place.is_local() => State::Elsewhere,
        Ok(place) => match Dataset::open(&place) {
            Err(error) => State::Lost(error.to_string()),
            Ok(dataset) if dataset.digest() != one.manifest_digest => {
                State::Lost(another(&dataset))
            }
            Ok(dataset) => State::There(about(&dataset)),
        },
    };
    Known {
        digest: one.manifest_digest,
        name: one.name,
        place: one.uri,
        rows: one.rows.unsigned_abs(),
        runs: one.runs,
        recorded: Some(one.created_at),
        state,
    }
}

fn another(dataset: &Dataset) -> String {
    let digest = dataset.digest().get(..12).unwrap_or_default();
    format!("another dataset is there now, whose manifest has the sha256 {digest}…")
}

fn about(dataset: &Dataset) -> About {
    let manifest = dataset.manifest();
    About {
        split: manifest.split.clone(),
        classes: manifest.classes.len(),
        bytes: manifest.shards.iter().map(|shard| shard.bytes).sum(),
        shards: manifest.shards.len(),
        sources: manifest.sources.iter().map(|source| source.name.clone()).collect(),
    }
}

/// The dataset at a place, or those in the folders below it.
fn below(place: &Place, found: &mut BTreeMap<String, Result<Dataset, String>>) {
    let Some(folder) = place.local() else {
        found.insert(place.to_string(), Dataset::open(place).map_err(|error| error.to_string()));
        return;
    };
    let mut folders = Vec::new();
    search(folder, DEPTH, &mut folders);
    if folders.is_empty() {
        let none = format!(
            "no dataset is in it, nor in the folders below it: `pipeline ingest SOURCE --out {place}/NAME` makes one"
        );
        found.insert(place.to_string(), Err(none));
    }
    for place in folders {
        // Datasets of outputs have manifests, too; Pictures and Results show them.
        let outputs = || outputs::OutputDataset::open(&place).is_ok();
        match Dataset::open(&place) {
            Err(_) if outputs() => {}
            opened => {
                drop(found.insert(place.to_string(), opened.map_err(|error| error.to_string())))
            }
        }
    }
}

fn search(folder: &Path, depth: usize, found: &mut Vec<Place>) {
    if found.len() >= FOLDERS {
        return;
    }
    if folder.join(MANIFEST).is_file() {
        found.extend(Place::folder(folder));
        return;
    }
    if depth == 0 {
        return;
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(FOLDERS);
    let mut folders: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    folders.iter().for_each(|folder| search(folder, depth - 1, found));
}

/// The known dataset with this manifest, and what opening it gave.
///
/// # Errors
/// When none is known; when it is gone, damaged or another one.
pub async fn open(room: &Room, digest: &str) -> Answer<(Known, Arc<Dataset>)> {
    let known = find(room, digest).await?;
    let place =
        Place::stored(&known.place).map_err(|error| Refusal::conflict(error.to_string()))?;
    let expected = known.digest.clone();
    let opening = room.work.short(move || {
        let dataset =
            Dataset::open(&place).map_err(|error| Refusal::conflict(error.to_string()))?;
        match dataset.digest() == expected {
            true => Ok(dataset),
            false => Err(Refusal::conflict(format!("dataset {place}: {}", another(&dataset)))),
        }
    });
    let dataset = room.shared.get(&format!("data.open.{}", known.digest), AGE, opening).await?;
    Ok((known, dataset))
}

/// The known dataset with this manifest.
///
/// # Errors
/// When none is known.
pub async fn find(room: &Room, digest: &str) -> Answer<Known> {
    let all = all(room).await?;
    let found = all.iter().find(|one| !digest.is_empty() && one.digest == digest);
    found.cloned().ok_or_else(|| {
        Refusal::missing("no dataset with this manifest is known; /data lists those that are")
    })
}
