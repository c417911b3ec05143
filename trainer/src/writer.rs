//! Writes checkpoints in a thread of its own while training goes on. One at a time: whoever begins
//! the next waits for the one before.

use std::path::PathBuf;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use diffusion::checkpoint::{Checkpoint, Metadata, Snapshot};
use storage::Place;

use crate::metrics::Metrics;
use crate::place;

/// A checkpoint that is being written, or just was, with what is to be registered of it.
struct Pending {
    thread: JoinHandle<Result<(Checkpoint, Place)>>,
    last: bool,
    metrics: Metrics,
}

/// A checkpoint that is complete.
pub struct Written {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Where it is to be found.
    pub uri: Place,
    /// True for the one at the end of the run.
    pub last: bool,
    /// Metrics of its step.
    pub metrics: Metrics,
}

/// The writer of one run.
pub struct Writer {
    folder: PathBuf,
    place: Place,
    pending: Option<Pending>,
}

impl Writer {
    /// A writer into this folder of this machine, from where checkpoints go on to `place` if that is
    /// elsewhere. What a killed attempt left half-written in the folder is removed.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn new(folder: PathBuf, place: Place) -> Result<Self> {
        let context = || format!("checkpoints cannot be kept in {}", folder.display());
        std::fs::create_dir_all(&folder).with_context(context)?;
        for entry in std::fs::read_dir(&folder).with_context(context)? {
            let entry = entry.with_context(context)?;
            if entry.file_name().to_string_lossy().starts_with(".step-") {
                std::fs::remove_dir_all(entry.path()).with_context(context)?;
            }
        }
        Ok(Self { folder, place, pending: None })
    }

    /// Begins to write; the one before must have been taken by `wait`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn begin(
        &mut self,
        snapshot: Snapshot,
        metadata: Metadata,
        last: bool,
        metrics: Metrics,
    ) -> Result<()> {
        let (folder, place) = (self.folder.clone(), self.place.clone());
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || write(&folder, &place, &snapshot, metadata))
            .context("a thread for the checkpoint could not be started")?;
        self.pending = Some(Pending { thread, last, metrics });
        Ok(())
    }

    /// The checkpoint that was being written, if it is complete by now.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn poll(&mut self) -> Result<Option<Written>> {
        match &self.pending {
            Some(pending) if pending.thread.is_finished() => self.wait(),
            _ => Ok(None),
        }
    }

    /// Waits for the checkpoint that is being written, if there is one.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn wait(&mut self) -> Result<Option<Written>> {
        let Some(Pending { thread, last, metrics }) = self.pending.take() else { return Ok(None) };
        let (checkpoint, uri) = thread
            .join()
            .map_err(|_| anyhow!("the thread that wrote the checkpoint panicked"))??;
        Ok(Some(Written { checkpoint, uri, last, metrics }))
    }
}

fn write(
    folder: &std::path::Path,
    place: &Place,
    snapshot: &Snapshot,
    metadata: Metadata,
) -> Result<(Checkpoint, Place)> {
    let checkpoint = Checkpoint::write(folder, snapshot, metadata)?;
    if place.is_local() {
        let uri = Place::folder(checkpoint.folder())?;
        return Ok((checkpoint, uri));
    }
    let uri = place::publish(&checkpoint, place)?;
    // The store has it; here it would only take room, but for the newest, which a rewind reads.
    for entry in std::fs::read_dir(folder)?.flatten() {
        let old = entry.path() != checkpoint.folder();
        if old && entry.file_name().to_string_lossy().starts_with("step-") {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| format!("{} cannot be removed", entry.path().display()))?;
        }
    }
    Ok((checkpoint, uri))
}
