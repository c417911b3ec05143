//! `--from RUN@STEP`: a run that begins with the whole state of another run's checkpoint, the weights, the
//! averages, Adam's moments and the place in the data, and goes on from there with what is changed.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use contracts::Experiment;
use diffusion::checkpoint::{Checkpoint, LAST};
use pipeline::check_generation;
use registry::{Blocking, CheckpointKind, CheckpointRecord, Fork, Run, RunRef, run_folder};
use serde_json::Value;
use storage::Place;
use terminal::Usage;

use crate::{init, place};

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
        let checkpoint = place::open(&place).with_context(|| {
            Usage::new(format!(
                "--from {reference}: its files cannot be used (`scheduler checkpoints {}` lists others)",
                run.short
            ))
        })?;
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
    pub fn fork_name(&self) -> String {
        let end = format!("-from-{}", self.step());
        storage::names::with_end(&storage::names::fitted(&self.run.name), &end)
    }

    /// Refuses an experiment that cannot go on from the checkpoint.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self, experiment: &Experiment) -> anyhow::Result<()> {
        let metadata = self.checkpoint.metadata();
        let (short, step, place) = (&self.run.short, self.step(), &self.place);
        if let Some(difference) = init::difference(experiment, metadata) {
            return Err(Usage::new(format!(
                "a run that goes on keeps its network and objective, and those of step {step} of run {short} \
                 differ: {difference}; to change them start from its weights, train.init = \"{place}\""
            ))
            .into());
        }
        let began = self.run.config.pointer("/train/init").unwrap_or(&Value::Null);
        if serde_json::to_value(&experiment.train.init)? != *began {
            return Err(Usage::new(
                "--from and train.init: a run begins with the whole state of a checkpoint, or with its \
                 weights; give one of them",
            )
            .into());
        }
        if metadata.averages != experiment.train.ema.0 {
            return Err(Usage::new(format!(
                "train.ema is {:?} in the checkpoint of step {step} of run {short} and {:?} here: a run that \
                 goes on keeps its averages; to change them start from its weights, train.init = \"{place}\"",
                metadata.averages, experiment.train.ema.0
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
    /// what is registered of it, and that folder. It is among `copies` from when it begins.
    ///
    /// # Errors
    /// When a file is not the one that was written, or cannot be copied.
    pub fn copy(&self, under: Option<&str>, copies: &mut Copies) -> anyhow::Result<(Fork, String)> {
        self.checkpoint.verify().with_context(|| {
            Usage::new(format!(
                "step {} of run {short}: its files are damaged (`scheduler checkpoints {short}` lists others)",
                self.step(),
                short = self.run.short
            ))
        })?;
        let id = {
            let db = Blocking::open()?;
            db.wait(db.new_run_id())?
        };
        let folder = run_folder(&id, under)?;
        let place = Place::stored(&folder)?;
        copies.0.push(place.join(&Checkpoint::name(self.step()))?);
        let copy = place::publish(&self.checkpoint, &place).map_err(shared)?;
        let checkpoint = CheckpointRecord {
            step: self.registered.step,
            kind: CheckpointKind::Regular,
            uri: copy.to_string(),
            bytes: self.registered.bytes,
            digest: self.registered.digest.clone(),
            metrics: numbers(&self.registered.metrics),
        };
        Ok((Fork { run: id, parent: self.run.id, checkpoint }, folder))
    }
}

/// Says with a copy that the system did not allow for whom its folder must be.
fn shared(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<storage::Error>() {
        Some(denied) if denied.is_denied() => error.context(
            "a fork begins with a copy of its checkpoint, which this user makes and to which the user of the worker \
             adds: say --set train.checkpoint.place=FOLDER, a folder that both may write (docs/training.md)",
        ),
        _ => error,
    }
}

/// The metrics of a checkpoint; those that were not finite, null in JSON, are none.
fn numbers(metrics: &Value) -> BTreeMap<String, f64> {
    let all = metrics.as_object().into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
}

/// Copies of checkpoints for runs that are being submitted: removed, with the folders of the runs, unless the runs
/// were made.
#[derive(Default)]
pub struct Copies(Vec<Place>);

impl Copies {
    /// The runs were made: their copies stay.
    pub fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        for copy in &self.0 {
            // Not even begun, where its folder could not be made.
            if copy.local().is_some_and(|folder| !folder.exists()) {
                continue;
            }
            if let Err(error) = storage::folder::discard(copy, LAST) {
                tracing::warn!("{copy} is of no run and is left: {error:#}");
            }
            // The run's folder, where nothing else is in it.
            if let Some(run) = copy.local().and_then(Path::parent) {
                let _ = std::fs::remove_dir(run);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_metric_that_was_not_finite_leaves_the_others() {
        let metrics =
            numbers(&json!({ "loss": 0.5, "gradient_norm": null, "validation/loss": 0.25 }));
        assert_eq!(
            metrics,
            [("loss".to_owned(), 0.5), ("validation/loss".to_owned(), 0.25)].into()
        );
        assert!(numbers(&Value::Null).is_empty());
    }
}
