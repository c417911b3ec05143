//! What every `submit` can say of a job: one set of options for all programs.

use crate::{Blocking, NewJob, Result};

/// Options of a submission.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct JobOptions {
    /// Jobs with a higher priority are taken first.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    priority: i32,
    /// Wait until this job (short id or name) has succeeded; may be repeated.
    #[arg(long, value_name = "JOB")]
    after: Vec<String>,
    /// GPUs that the job needs: 0 also runs where there is none.
    #[arg(long, default_value_t = 0)]
    gpus: u16,
    /// Submitting again with the same key gives the same job.
    #[arg(long)]
    key: Option<String>,
    /// Attempts that it may use up before it fails for good [default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    attempts: Option<i32>,
}

impl JobOptions {
    /// The job with these options.
    ///
    /// # Errors
    /// When a job to wait for is not there.
    pub fn apply(self, db: &Blocking, job: NewJob) -> Result<NewJob> {
        let mut job = NewJob {
            priority: self.priority,
            gpus: i32::from(self.gpus),
            submit_key: self.key,
            max_attempts: self.attempts.unwrap_or(job.max_attempts),
            ..job
        };
        for other in &self.after {
            job.after.push(db.wait(db.find_job(other))?.id);
        }
        Ok(job)
    }
}
