//! `--from RUN@STEP`: a run that begins with the whole state of another run's checkpoint, the weights, the
//! averages, Adam's moments and the place in the data, and goes on from there with what is changed.

use anyhow::Context;
use contracts::Experiment;
use diffusion::checkpoint::Checkpoint;
use pipeline::check_generation;
use registry::{Blocking, CheckpointKind, CheckpointRecord, Fork, Run, RunRef, run_folder};
use storage::Place;
use terminal::Usage;

use crate::{init, place};

/// The longest name of an experiment, in bytes.
const LONGEST_NAME: usize = 100;

/// The checkpoint that a fork begins with.
pub struct Parent {
    /// Its run.
    pub run: Run,
    registered: registry::Checkpoint,
    place: Place,
    checkpoint: Checkpoint,
}

impl Parent {
    /// Finds the checkpoint and opens it.
    ///
    /// # Errors
    /// When there is none, it is damaged, or no run can go on from it.
    pub fn find(reference: &RunRef) -> anyhow::Result<Self> {
        let db = Blocking::open()?;
        let (run, registered) = db.wait(db.checkpoint(reference))?;
        let place = Place::stored(&registered.uri).map_err(storage::Error::from)?;
        let checkpoint =
            place::open(&place).with_context(|| Usage::new(format!("--from {reference}")))?;
        if checkpoint.digest() != registered.digest {
            let message = format!("--from {reference}: {place} is not what was registered");
            return Err(Usage::new(message).into());
        }
        checkpoint.check_resumable().map_err(Usage::of)?;
        Ok(Self { run, registered, place, checkpoint })
    }

    /// Its step.
    pub fn step(&self) -> u64 {
        self.checkpoint.metadata().step
    }

    /// The experiment of the run with what is changed; its name too, unless that is among it.
    ///
    /// # Errors
    /// Names the key.
    pub fn changed(&self, sets: &[String]) -> anyhow::Result<Experiment> {
        let stored = Experiment::from_json(&self.run.config).map_err(Usage::of)?;
        let stored = Experiment { name: self.fork_name(), ..stored };
        Ok(stored.changed(&format!("run {}", self.run.short), sets).map_err(Usage::of)?)
    }

    /// How a fork is called that says no name of its own.
    fn fork_name(&self) -> String {
        let end = format!("-from-{}", self.step());
        let mut name = self.run.name.clone();
        while name.len() + end.len() > LONGEST_NAME {
            name.pop();
        }
        name + &end
    }

    /// Refuses an experiment that cannot go on from the checkpoint.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self, experiment: &Experiment) -> anyhow::Result<()> {
        let metadata = self.checkpoint.metadata();
        let (short, step) = (&self.run.short, self.step());
        init::check(experiment, &self.place, metadata)?;
        if metadata.averages != experiment.train.ema.0 {
            return Err(Usage::new(format!(
                "train.ema is {:?} in the checkpoint of step {step} of run {short} and {:?} here: a run that \
                 goes on keeps its averages; to change them start from its weights, train.init = \"{}\"",
                metadata.averages, experiment.train.ema.0, self.place
            ))
            .into());
        }
        check_generation(&experiment.data, metadata.stream)?;
        if experiment.train.steps <= step {
            return Err(Usage::new(format!(
                "train.steps is {}, and the checkpoint of run {short} has made {step} already: say how many \
                 it makes in all, --set train.steps={}",
                experiment.train.steps,
                step.saturating_mul(2).max(1)
            ))
            .into());
        }
        Ok(())
    }

    /// Copies the checkpoint into the folder of a new run, which is under this place or in the house; gives
    /// what is registered of it, and that folder.
    ///
    /// # Errors
    /// When a file is not the one that was written, or cannot be copied.
    pub fn copy(&self, under: Option<&str>) -> anyhow::Result<(Fork, String)> {
        self.checkpoint.verify().map_err(Usage::of)?;
        let id = {
            let db = Blocking::open()?;
            db.wait(db.new_run_id())?
        };
        let folder = run_folder(&id, under)?;
        let copy = place::publish(&self.checkpoint, &Place::stored(&folder)?)?;
        let checkpoint = CheckpointRecord {
            step: self.registered.step,
            kind: CheckpointKind::Regular,
            uri: copy.to_string(),
            bytes: self.registered.bytes,
            digest: self.registered.digest.clone(),
            metrics: serde_json::from_value(self.registered.metrics.clone()).unwrap_or_default(),
        };
        Ok((Fork { run: id, parent: self.run.id, checkpoint }, folder))
    }
}

/// What was submitted; the copies of checkpoints are removed where no run was made for them.
///
/// # Errors
/// Those of the submission; when a copy cannot be removed.
pub fn settled<T>(
    copies: &[Fork],
    submitted: registry::Result<T>,
    existed: impl Fn(&T) -> bool,
) -> anyhow::Result<T> {
    if submitted.as_ref().map_or(true, existed) {
        for fork in copies {
            place::remove(&fork.checkpoint.uri)?;
        }
    }
    Ok(submitted?)
}
