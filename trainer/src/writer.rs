//! Writes checkpoints in a thread of its own while training goes on. One at a time: whoever begins
//! the next waits for the one before.

use std::path::PathBuf;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use diffusion::checkpoint::{Checkpoint, Facts, Snapshot};

/// A checkpoint that is being written, or just was, with what is to be registered of it.
struct Pending {
    thread: JoinHandle<Result<Checkpoint, diffusion::Error>>,
    last: bool,
    metrics: Vec<(String, f64)>,
}

/// A checkpoint that is complete on disk.
pub struct Written {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// True for the one at the end of the run.
    pub last: bool,
    /// Numbers of its step.
    pub metrics: Vec<(String, f64)>,
}

/// The writer of one run.
pub struct Writer {
    place: PathBuf,
    pending: Option<Pending>,
}

impl Writer {
    /// A writer of checkpoints into this folder; what a killed attempt left half-written there is
    /// removed.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn new(place: PathBuf) -> Result<Self> {
        let context = || format!("checkpoints cannot be kept in {}", place.display());
        std::fs::create_dir_all(&place).with_context(context)?;
        for entry in std::fs::read_dir(&place).with_context(context)? {
            let entry = entry.with_context(context)?;
            if entry.file_name().to_string_lossy().starts_with(".step-") {
                std::fs::remove_dir_all(entry.path()).with_context(context)?;
            }
        }
        Ok(Self { place, pending: None })
    }

    /// Begins to write; the one before must have been taken by `wait`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn begin(
        &mut self,
        snapshot: Snapshot,
        facts: Facts,
        last: bool,
        metrics: Vec<(String, f64)>,
    ) -> Result<()> {
        let place = self.place.clone();
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || Checkpoint::write(&place, &snapshot, facts))
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
        let checkpoint = thread
            .join()
            .map_err(|_| anyhow!("the thread that wrote the checkpoint panicked"))??;
        Ok(Some(Written { checkpoint, last, metrics }))
    }
}
