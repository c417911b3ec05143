//! `logs`: what the newest attempt of a job printed.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use anyhow::Context;
use scheduler::{AttemptRow, Blocking};

#[derive(clap::Args)]
pub struct Arguments {
    /// The job
    job: String,
    /// Go on as the log grows, until the job has ended
    #[arg(short, long)]
    follow: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let job = db.wait(db.find_job(&arguments.job))?;
    let mut printed: Option<i32> = None;
    loop {
        let newest = db.wait(db.attempts(job.id))?.pop();
        let ended = db.wait(db.job(job.id))?.state.is_final();
        match newest {
            Some(attempt) if printed != Some(attempt.number) => {
                print(&db, &attempt, job.id, arguments.follow)?;
                printed = Some(attempt.number);
            }
            None if !arguments.follow => {
                return terminal::print(&format!("job {} has not been started yet", job.short));
            }
            _ => {}
        }
        if !arguments.follow || ended {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Prints an attempt's log: the file where it lies on this host, else what the database keeps.
fn print(
    db: &Blocking,
    attempt: &AttemptRow,
    job: scheduler::Uuid,
    follow: bool,
) -> anyhow::Result<()> {
    let path = attempt.log_path.as_deref().unwrap_or_default();
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match &attempt.log_tail {
                Some(tail) => terminal::print(tail),
                None if path.is_empty() => {
                    terminal::print("it runs in the foreground: its terminal is the log")
                }
                None => terminal::print(&format!("the log is on host {} at {path}", attempt.host)),
            };
        }
        Err(error) => return Err(error).with_context(|| path.to_owned()),
    };
    let mut out = std::io::stdout().lock();
    let mut buffer = vec![0; 64 * 1024];
    let mut ended = !follow;
    loop {
        let count = file.read(&mut buffer).with_context(|| path.to_owned())?;
        out.write_all(&buffer[..count])?;
        if count > 0 {
            continue;
        }
        out.flush()?;
        if ended {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
        // Looked at before the next read, so that nothing that came before the end is missed.
        let attempts = db.wait(db.attempts(job))?;
        ended = attempts.iter().any(|row| row.number == attempt.number && row.ended_at.is_some());
    }
}
