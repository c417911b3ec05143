//! `trainer submit`: an experiment becomes a run and a queued job.

use clap::Args;
use scheduler::JobOptions;
use serde::Serialize;

use super::{Source, new_job, new_run};

#[derive(Args)]
pub struct Submit {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    options: JobOptions,
    /// Print the job as JSON.
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

impl Submit {
    pub fn run(self) -> anyhow::Result<()> {
        let experiment = self.source.load()?;
        let db = scheduler::Blocking::open()?;
        let job = self.options.apply(&db, new_job(&experiment)?)?;
        let made = db.wait(db.create_run(new_run(&experiment, job)?))?;
        let queued = Queued {
            run: scheduler::short(&made.run.id),
            job: scheduler::short(&made.job.id),
            name: made.run.name,
            state: made.job.state.to_string(),
            existed: made.existed,
        };
        if self.json {
            return terminal::print_json(&queued);
        }
        let Queued { run, name, state, .. } = queued;
        let how = if made.existed { "was submitted before" } else { "submitted" };
        terminal::print(&format!("run {run} ({name}) {how}, {state}"))
    }
}
