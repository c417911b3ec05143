//! `jobs`: the queue.

use scheduler::{Blocking, Job, JobFilter, JobState};
use time::OffsetDateTime;

#[derive(clap::Args)]
pub struct Arguments {
    /// Only jobs in this state: queued, running, paused, succeeded, failed, cancelled
    #[arg(long)]
    state: Option<JobState>,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn list(arguments: &Arguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let filter =
        JobFilter { state: arguments.state, limit: arguments.limit.into(), ..JobFilter::default() };
    let jobs = db.wait(db.jobs(filter))?;
    if arguments.json {
        return terminal::print_json(&jobs);
    }
    if jobs.is_empty() {
        return terminal::print("no jobs (`trainer submit` queues one)");
    }
    let mut table =
        terminal::Table::new(&["job", "kind", "name", "state", "progress", "tries", "queued", ""]);
    for job in &jobs {
        table.row([
            job.short.clone(),
            job.kind.to_string(),
            job.name.clone(),
            job.state.to_string(),
            super::fraction(job.progress_done, job.progress_total),
            format!("{}/{}", job.attempts_used, job.max_attempts),
            super::ago(job.created_at),
            remark(job),
        ]);
    }
    table.print()
}

/// What else there is to say about a job's state.
pub fn remark(job: &Job) -> String {
    let mut remark = job.reason.clone().unwrap_or_default();
    let wait = (job.run_after - OffsetDateTime::now_utc()).whole_seconds();
    if job.state == JobState::Queued && wait > 0 {
        let join = if remark.is_empty() { "" } else { "; " };
        remark += &format!("{join}again in {wait} s");
    }
    if job.stop_requested.is_some() {
        remark = "asked to stop".into();
    }
    if job.state == JobState::Running && remark.is_empty() {
        remark = job.progress_message.clone().unwrap_or_default();
    }
    remark
}
