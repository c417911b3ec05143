//! Where a run's checkpoints lie: a folder, or a prefix of an object store. What comes from a store
//! is kept in the house's cache.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use diffusion::checkpoint::{Checkpoint, LAST};
use storage::Place;

/// Opens a checkpoint: a complete folder, fetched where it lies elsewhere, or a file of exported weights.
///
/// # Errors
/// When there is none, or a damaged one.
pub fn open(place: &Place) -> Result<Checkpoint> {
    let path = match place.local().filter(|path| path.is_file()) {
        Some(file) => file.to_owned(),
        None => fetch(place)?,
    };
    Ok(Checkpoint::open(&path)?)
}

/// The local folder of a checkpoint, fetched where it lies elsewhere.
///
/// # Errors
/// When there is no complete one.
pub fn fetch(place: &Place) -> Result<PathBuf> {
    // The home is of the cache alone, and whoever submits may not be able to write there.
    if place.is_local() {
        return Ok(storage::folder::fetch(place, LAST, Path::new(""))?);
    }
    let home = home::Home::from_env()?;
    let cache = home.checkpoint_cache();
    home.make(&cache).with_context(|| format!("{} cannot be made", cache.display()))?;
    Ok(storage::folder::fetch(place, LAST, &cache)?)
}

/// Makes sure that a run's checkpoints can be kept at its place, before any is made.
///
/// # Errors
/// When it cannot be written; wrong use, with what to do, where trying again would not help.
pub fn check(place: &Place) -> Result<()> {
    let Err(error) = storage::Store::open(place).and_then(|store| store.probe()) else {
        return Ok(());
    };
    let remedy = match error.is_usage() {
        true => REMEDY,
        false => "",
    };
    Err(anyhow::Error::new(error).context(format!("checkpoints cannot be kept in {place}{remedy}")))
}

/// A run's place is chosen by whoever submits it, and written by the user of the worker.
const REMEDY: &str = " (the user of the worker must be able to write there, and the worker must have it below an \
                      --output-root or in its PALETTE_HOME: submit again with another train.checkpoint.place, \
                      or with the PALETTE_HOME of the worker)";

/// Copies a checkpoint that lies complete on this machine to a store; its address there.
///
/// # Errors
/// When the store cannot be written.
pub fn publish(checkpoint: &Checkpoint, place: &Place) -> Result<Place> {
    let place = place.join(&Checkpoint::name(checkpoint.metadata().step))?;
    storage::folder::publish(checkpoint.folder(), &checkpoint.files(), &place)
        .with_context(|| format!("the checkpoint cannot be copied to {place}"))?;
    Ok(place)
}

/// The folder of this machine that checkpoints of a run are written to: the place itself, or one
/// beside the attempt's log from where they go on to a store.
pub fn folder(place: &Place, attempt: &Path) -> PathBuf {
    place.local().map_or_else(|| attempt.join("checkpoints"), Path::to_owned)
}

/// Removes what went on to a store from the folder that it was written to.
///
/// # Errors
/// When it cannot be removed.
pub fn clear(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder)
        .with_context(|| format!("{} cannot be removed", folder.display()))
}
