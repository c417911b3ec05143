//! What the training loop sees of the world: should it stop, and where do metrics and checkpoints
//! go. The loop knows neither SQL nor processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::metrics::Metrics;
use crate::writer::Written;
use contracts::experiment::CheckpointConfig;
use registry::NewPicture;
use storage::Place;

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
    /// Records metrics of a step.
    fn metrics(&self, step: u64, values: &Metrics);
    /// Says how far the run is.
    fn progress(&self, step: u64, steps: u64, message: &str);
    /// Registers a checkpoint that is complete.
    ///
    /// # Errors
    /// When it cannot be registered.
    fn checkpoint(&self, written: &Written) -> anyhow::Result<()>;
    /// Asks which checkpoints are not to be kept any longer, and reclaims the space of those: they
    /// are let go by the registry first, then removed, then forgotten.
    ///
    /// # Errors
    /// When the registry does not answer.
    fn reclaim(&self, keep: &CheckpointConfig) -> anyhow::Result<()>;
    /// Registers pictures that lie in the run's place, and removes those that are not among the outputs of `steps`
    /// steps.
    ///
    /// # Errors
    /// When they cannot be registered.
    fn pictures(&self, new: &[NewPicture], steps: usize, run: &Place) -> anyhow::Result<()>;
    /// Says that the run went back to this step; what was recorded past it counts no more.
    ///
    /// # Errors
    /// When it cannot be recorded.
    fn went_back(&self, step: u64) -> anyhow::Result<()>;
}

/// The world of a rank that is not the first: it has none but the signals that ask it to stop.
#[derive(Default)]
pub struct Follower {
    asked: Arc<AtomicBool>,
}

impl Follower {
    /// Of a rank that somebody else started: `srun` and `torchrun` send their signals to all ranks. One that the leader
    /// started leaves them to it.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn hearing() -> anyhow::Result<Self> {
        let follower = Self::default();
        let asked = Arc::clone(&follower.asked);
        let runtime = registry::runtime()?;
        let signals = {
            let _guard = runtime.enter();
            registry::Signals::hear()?
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                signals.first(|| ()).await;
                asked.store(true, Ordering::Relaxed);
                std::future::pending::<()>().await;
            });
        })?;
        Ok(follower)
    }
}

impl Control for Follower {
    fn stop(&self) -> Option<Stop> {
        self.asked.load(Ordering::Relaxed).then_some(Stop::AtCheckpoint)
    }

    fn metrics(&self, _: u64, _: &Metrics) {}

    fn progress(&self, _: u64, _: u64, _: &str) {}

    fn checkpoint(&self, _: &Written) -> anyhow::Result<()> {
        Ok(())
    }

    fn reclaim(&self, _: &CheckpointConfig) -> anyhow::Result<()> {
        Ok(())
    }

    fn pictures(&self, _: &[NewPicture], _: usize, _: &Place) -> anyhow::Result<()> {
        Ok(())
    }

    fn went_back(&self, _: u64) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Control for registry::Attempt {
    fn stop(&self) -> Option<Stop> {
        Some(match self.stop_requested()? {
            registry::Stop::Stale => Stop::Stale,
            registry::Stop::Shutdown
            | registry::Stop::Yield
            | registry::Stop::Pause
            | registry::Stop::Cancel => Stop::AtCheckpoint,
        })
    }

    fn metrics(&self, step: u64, values: &Metrics) {
        let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.metrics(step.cast_signed(), &values);
    }

    fn progress(&self, step: u64, steps: u64, message: &str) {
        self.progress(step.cast_signed(), steps.cast_signed(), message);
    }

    fn checkpoint(&self, written: &Written) -> anyhow::Result<()> {
        use registry::{CheckpointKind, CheckpointRecord};
        let checkpoint = &written.checkpoint;
        self.checkpoint(&CheckpointRecord {
            step: checkpoint.metadata().step.cast_signed(),
            kind: if written.last { CheckpointKind::Final } else { CheckpointKind::Regular },
            uri: written.uri.to_string(),
            bytes: checkpoint.bytes().cast_signed(),
            digest: checkpoint.digest().to_owned(),
            metrics: written.metrics.iter().cloned().collect(),
        })?;
        Ok(())
    }

    fn reclaim(&self, keep: &CheckpointConfig) -> anyhow::Result<()> {
        let retention = registry::Retention {
            keep_last: keep.keep_last,
            keep_every: keep.keep_every.cast_signed(),
        };
        for checkpoint in self.retire_checkpoints(&retention)? {
            let (step, uri) = (checkpoint.step, checkpoint.uri.clone());
            match checkpoint.removal().and_then(|removal| removal.carry_out()) {
                Ok(()) => self.checkpoint_gone(step)?,
                // It stays on the list and is tried again after the next checkpoint.
                Err(error) => {
                    tracing::warn!("{uri} could not be removed: {error:#}");
                }
            }
        }
        Ok(())
    }

    fn pictures(&self, new: &[NewPicture], steps: usize, run: &Place) -> anyhow::Result<()> {
        self.pictures(new)?;
        let mut gone = Vec::new();
        for digest in self.retire_pictures(steps)? {
            match registry::pictures::remove_picture(&run.to_string(), &digest) {
                Ok(()) => gone.push(digest),
                // It stays on the list and is tried again after the next preview.
                Err(error) => tracing::warn!("a picture could not be removed: {error:#}"),
            }
        }
        if gone.is_empty() { Ok(()) } else { Ok(self.pictures_gone(&gone)?) }
    }

    fn went_back(&self, step: u64) -> anyhow::Result<()> {
        self.flush()?;
        Ok(self.resumed_at(step.cast_signed())?)
    }
}
