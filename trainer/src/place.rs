//! Where a run's checkpoints lie: a folder, or a prefix of an object store. What comes from a store
//! is kept in the house's cache.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use diffusion::checkpoint::{Checkpoint, LAST};

/// Whether the place is on this machine.
pub fn is_local(uri: &str) -> bool {
    !uri.contains("://") || uri.starts_with("file://")
}

/// The local folder of a checkpoint, fetched where it lies elsewhere.
///
/// # Errors
/// When there is no complete one.
pub fn fetch(uri: &str) -> Result<PathBuf> {
    let cache = scheduler::Home::from_env()?.checkpoint_cache();
    Ok(pipeline::folder::fetch(uri, LAST, &cache)?)
}

/// Copies a checkpoint that lies complete on this machine to a store; its address there.
///
/// # Errors
/// When the store cannot be written.
pub fn publish(checkpoint: &Checkpoint, place: &str) -> Result<String> {
    let step = Checkpoint::name(checkpoint.metadata().step);
    let uri = format!("{}/{step}", place.trim_end_matches('/'));
    pipeline::folder::publish(checkpoint.folder(), &checkpoint.files(), &uri)
        .with_context(|| format!("the checkpoint cannot be copied to {uri}"))?;
    Ok(uri)
}

/// Removes a checkpoint that the registry has let go.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(uri: &str) -> Result<()> {
    Ok(pipeline::folder::remove(uri, LAST)?)
}

/// The folder of this machine that checkpoints of a run are written to: the place itself, or one
/// beside the attempt's log from where they go on to a store.
pub fn folder(place: &str, attempt: &Path) -> PathBuf {
    if is_local(place) { PathBuf::from(place) } else { attempt.join("checkpoints") }
}

/// Removes what went on to a store from the folder that it was written to.
///
/// # Errors
/// When it cannot be removed.
pub fn clear(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder)
        .with_context(|| format!("{} cannot be removed", folder.display()))
}
