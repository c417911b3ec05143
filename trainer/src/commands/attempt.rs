//! One attempt at a run: from its last good checkpoint to its end or to a stop.

use std::process::ExitCode;

use anyhow::{Context, bail};
use contracts::{Experiment, TrainingJob, payload};
use diffusion::checkpoint::Checkpoint;
use registry::{Attempt, End, RunFacts};
use storage::Place;
use terminal::Usage;

use crate::data;
use crate::place;
use crate::ranks::Ranks;
use crate::shortage;
use crate::train::{Places, train};

/// `trainer attempt`: the identity comes from the worker by environment.
pub fn run() -> anyhow::Result<ExitCode> {
    Attempt::of_worker()?.make(train_attempt)
}

/// Trains what the attempt is about.
pub fn train_attempt(attempt: &Attempt) -> anyhow::Result<End> {
    payload::read::<TrainingJob>(&attempt.job().payload, "the payload of the job", "trainer")
        .map_err(Usage::of)?;
    let run = attempt.run()?;
    let mut experiment = Experiment::from_json(&run.config).map_err(Usage::of)?;
    let device = experiment.train.device.device()?;
    attempt.run_facts(RunFacts {
        device: contracts::device::name(device),
        libtorch: torch_ext::version().to_owned(),
        git_revision: None,
    })?;
    let resume = resume_point(attempt)?;
    let step = resume.as_ref().map_or(0, |checkpoint| checkpoint.metadata().step);
    experiment.settle(device, resume.as_ref().map(|checkpoint| &checkpoint.metadata().experiment));
    data::settle(&mut experiment, attempt, &run.short, step)?;
    attempt.resumed_at(step.cast_signed())?;
    if step > 0 {
        tracing::info!(step, "going on from step {step}");
    }
    let place = Place::stored(&run.uri).map_err(|error| Usage::new(error.to_string()))?;
    let places = Places { run: &place, attempt: attempt.folder() };
    let end = train(&experiment, &places, resume, device, Ranks::ALONE, attempt)
        .map_err(|error| shortage::explained(error, &experiment.train, device))?;
    if end != End::Stale {
        tell(attempt, &experiment, &run.short)?;
    }
    Ok(end)
}

/// Says where the run's newest checkpoint is, and how a picture is made with it.
fn tell(attempt: &Attempt, experiment: &Experiment, run: &str) -> anyhow::Result<()> {
    let Some(newest) = attempt.resume_point()? else { return Ok(()) };
    let task = experiment.data.tasks.iter().find(|(_, share)| **share > 0.0);
    let task = task.map(|(task, _)| task.to_string());
    tracing::info!(step = newest.step, "checkpoint of step {}: {}", newest.step, newest.uri);
    tracing::info!("to make a picture: {}", super::picture(run, task.as_deref()));
    Ok(())
}

/// The newest registered checkpoint; a registered one that is missing or damaged is an error, for
/// going on without it would silently throw work away.
fn resume_point(attempt: &Attempt) -> anyhow::Result<Option<Checkpoint>> {
    let Some(registered) = attempt.resume_point()? else { return Ok(None) };
    let checkpoint = Place::stored(&registered.uri)
        .map_err(anyhow::Error::from)
        .and_then(|place| place::open(&place))
        .with_context(|| format!("the checkpoint of step {} cannot be used", registered.step))?;
    if checkpoint.digest() != registered.digest {
        bail!("{} is not the checkpoint that was registered", registered.uri);
    }
    Ok(Some(checkpoint))
}
