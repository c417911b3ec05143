//! `trainer submit`: an experiment becomes a run and a queued job.

use clap::Args;
use serde::Serialize;

use super::{Source, new_job, new_run};

#[derive(Args)]
pub struct Submit {
    #[command(flatten)]
    source: Source,
    /// Jobs with a higher priority are taken first.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    priority: i32,
    /// Wait until this job (short id or name) has succeeded; may be repeated.
    #[arg(long, value_name = "JOB")]
    after: Vec<String>,
    /// GPUs that the run needs: 0 also runs where there is none.
    #[arg(long, default_value_t = 0)]
    gpus: u16,
    /// Submitting again with the same key gives the same job.
    #[arg(long)]
    key: Option<String>,
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
        let mut job = new_job(&experiment)?;
        job.priority = self.priority;
        job.gpus = i32::from(self.gpus);
        job.submit_key = self.key;
        for other in &self.after {
            job.after.push(db.wait(db.find_job(other))?.id);
        }
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
