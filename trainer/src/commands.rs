//! One command a file; what several of them share is here.

mod advice;
pub mod attempt;
pub mod bench;
pub mod check;
pub mod collectives;
pub mod export;
pub mod extend;
mod fork;
pub mod import;
pub mod rank;
pub mod run;
pub mod submit;
mod team;
pub mod verify;

use std::path::PathBuf;

use clap::Args;
use contracts::experiment::sweep::{Axis, check_set};
use contracts::{DeviceChoice, Experiment, TrainingJob, payload};
use registry::{At, GpuCount, JobKind, NewJob, NewRun, RunRef};
use serde_json::{Value, json};
use storage::Place;
use terminal::Usage;

use crate::ranks::crew;
use crate::{data, init};
use fork::{Copies, Parent};

/// The key of the configuration that `--dataset` sets.
const DATASETS: &str = "data.datasets";

/// Which experiment: a file, or what a run was made of, and what is changed in it.
#[derive(Clone, Args)]
pub struct ExperimentArgs {
    /// Configuration of the experiment, TOML [default: that of the run of --from].
    #[arg(required_unless_present = "from")]
    config: Option<PathBuf>,
    /// Go on from this checkpoint as another run: RUN, RUN@best, RUN@latest or RUN@STEP. Weights, averages,
    /// Adam's moments and the place in the data go on; what --set changes, changes from there.
    #[arg(long, value_name = "RUN[@STEP]")]
    from: Option<RunRef>,
    /// Change a value of the configuration, such as `train.steps=1000`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Train on this dataset instead of the ones that the configuration names.
    #[arg(long, value_name = "URI")]
    dataset: Option<Place>,
}

impl ExperimentArgs {
    /// Changes more values, after those that the user changes.
    fn set(&mut self, sets: impl IntoIterator<Item = String>) {
        self.sets.extend(sets);
    }

    /// Reads and checks the experiment, and the checkpoint that it goes on from.
    fn load(&self) -> anyhow::Result<(Experiment, Option<Parent>)> {
        let parent = self.parent()?;
        let experiment = self.experiment(parent.as_ref())?;
        Ok((experiment, parent))
    }

    /// The checkpoint that the run goes on from.
    fn parent(&self) -> anyhow::Result<Option<Parent>> {
        self.from.as_ref().map(Parent::find).transpose()
    }

    /// Reads and checks the experiment.
    fn experiment(&self, parent: Option<&Parent>) -> anyhow::Result<Experiment> {
        let mut experiment = self.read(parent)?;
        if let Some(parent) = parent {
            parent.check(&experiment)?;
        }
        init::settle(&mut experiment)?;
        init::check_early(&experiment)?;
        Ok(experiment)
    }

    /// Reads the experiment, in which `train.init` still is as it was written.
    fn read(&self, parent: Option<&Parent>) -> anyhow::Result<Experiment> {
        let mut sets = self.sets.clone();
        if let Some(uri) = &self.dataset {
            let uri = toml::Value::String(uri.to_string());
            sets.push(format!("{DATASETS}=[{{ uri = {uri} }}]"));
        }
        match (&self.config, parent) {
            (Some(file), _) => Ok(Experiment::load(file, &sets).map_err(Usage::of)?),
            (None, Some(parent)) => parent.changed(&sets),
            (None, None) => Err(Usage::new("give a configuration, or --from RUN").into()),
        }
    }

    /// What is asked for, as far as the same `--key` must ask for it again: of `RUN@best` and `RUN@latest` that
    /// name, and not the step that it stands for today.
    fn asked(&self, parent: Option<&Parent>) -> anyhow::Result<Value> {
        let experiment = self.read(parent)?;
        let mut asked = json!({ "config": experiment });
        if let (Some(from), Some(parent)) = (&self.from, parent) {
            let from = RunRef { run: parent.run.id.to_string(), at: from.at };
            let moves = !matches!(from.at, At::Step(_));
            asked["from"] = json!(from.to_string());
            if moves && experiment.name == parent.fork_name() {
                asked["config"]["name"] = Value::Null;
            }
        }
        Ok(asked)
    }

    /// Refuses axes of a sweep that something else sets.
    fn check_axes(&self, axes: &[Axis]) -> anyhow::Result<()> {
        let dataset = self.dataset.as_ref().map(|uri| format!("{DATASETS}={uri}"));
        for set in self.sets.iter().chain(&dataset) {
            check_set(axes, set).map_err(|error| Usage::of(error.of("--sweep")))?;
        }
        Ok(())
    }
}

/// How many processes train a run together.
#[derive(Clone, Args)]
pub struct RanksArgs {
    /// Train with N processes, each with its part of every batch, on each host; with GPUs each takes one
    /// [default: 1, and for a queued job one for each GPU that it was given].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    ranks: Option<u16>,
}

impl RanksArgs {
    /// The number, for this experiment.
    fn checked(&self, experiment: &Experiment) -> Result<i32, Usage> {
        let ranks = self.ranks.unwrap_or(1);
        crew::check(experiment, ranks.into())?;
        Ok(ranks.into())
    }
}

