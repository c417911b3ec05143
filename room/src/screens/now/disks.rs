//! The room that is left where this server can look: under its home, and where runs at work keep their checkpoints.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

/// A disk of a network that does not answer is left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// A disk.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Disk {
    /// A folder on it that is used.
    pub place: String,
    /// Bytes that are free.
    pub free: u64,
    /// Bytes in all.
    pub all: u64,
    /// Less than a twentieth or 20 GB are free, as `scheduler doctor` judges.
    pub tight: bool,
}

/// One look at a time: one at a disk that does not answer keeps its thread, and no other is begun beside it.
static LOOKING: Semaphore = Semaphore::const_new(1);

/// The disks of these folders, each once, without those that are not here; none while an earlier look has no answer.
pub async fn look(folders: Vec<PathBuf>) -> Vec<Disk> {
    let Ok(turn) = LOOKING.try_acquire() else { return Vec::new() };
    let looking = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        disks(&folders)
    });
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(Ok(disks)) => disks,
        _ => Vec::new(),
    }
}

#[allow(clippy::useless_conversion, reason = "the numbers are narrower on other systems")]
fn disks(folders: &[PathBuf]) -> Vec<Disk> {
    let mut known = HashSet::new();
    let mut disks = Vec::new();
    for folder in folders {
        // What is not there yet would be made in the nearest folder above it that is.
        let Some(there) = folder.ancestors().find(|folder| folder.is_dir()) else { continue };
        if there == Path::new("/") && folder != there {
            continue;
        }
        let Ok(meta) = there.metadata() else { continue };
        let Ok(state) = statvfs(there) else { continue };
        if !known.insert(meta.dev()) {
            continue;
        }
        let unit = u64::from(state.fragment_size());
        let free = u64::from(state.blocks_available()).saturating_mul(unit);
        let all = u64::from(state.blocks()).saturating_mul(unit);
        let tight = free < all / 20 || free < 20_000_000_000;
        disks.push(Disk { place: there.display().to_string(), free, all, tight });
    }
    disks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_disk_is_named_once_and_what_is_not_here_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("a/b");
        let found =
            disks(&[folder.path().into(), inside, PathBuf::from("/no-such-folder-here/runs")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].all >= found[0].free);
    }
}
