//! `trainer run`: train in the foreground, with the same records as a queued run. Ctrl-C writes a
//! checkpoint; the paused run can be resumed by a worker.

use std::process::ExitCode;

use clap::Args;
use registry::Attempt;

use super::attempt::train_attempt;
use super::fork::Copies;
use super::{ExperimentArgs, new_job, new_run};

#[derive(Args)]
#[command(after_help = "\
Examples:
  trainer run configs/small/colorization.toml
  trainer run configs/small/colorization.toml --dataset data/train --set train.steps=300")]
pub struct RunArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
}

impl RunArgs {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (experiment, parent) = self.experiment.load()?;
        super::advice::say(&experiment);
        let mut job = new_job(&experiment)?;
        job.held = true;
        let id = {
            let db = registry::Blocking::open()?;
            // A run that nobody here may train is not made.
            db.wait(db.demand(registry::Deed::Work))?;
            let mut copies = Copies::default();
            let new = new_run(&experiment, parent.as_ref(), job, &mut copies)?;
            let made = db.wait(db.create_run(new))?;
            copies.keep();
            // Nobody may read it; the run is made all the same.
            let run = format!("run {} ({})", registry::short(&made.run.id), made.run.name);
            let _ = terminal::print(&run);
            made.job.id
        };
        Attempt::foreground(id)?.make(train_attempt)
    }
}
