//! What the training loop sees of the world: should it stop, and where do numbers and checkpoints
//! go. The loop knows neither SQL nor processes.

use diffusion::checkpoint::Checkpoint;

/// Why a run has to stop before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Write a checkpoint, then stop: the run goes on later.
    AtCheckpoint,
    /// Someone else has this run by now: stop at once, write nothing.
    Stale,
}

/// The world around a training loop.
pub trait Control {
    /// Whether to stop; asked before every step, so it must be cheap.
    fn stop(&self) -> Option<Stop>;
    /// Records numbers of a step.
    fn metrics(&self, step: u64, values: &[(String, f64)]);
    /// Says how far the run is.
    fn progress(&self, step: u64, steps: u64, message: &str);
    /// Registers a checkpoint that is complete on disk.
    ///
    /// # Errors
    /// When it cannot be registered.
    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
        last: bool,
        metrics: &[(String, f64)],
    ) -> anyhow::Result<()>;
}

impl Control for scheduler::Attempt {
    fn stop(&self) -> Option<Stop> {
        Some(match self.stop_requested()? {
            scheduler::Stop::Stale => Stop::Stale,
            scheduler::Stop::Pause | scheduler::Stop::Cancel | scheduler::Stop::Shutdown => {
                Stop::AtCheckpoint
            }
        })
    }

    fn metrics(&self, step: u64, values: &[(String, f64)]) {
        let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.metrics(step.cast_signed(), &values);
    }

    fn progress(&self, step: u64, steps: u64, message: &str) {
        self.progress(step.cast_signed(), steps.cast_signed(), message);
    }

    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
        last: bool,
        metrics: &[(String, f64)],
    ) -> anyhow::Result<()> {
        use scheduler::{CheckpointKind, CheckpointRecord};
        self.checkpoint(&CheckpointRecord {
            step: checkpoint.facts().step.cast_signed(),
            kind: if last { CheckpointKind::Final } else { CheckpointKind::Regular },
            uri: checkpoint.folder().to_string_lossy().into_owned(),
            bytes: checkpoint.bytes().cast_signed(),
            digest: checkpoint.digest().to_owned(),
            metrics: metrics.iter().cloned().collect(),
        })?;
        Ok(())
    }
}
