//! `cancel`, `pause`, `resume`, `retry`.

use scheduler::{Blocking, JobState, StopRequest};

#[derive(clap::Args)]
pub struct Arguments {
    /// The jobs
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub enum Wish {
    Cancel,
    Pause,
    Resume,
    Retry,
}

pub fn run(wish: Wish, arguments: &Arguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    for name in &arguments.jobs {
        let job = db.wait(db.find_job(name))?;
        let job = db.wait(async {
            match wish {
                Wish::Cancel => db.cancel(job.id).await,
                Wish::Pause => db.pause(job.id).await,
                Wish::Resume => db.resume(job.id).await,
                Wish::Retry => db.retry(job.id).await,
            }
        })?;
        let what = match (job.state, job.stop_requested) {
            (JobState::Running, Some(StopRequest::Pause)) => "is asked to pause".to_owned(),
            (JobState::Running, Some(StopRequest::Cancel)) => "is asked to end".to_owned(),
            (JobState::Running, None) => "goes on".to_owned(),
            (state, _) => format!("is {state}"),
        };
        terminal::print(&format!("{} {} {what}", job.short, job.name))?;
    }
    Ok(())
}
