//! `trainer run`: train in the foreground, with the same records as a queued run. Ctrl-C writes a
//! checkpoint; the paused run can be resumed by a worker.

use std::process::ExitCode;

use clap::Args;
use registry::{Attempt, End};

use terminal::Usage;

use super::attempt::{Start, train_attempt};
use super::fork::Copies;
use super::rank::follow_alone;
use super::{ExperimentArgs, RanksArgs, new_job, new_run};
use crate::ranks::{crew, outside};

#[derive(Args)]
#[command(after_help = "\
Examples:
  trainer run configs/small/colorization.toml
  trainer run configs/small/colorization.toml --dataset data/train --set train.steps=300
  trainer run configs/small/colorization.toml --ranks 2")]
pub struct RunArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    #[command(flatten)]
    ranks: RanksArgs,
}

impl RunArgs {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let outside = outside::here()?;
        if let (Some(_), Some(ranks)) = (&outside, self.ranks.ranks) {
            return Err(Usage::new(format!(
                "--ranks {ranks}: whoever started this process has started the ranks already (WORLD_SIZE, or a \
                 step of Slurm); leave --ranks out"
            ))
            .into());
        }
        let (experiment, parent) = self.experiment.load()?;
        if let Some(outside) = outside.as_ref().filter(|outside| outside.rank > 0) {
            return Ok(match follow_alone(outside, experiment.train.device, true)? {
                End::Stopped => ExitCode::from(registry::STOPPED),
                End::Finished | End::Stale => ExitCode::SUCCESS,
            });
        }
        let mut ranks = self.ranks.checked(&experiment)?;
        if let Some(outside) = &outside {
            crew::check(&experiment, outside.size)?;
            // On one host a worker that goes on with the run takes as many.
            if outside.here == Some(outside.size) {
                ranks = i32::try_from(outside.size)?;
            }
        }
        let mut job = new_job(&experiment, ranks)?;
        super::advice::say(&experiment);
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
        let start = outside.map_or(Start::Terminal, Start::Outside);
        Attempt::foreground(id)?.make(|attempt| train_attempt(attempt, &start))
    }
}
