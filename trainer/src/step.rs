//! A training step, and what steps cost on its way from the device: what `trainer run` does and
//! `trainer bench` measures.
//!
//! Nothing in here waits for the device, but for the costs of a step long past: what a step cost is
//! copied to the host beside the steps that follow, and read when it is there. At most [`AHEAD`] steps
//! are queued whose cost is not read yet, so the host does not run away from the device.

use std::collections::VecDeque;

use anyhow::Result;
use pipeline::Batch;

use crate::learner::Learner;
use crate::watch::{Cost, Costs, Part};

/// Steps whose costs may be unread when the next one is begun.
const AHEAD: usize = 2;

/// The stages of a step. The first three come once for each part of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Images and all that is drawn for them go to the device.
    Prepare,
    /// The loss.
    Forward,
    /// Its gradients.
    Backward,
    /// Adam.
    Optimizer,
    /// The moving averages.
    Averages,
}

/// Makes steps and keeps what they cost until it is read.
#[derive(Default)]
pub struct Steps {
    pending: VecDeque<Cost>,
}

impl Steps {
    /// One step: the gradients of one global batch, in parts where it does not fit at once, then
    /// optimizer and averages. Returns the learning rate; `done` hears of every stage that is queued.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn make(
        &mut self,
        learner: &mut Learner,
        batch: &Batch,
        done: &mut dyn FnMut(Stage),
    ) -> Result<f64> {
        let config = learner.config();
        let (size, whole) = (config.at_once(), config.batch_size as f64);
        let mut parts = Vec::with_capacity(batch.size.div_ceil(size));
        for from in (0..batch.size).step_by(size) {
            let range = from..(from + size).min(batch.size);
            let staged = learner.stage(batch, range.clone())?;
            done(Stage::Prepare);
            let losses = learner.loss(&staged)?;
            done(Stage::Forward);
            learner.gradients(&losses.loss, range.len() as f64 / whole)?;
            done(Stage::Backward);
            parts.push(Part::of(losses, batch, range));
        }
        let (rate, norm) = learner.update()?;
        done(Stage::Optimizer);
        learner.average()?;
        done(Stage::Averages);
        self.pending.push_back(Cost::new(learner.step(), parts, &norm)?);
        Ok(rate)
    }

    /// What the oldest unread step cost, if that is there. Waits for it where more than [`AHEAD`] are
    /// unread, and with `all` for every one.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&mut self, all: bool) -> Result<Option<Costs>> {
        next(&mut self.pending, all, Cost::ready)?.map(Cost::read).transpose()
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
