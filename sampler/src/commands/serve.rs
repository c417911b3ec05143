//! `sampler serve`: makes the pictures that people try in the control room, on this machine and beside the workers'
//! jobs. `scheduler room --try-here` starts it.

use std::io::Read;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use registry::{Attempt, Blocking, GpuCount, JobState, Lease, TryService};
use terminal::Usage;

use crate::serve;

#[derive(Args)]
#[command(after_help = "\
Examples:
  sampler serve
  sampler serve --idle 3600")]
pub struct Serve {
    /// End once nothing was to do for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 180,
          value_parser = clap::value_parser!(u32).range(1..=604_800))]
    idle: u32,
    /// End in order when standard input ends.
    #[arg(long, hide = true)]
    with_parent: bool,
}

impl Serve {
    pub fn run(self) -> Result<ExitCode> {
        if self.with_parent {
            std::thread::Builder::new().name("parent".to_owned()).spawn(end_with_input)?;
        }
        let job = {
            let db = Blocking::open()?;
            // What a killed one of these held is free again once its lease has run out.
            db.wait(db.reclaim(&Lease::from_env()?, &[]))?;
            let service = TryService {
                owner: db.wait(db.myself())?,
                priority: 0,
                gpus: GpuCount::up_to(1),
                preempts: false,
                idle: self.idle,
                here: true,
                without_tries: true,
            };
            match db.wait(db.serve_tries(&service, true))? {
                Some(job) => job,
                None => db
                    .wait(db.try_job())?
                    .filter(|job| job.state != JobState::Running)
                    .ok_or_else(|| Usage::new("another process makes the tries already"))?,
            }
        };
        Attempt::foreground(job.id)?.make(|attempt| serve::work(attempt, true))
    }
}

/// Waits for the end of standard input, then asks this process to end.
fn end_with_input() {
    let mut rest = [0; 64];
    while matches!(std::io::stdin().read(&mut rest), Ok(1..)) {}
    let _ = kill(Pid::this(), Signal::SIGTERM);
}
