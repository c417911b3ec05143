//! The scheduler: the queue of jobs and the registry of what they made, in Postgres. This crate is
//! the only code that speaks SQL.
//!
//! - [`Database`] opens `DATABASE_URL` or the private Postgres; submitting and reading are its
//!   methods. [`Blocking`] is the same for programs without a runtime.
//! - [`worker`] claims jobs and starts one child process per attempt.
//! - [`Attempt`] is the child's side: its job, whether it should stop, its metrics and checkpoints.
//! - [`gc`] reclaims the space of what is not needed any more.
//! - [`state`] moves jobs from state to state; nothing else does.
//!
//! The scheduler does not know what a job does: a job is a kind, a JSON payload, resources.

mod amounts;
mod attempt;
mod attempts;
pub mod bench;
mod checkpoints;
mod chunks;
mod claim;
mod command;
mod control;
mod database;
mod diff;
mod directory;
pub mod doctor;
mod error;
mod fence;
pub mod gc;
pub mod gpus;
mod home;
mod jobs;
mod keeper;
mod line;
mod metrics;
mod options;
mod patience;
mod preempt;
pub mod private;
mod resolve;
mod retention;
mod runs;
pub mod state;
mod studies;
mod sweeps;
#[cfg(test)]
mod tests;
pub mod worker;
mod workers;

pub use uuid::Uuid;

pub use amounts::{Since, walltime};
pub use attempt::{Attempt, End, Ending, Stop};
pub use attempts::{AttemptRow, Outcome};
pub use checkpoints::{
    At, Checkpoint, CheckpointKind, CheckpointRecord, Evaluation, NewEvaluation, RunRef,
};
pub use chunks::{Chunk, ChunkState, NewSampling, Sampling, Tally};
pub use claim::{Claimed, Lease};
pub use command::CommandLine;
pub use database::{Blocking, Database, without_password};
pub use diff::{Difference, RunDiff, RunSide, config_diff};
pub use directory::{Holder, Progress, SampleJob, WorkerRow, WorkerState};
pub use error::{Error, Result};
pub use fence::Fence;
pub use gpus::{Gpu, GpuCount};
pub use home::Home;
pub use jobs::{Job, JobFilter, JobKind, NewJob, Submitted, current_user};
pub use metrics::Point;
pub use options::JobOptions;
pub use retention::Retention;
pub use runs::{NewRun, Run, RunDataset, RunFacts, RunFilter, RunJob, RunKind};
pub use state::{JobState, StopRequest};
pub use studies::{
    Answered, NewAnswer, NewRater, NewStudy, NewStudyImage, NewTrial, RatedBy, RaterInput,
    RaterRow, Side, Standing, Study, StudyAnswer, StudyImage,
};
pub use sweeps::{NewSweep, SubmittedSweep, Sweep};
pub use workers::{Resources, WorkerInfo, host};

/// Exit status of a child that wrote a checkpoint and stopped because it was asked to.
pub const STOPPED: u8 = 75;

/// Exit status of a child whose job can never work: wrong use or a bad configuration. Not retried.
pub const BAD_CONFIGURATION: u8 = 2;

/// The environment variable by which a child knows its attempt: `JOB-UUID:NUMBER`.
pub const ATTEMPT_VARIABLE: &str = "PALETTE_ATTEMPT";

/// The id that people type: the first eight hex digits.
pub fn short(id: &Uuid) -> String {
    let mut text = id.simple().to_string();
    text.truncate(8);
    text
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
