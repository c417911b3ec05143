//! `trainer submit`: an experiment becomes a run and a queued job; with `--sweep` or `--seeds` many of
//! them, as one sweep.

use std::collections::BTreeMap;

use clap::Args;
use contracts::Experiment;
use registry::{Blocking, JobOptions, NewSweep, RunJob};
use serde::Serialize;
use serde_json::Value;
use terminal::Usage;

use super::fork::Copies;
use super::{ExperimentArgs, RanksArgs, advice, check_gpus, new_job, new_run};
use contracts::experiment::sweep::{Axis, grid};

#[derive(Args)]
#[command(after_help = "\
Examples:
  trainer submit configs/small/colorization.toml --set train.steps=2000
  trainer submit configs/small/colorization.toml --sweep train.learning_rate=1e-4,2e-4 --seeds 3
  trainer submit --from palette@2000 --set train.learning_rate=5e-5")]
pub struct Submit {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// Queue a run for each of these values of a key; of several keys each combination. May be
    /// repeated.
    #[arg(long = "sweep", value_name = "KEY=V1,V2")]
    axes: Vec<Axis>,
    /// Queue each with N seeds, counted up from that of the configuration.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seeds: Option<u32>,
    /// Let at most N runs of the sweep run at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    at_most: Option<i32>,
    #[command(flatten)]
    ranks: RanksArgs,
    #[command(flatten)]
    options: JobOptions,
    /// Print what was queued as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Queued {
    run: String,
    job: String,
    name: String,
    state: String,
    existed: bool,
}

impl Queued {
    fn new(made: &RunJob) -> Self {
        Self {
            run: made.run.short.clone(),
            job: made.job.short.clone(),
            name: made.run.name.clone(),
            state: made.job.state.to_string(),
            existed: made.existed,
        }
    }
}

#[derive(Serialize)]
struct QueuedSweep {
    sweep: String,
    name: String,
    existed: bool,
    runs: Vec<Queued>,
}

impl Submit {
    pub fn run(self) -> anyhow::Result<()> {
        if !self.axes.is_empty() || self.seeds.is_some() {
            return self.sweep();
        }
        if self.at_most.is_some() {
            return Err(Usage::new("--at-most limits a sweep: give --sweep or --seeds too").into());
        }
        let (experiment, parent) = self.experiment.load()?;
        let db = Blocking::open()?;
        let mut job =
            self.options.apply(&db, new_job(&experiment, self.ranks.checked(&experiment)?)?)?;
        job.asked = Some(self.experiment.asked(parent.as_ref())?);
        check_gpus(&experiment, &job)?;
        let mut copies = Copies::default();
        let new = new_run(&experiment, parent.as_ref(), job, &mut copies)?;
        let made = db.wait(db.create_run(new))?;
        if !made.existed {
            copies.keep();
        }
        advice::say(&experiment);
        let queued = Queued::new(&made);
        if self.json {
            return terminal::print_json(&queued);
        }
        let Queued { run, name, state, .. } = queued;
        terminal::print(&format!("run {run} ({name}) {}, {state}", how(made.existed)))?;
        let task = experiment.data.tasks.iter().find(|(_, share)| **share > 0.0);
        let task = task.map(|(task, _)| task.to_string());
        terminal::print(&format!(
            "its checkpoints: `scheduler checkpoints {run}`; to make a picture: {}",
            super::picture(&run, task.as_deref())
        ))
    }

    /// All points are read and checked before any is queued.
    fn sweep(mut self) -> anyhow::Result<()> {
        self.experiment.check_axes(&self.axes)?;
        let (base, parent) = self.experiment.load()?;
        let asked = self.experiment.asked(parent.as_ref())?;
        if let Some(count) = self.seeds {
            self.axes.push(Axis::seeds(base.seed, count));
        }
        let points = grid(&self.axes).map_err(|error| Usage::of(error.of("--sweep")))?;
        let db = Blocking::open()?;
        let mut checked = Vec::new();
        let mut same = Same::default();
        for (number, point) in (1..).zip(points) {
            let mut arguments = self.experiment.clone();
            arguments.set(point.sets);
            let mut experiment = arguments.experiment(parent.as_ref())?;
            same.check(&point.record, &experiment)?;
            experiment.name = storage::names::with_end(&base.name, &format!("-{number}"));
            let mut job = self
                .options
                .clone()
                .apply(&db, new_job(&experiment, self.ranks.checked(&experiment)?)?)?;
            job.asked = Some(asked.clone());
            check_gpus(&experiment, &job)?;
            checked.push((experiment, job, point.record));
        }
        let mut new = NewSweep {
            name: base.name.clone(),
            owner: String::new(),
            submit_key: None,
            at_most: self.at_most,
            runs: Vec::new(),
        };
        let mut found = advice::Found::default();
        let mut copies = Copies::default();
        for (experiment, job, record) in checked {
            found.add(&experiment);
            new.owner.clone_from(&job.owner);
            new.submit_key.clone_from(&job.submit_key);
            let mut run = new_run(&experiment, parent.as_ref(), job, &mut copies)?;
            run.experiment = Some(base.name.clone());
            new.runs.push((run, record));
        }
        let made = db.wait(db.submit_sweep(new))?;
        if !made.existed {
            copies.keep();
        }
        found.say();
        if self.json {
            return terminal::print_json(&QueuedSweep {
                sweep: made.sweep.short,
                name: made.sweep.name,
                existed: made.existed,
                runs: made.runs.iter().map(Queued::new).collect(),
            });
        }
        let (short, name, count) = (&made.sweep.short, &made.sweep.name, made.runs.len());
        terminal::print(&format!(
            "sweep {short} ({name}) of {count} runs {}; see `scheduler sweep {short}`",
            how(made.existed)
        ))
    }
}

/// The experiments of a sweep, no two of which may be the same.
#[derive(Default)]
struct Same(BTreeMap<String, Value>);

impl Same {
    /// Refuses an experiment that another point makes too.
    fn check(&mut self, point: &Value, experiment: &Experiment) -> anyhow::Result<()> {
        match self.0.insert(experiment.digest(), point.clone()) {
            None => Ok(()),
            Some(other) => Err(Usage::new(format!(
                "--sweep: {other} and {point} make the same run: leave one of them out"
            ))
            .into()),
        }
    }
}

fn how(existed: bool) -> &'static str {
    if existed { "was submitted before" } else { "submitted" }
}