/// The run of an experiment as the registry has it; a fork gets its copy of the checkpoint here. Where the
/// run waits for other jobs, those may make its data: what it reads is then recorded by its first attempt.
fn new_run(
    experiment: &Experiment,
    parent: Option<&Parent>,
    job: NewJob,
    copies: &mut Copies,
) -> anyhow::Result<NewRun> {
    let datasets = if job.after.is_empty() { data::found(experiment)? } else { Vec::new() };
    let under = experiment.train.checkpoint.place.as_ref().map(ToString::to_string);
    let (fork, uri) =
        parent.map(|parent| parent.copy(under.as_deref(), copies)).transpose()?.unzip();
    Ok(NewRun {
        name: experiment.name.clone(),
        experiment: parent.map(|parent| parent.run.experiment.clone()),
        config: serde_json::to_value(experiment)?,
        seed: experiment.seed.cast_signed(),
        total_steps: experiment.train.steps.cast_signed(),
        uri,
        under,
        best_metric: experiment.train.checkpoint.best_by.clone(),
        git_revision: crate::REVISION.map(str::to_owned),
        datasets,
        fork,
        job,
    })
}

fn new_job(experiment: &Experiment, ranks: i32) -> anyhow::Result<NewJob> {
    let job = TrainingJob { config_digest: experiment.digest() };
    let payload = payload::write(&job).map_err(Usage::of)?;
    let gpus = gpus(experiment.train.device, ranks);
    Ok(NewJob { gpus, ranks, ..NewJob::new(JobKind::Train, &experiment.name, payload) })
}

/// How long to measure.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=86_400.0).contains(&value) => Ok(value),
        _ => Err("seconds from 0 to 86400".into()),
    }
}

/// The GPUs that a job takes where `--gpus` does not say: one for each rank.
fn gpus(device: DeviceChoice, ranks: i32) -> GpuCount {
    match device {
        DeviceChoice::Cpu => GpuCount::exactly(0),
        DeviceChoice::Auto => GpuCount::up_to(ranks),
        DeviceChoice::Cuda => GpuCount::exactly(ranks),
    }
}

/// Refuses GPUs for a run that trains on the CPU, none for one that needs a GPU, and another number than that of its
/// ranks.
fn check_gpus(experiment: &Experiment, job: &NewJob) -> anyhow::Result<()> {
    match (experiment.train.device, job.gpus) {
        (DeviceChoice::Cpu, gpus) if gpus.most > 0 => Err(Usage::new(format!(
            "--gpus {gpus}: train.device is \"cpu\", which uses no GPU; leave --gpus out, or set \
             train.device=auto"
        ))
        .into()),
        (DeviceChoice::Cuda, gpus) if gpus.least == 0 => Err(Usage::new(format!(
            "--gpus {gpus}: train.device is \"cuda\", which does not run without a GPU; give --gpus \
             1, or set train.device=auto"
        ))
        .into()),
        (device, count)
            if job.ranks > 1
                && count.most > 0
                && count.most != job.ranks
                && count != gpus(device, job.ranks) =>
        {
            Err(Usage::new(format!(
                "--gpus {count} with --ranks {}: each rank takes a GPU; give the same number, or leave --ranks out \
                 for a rank on each GPU",
                job.ranks
            ))
            .into())
        }
        _ => check_hosts(experiment, job),
    }
}

/// Checks that as many ranks as `--hosts` brings can train the experiment. With a range both ends must: that as many
/// hosts come as may be is no reason to fail.
fn check_hosts(experiment: &Experiment, job: &NewJob) -> anyhow::Result<()> {
    let ranks = |hosts: i32, gpus: i32| {
        let here = if gpus > 0 { gpus } else { job.ranks };
        usize::try_from(i64::from(hosts) * i64::from(here)).unwrap_or(1)
    };
    let hosts = job.hosts;
    if hosts.most <= 1 {
        return Ok(());
    }
    // Of a range a power of two takes part where that is enough.
    let power = 1 << hosts.most.ilog2();
    let most = if hosts.least < hosts.most && power >= hosts.least { power } else { hosts.most };
    for count in [ranks(hosts.least, job.gpus.least), ranks(most, job.gpus.most)] {
        crew::check(experiment, count)
            .map_err(|error| Usage::new(format!("--hosts {hosts}: {error}")))?;
    }
    Ok(())
}

/// The command that makes a picture from a checkpoint, by whatever names it, for one of its tasks.
pub fn picture(checkpoint: &str, task: Option<&str>) -> String {
    let quoted = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
        match !word.is_empty() && word.chars().all(plain) {
            true => word.to_owned(),
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    };
    let task = task.unwrap_or("TASK");
    let mask = match task.parse::<pipeline::Task>().is_ok_and(pipeline::Task::has_hole) {
        true => " --mask MASK.png",
        false => "",
    };
    format!("sampler run --checkpoint {} --input PHOTO.jpg --task {task}{mask}", quoted(checkpoint))
}

/// `552814083` as `552,814,083`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (552_814_083, "552,814,083")]
        {
            assert_eq!(super::thousands(number), text);
        }
    }
}
