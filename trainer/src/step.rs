//! A training step, and the losses of steps on their way from the device: what `trainer run` does and
//! `trainer bench` measures.
//!
//! Nothing in here waits for the device, but for the losses of a step long past: they are copied to
//! the host beside the steps that follow, and read when they are there. At most [`AHEAD`] steps are
//! queued whose losses are not read yet, so the host does not run away from the device.

use std::collections::VecDeque;

use anyhow::Result;
use pipeline::Batch;

use crate::ranks::tally::Fare;
use crate::train_state::TrainState;
use crate::watch::{LossDownload, MicroBatch, StepLosses};

/// Steps whose losses may be unread when the next one is begun.
const AHEAD: usize = 2;

/// The stages of a step. The first three come once for each micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Images and all that is drawn for them go to the device.
    Prepare,
    /// The loss.
    Forward,
    /// Its gradients.
    Backward,
    /// What ranks say to each other: the sum of their gradients, and with `train.shard_optimizer` the weights.
    Collectives,
    /// Adam.
    Optimizer,
    /// The EMA weights.
    Ema,
}

/// What a rank tells the others with a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Word {
    /// How it fared since the step before.
    pub fare: Fare,
    /// Whether it was asked to stop: then all do.
    pub stop: bool,
}

/// Makes steps and keeps their losses until they are read.
#[derive(Default)]
pub struct Steps {
    pending: VecDeque<LossDownload>,
    /// Whether several ranks must read the losses of the same steps at the same time.
    together: bool,
}

impl Steps {
    /// Steps of one rank, or of several that decide `together`.
    pub fn new(together: bool) -> Self {
        Self { pending: VecDeque::new(), together }
    }

    /// One step: the gradients of one global batch, in micro-batches where it does not fit at once,
    /// then optimizer and EMA weights. Returns the learning rate; `done` hears of every stage that is
    /// queued.
    ///
    /// # Errors
    /// When memory runs out, or a rank is lost.
    pub fn make(
        &mut self,
        state: &mut TrainState,
        batch: &Batch,
        word: Word,
        done: &mut dyn FnMut(Stage),
    ) -> Result<f64> {
        let config = state.config();
        let whole = config.batch_size as f64;
        let mut micro_batches = Vec::new();
        for part in state.parts(batch) {
            let size = config.at_once().min(part.len()).max(1);
            state.begin_part()?;
            for from in part.clone().step_by(size) {
                let range = from..(from + size).min(part.end);
                let staged = state.stage(batch, range.clone())?;
                done(Stage::Prepare);
                let losses = state.loss(&staged)?;
                done(Stage::Forward);
                if range.end == batch.size {
                    state.expect_last()?;
                }
                state.gradients(&losses.loss, range.len() as f64 / whole)?;
                done(Stage::Backward);
                let micro_batch = MicroBatch::of(losses, batch, range.clone());
                state.tell_losses(batch, range.start, &micro_batch)?;
                micro_batches.push(micro_batch);
            }
            if part.end == batch.size {
                state.tell_rest(batch, &micro_batches, word)?;
            }
            state.end_part()?;
        }
        let updated = state.update(done)?;
        state.update_ema()?;
        done(Stage::Ema);
        self.pending.push_back(state.download(batch, &updated, micro_batches)?);
        Ok(updated.learning_rate)
    }

    /// The losses of the oldest unread step, if they are there. Waits for them where more than
    /// [`AHEAD`] are unread, and with `all` for every one.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&mut self, all: bool) -> Result<Option<StepLosses>> {
        let together = self.together;
        // On the CPU what is queued is done, on every rank.
        let ready = |oldest: &LossDownload| -> Result<bool> {
            Ok(if together { oldest.on_host() } else { oldest.ready()? })
        };
        next(&mut self.pending, all, ready)?.map(LossDownload::read).transpose()
    }
}

/// Takes the oldest of what is under way, if it is ready or to be waited for.
fn next<T>(
    pending: &mut VecDeque<T>,
    all: bool,
    ready: impl FnOnce(&T) -> Result<bool>,
) -> Result<Option<T>> {
    let wait = all || pending.len() > AHEAD;
    Ok(match pending.front() {
        Some(oldest) if wait || ready(oldest)? => pending.pop_front(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_steps_are_not_waited_for() {
        // Steps by number; those up to `done` are ready.
        let taken = |steps: &[u32], all: bool, done: u32| {
            let mut pending: VecDeque<u32> = steps.iter().copied().collect();
            let mut taken = Vec::new();
            while let Some(step) = next(&mut pending, all, |&step| Ok(step <= done)).unwrap() {
                taken.push(step);
            }
            taken
        };
        assert_eq!(taken(&[4, 5], false, 3), [0; 0]);
        assert_eq!(taken(&[4, 5], false, 4), [4]);
        assert_eq!(taken(&[4, 5], false, 5), [4, 5]);
        assert_eq!(taken(&[4, 5, 6], false, 3), [4], "a third step waits for the oldest alone");
        assert_eq!(taken(&[4, 5, 6], true, 3), [4, 5, 6]);
        assert_eq!(taken(&[], true, 3), [0; 0]);
    }
}
