//! The folder that everything is kept in: can it be written, is there room, does a rename hold; and
//! the folders of runs that were made on this host.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use home::Home;
use nix::sys::statvfs::statvfs;
use registry::{Result, Server, WorkerInfo, url_from_env};

use super::Findings;

const AREA: &str = "storage";

pub(super) fn examine(found: &mut Findings, home: &Home) {
    // What is not there yet would be made in the nearest folder above it that is.
    let Some(place) = home.path().ancestors().find(|folder| folder.is_dir()) else { return };
    writing(found, home, place);
    if place == home.path() {
        reading(found, home);
    }
    room(found, place);
    file_system(found, place);
}

/// Whether others may look into the home.
fn reading(found: &mut Findings, home: &Home) {
    let check = "privacy";
    match home.is_open() {
        Some(warning) => found.warn(AREA, check, warning.text, warning.remedy),
        None => found.ok(AREA, check, format!("{} is kept from others", home.path().display())),
    }
}

fn writing(found: &mut Findings, home: &Home, place: &Path) {
    const SLOW: Duration = Duration::from_millis(250);
    match try_out(place) {
        Ok(took) => {
            let milliseconds = took.as_secs_f64() * 1e3;
            let text = format!(
                "{} can be written; 1 MB is safe on disk after {milliseconds:.1} ms, a rename is atomic",
                home.path().display()
            );
            if took > SLOW {
                found.warn(
                    AREA,
                    "home",
                    text,
                    "set PALETTE_HOME to a faster disk: checkpoints wait for it",
                );
            } else {
                found.ok(AREA, "home", text);
            }
        }
        // The home of the workers, as those have it who only submit to them.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && url_from_env().is_some() => {
            let text = format!("{} cannot be written by this user: {error}", place.display());
            let remedy = "enough to submit to the workers whose home it is; who runs a worker or trains in the \
                          foreground sets PALETTE_HOME to a folder that they may write";
            found.warn(AREA, "home", text, remedy);
        }
        Err(error) => {
            let text = format!("{} cannot be used: {error}", place.display());
            found.fail(AREA, "home", text, "set PALETTE_HOME to a folder that you may write");
        }
    }
}

/// Writes, syncs, renames over another file and reads again; gives how long write and sync took.
fn try_out(place: &Path) -> std::io::Result<Duration> {
    let name = |end: &str| place.join(format!(".doctor-{}-{end}", std::process::id()));
    let (fresh, target) = (Removed(name("new")), Removed(name("old")));
    let bytes = vec![7; 1_000_000];
    std::fs::write(&target.0, b"old")?;
    let began = Instant::now();
    let mut file = File::create(&fresh.0)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    let took = began.elapsed();
    std::fs::rename(&fresh.0, &target.0)?;
    File::open(place)?.sync_all()?;
    if fresh.0.exists() || std::fs::read(&target.0)? != bytes {
        return Err(std::io::Error::other("a renamed file is not what was written"));
    }
    Ok(took)
}

/// A file that is gone when this is dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[allow(clippy::useless_conversion, reason = "the numbers are narrower on other systems")]
fn room(found: &mut Findings, place: &Path) {
    let state = match statvfs(place) {
        Ok(state) => state,
        Err(error) => {
            let text = format!("the room at {} is not known: {error}", place.display());
            found.warn(AREA, "room", text, "look with `df`");
            return;
        }
    };
    let unit = u64::from(state.fragment_size());
    let free = u64::from(state.blocks_available()).saturating_mul(unit);
    let all = u64::from(state.blocks()).saturating_mul(unit);
    let text = format!(
        "{} of {} are free at {}",
        terminal::bytes(free),
        terminal::bytes(all),
        place.display()
    );
    if tight(free, all) {
        let remedy = "make room or set PALETTE_HOME to a bigger disk: a full one stops the private \
                      Postgres and every checkpoint";
        found.warn(AREA, "room", text, remedy);
    } else {
        found.ok(AREA, "room", text);
    }
}

/// True below a twentieth or 20 GB.
fn tight(free: u64, all: u64) -> bool {
    free < all / 20 || free < 20_000_000_000
}

/// File systems on which a database is not safe, or is gone after a restart.
fn file_system(found: &mut Findings, place: &Path) {
    let Some(name) = kind_of(place) else { return };
    let danger = match name {
        "nfs" => "locks and syncs of network file systems are not to be trusted with a database",
        "tmpfs" => "it is memory: everything is gone after a restart",
        "overlay" => "it is a container's own layer: everything is gone with the container",
        _ => {
            found.ok(AREA, "file system", format!("{name} at {}", place.display()));
            return;
        }
    };
    let text = format!("{} is on {name}: {danger}", place.display());
    if url_from_env().is_some() {
        found.ok(AREA, "file system", format!("{text}; the database is elsewhere"));
    } else {
        let remedy = "set PALETTE_HOME to a local disk (a volume), or DATABASE_URL to a server";
        found.warn(AREA, "file system", text, remedy);
    }
}

#[cfg(target_os = "linux")]
fn kind_of(place: &Path) -> Option<&'static str> {
    use nix::sys::statfs::{
        BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC,
        OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs,
    };
    let kind = statfs(place).ok()?.filesystem_type();
    let known = [
        (EXT4_SUPER_MAGIC, "ext4"),
        (XFS_SUPER_MAGIC, "xfs"),
        (BTRFS_SUPER_MAGIC, "btrfs"),
        (FUSE_SUPER_MAGIC, "fuse"),
        (NFS_SUPER_MAGIC, "nfs"),
        (TMPFS_MAGIC, "tmpfs"),
        (OVERLAYFS_SUPER_MAGIC, "overlay"),
    ];
    Some(
        known
            .iter()
            .find(|(magic, _)| *magic == kind)
            .map_or("another file system", |(_, name)| name),
    )
}

#[cfg(not(target_os = "linux"))]
fn kind_of(_: &Path) -> Option<&'static str> {
    None
}

/// The folders with checkpoints of runs that this host made must be there.
pub(super) async fn examine_runs(found: &mut Findings, server: &mut Server) -> Result<()> {
    let host = WorkerInfo::this_process(None, 0).host;
    let runs = server.local_runs(&host).await?;
    let gone: Vec<String> = runs
        .iter()
        .filter(|(_, folder)| !Path::new(folder).is_dir())
        .map(|(run, folder)| format!("{folder} of run {run}"))
        .collect();
    if !gone.is_empty() {
        let text = format!(
            "of {} with checkpoints that {host} made, {} lack their folder: {}",
            super::count(runs.len(), "run"),
            gone.len(),
            super::few(&gone)
        );
        let remedy = "mount the disk again or bring the folders back; nothing can go on or be sampled \
                      from them";
        found.warn(AREA, "runs", text, remedy);
    } else if !runs.is_empty() {
        let text = format!(
            "the folders of {} that {host} made are there",
            super::count(runs.len(), "run")
        );
        found.ok(AREA, "runs", text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_tight_below_a_twentieth_or_twenty_gigabytes() {
        const GB: u64 = 1_000_000_000;
        assert!(tight(19 * GB, 100 * GB));
        assert!(!tight(21 * GB, 100 * GB));
        assert!(tight(49 * GB, 1000 * GB));
        assert!(!tight(51 * GB, 1000 * GB));
    }

    #[test]
    fn a_folder_is_tried_out_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        try_out(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(try_out(&folder.path().join("missing")).is_err());
    }
}
