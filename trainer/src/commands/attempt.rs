//! One attempt at a run: from its last good checkpoint to its end or to a stop.

use std::process::ExitCode;

use anyhow::{Context, bail};
use diffusion::checkpoint::Checkpoint;
use scheduler::{Attempt, Ending, RunFacts};
use tch::Device;

use crate::config::DeviceChoice;
use crate::experiment::Experiment;
use crate::place;
use crate::ranks::Ranks;
use crate::shortage;
use crate::train::{End, Places, train};

/// `trainer attempt`: the identity comes from the worker by environment.
pub fn run() -> anyhow::Result<ExitCode> {
    let attempt = Attempt::from_env()?
        .context("PALETTE_ATTEMPT is not set: this command is for workers (`scheduler worker`)")?;
    work(attempt)
}

/// Trains what the attempt is about and says how it ended.
pub fn work(attempt: Attempt) -> anyhow::Result<ExitCode> {
    let end = train_attempt(&attempt);
    let (ending, status) = match &end {
        Ok(End::Finished) => (Ending::Succeeded, ExitCode::SUCCESS),
        Ok(End::Stopped) => (Ending::Stopped, ExitCode::from(scheduler::STOPPED)),
        Ok(End::Stale) => bail!("another attempt has this run by now"),
        Err(error) => (Ending::Failed(format!("{error:#}")), ExitCode::FAILURE),
    };
    attempt.finish(ending)?;
    end.map(|_| status)
}

fn train_attempt(attempt: &Attempt) -> anyhow::Result<End> {
    let run = attempt.run()?;
    let mut experiment = Experiment::from_json(&run.config)?;
    let device = device(experiment.train.device)?;
    attempt.run_facts(RunFacts {
        device: format!("{device:?}"),
        libtorch: torch_ext::version().to_owned(),
        git_revision: None,
    })?;
    let resume = resume_point(attempt)?;
    let step = resume.as_ref().map_or(0, |checkpoint| checkpoint.metadata().step);
    experiment.settle(device, resume.as_ref().map(|checkpoint| &checkpoint.metadata().experiment));
    attempt.resumed_at(step.cast_signed())?;
    if step > 0 {
        eprintln!("going on from step {step}");
    }
    let places = Places { run: &run.uri, attempt: attempt.folder() };
    train(&experiment, &places, resume, device, Ranks::ALONE, attempt)
        .map_err(|error| shortage::explained(error, &experiment.train, device))
}

/// The newest registered checkpoint; a registered one that is missing or damaged is an error, for
/// going on without it would silently throw work away.
fn resume_point(attempt: &Attempt) -> anyhow::Result<Option<Checkpoint>> {
    let Some(registered) = attempt.resume_point()? else { return Ok(None) };
    let checkpoint = place::fetch(&registered.uri)
        .and_then(|folder| Ok(Checkpoint::open(&folder)?))
        .with_context(|| format!("the checkpoint of step {} cannot be used", registered.step))?;
    if checkpoint.digest() != registered.digest {
        bail!("{} is not the checkpoint that was registered", registered.uri);
    }
    Ok(Some(checkpoint))
}

pub(super) fn device(choice: DeviceChoice) -> anyhow::Result<Device> {
    Ok(match choice {
        DeviceChoice::Auto => {
            if let Some(reason) = torch_ext::idle_gpu() {
                eprintln!("warning: the GPU of this machine is not used: {reason}");
            }
            torch_ext::device()
        }
        DeviceChoice::Cpu => Device::Cpu,
        DeviceChoice::Cuda => torch_ext::device_named("cuda")?,
    })
}
