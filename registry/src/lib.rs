//! The registry: the queue of jobs and what they made, in Postgres. No program but the scheduler speaks
//! SQL beside this crate: its doctor, its reclaiming of space and its benchmarks have statements
//! of their own.
//!
//! - [`Database`] opens `DATABASE_URL` or the private Postgres; submitting and reading are its
//!   methods. [`Blocking`] is the same for programs without a runtime.
//! - [`Attempt`] is the child's side: its job, whether it should stop, its metrics and checkpoints.
//! - [`state`] says how jobs move from state to state, and which statements move them.
//!
//! The registry does not know what a job does: a job is a kind, a JSON payload, resources.

mod amounts;
mod attempt;
mod attempts;
mod census;
mod checkpoints;
mod chunks;
mod claim;
mod command;
mod control;
mod database;
mod diff;
mod directory;
mod error;
mod fence;
mod gpu_count;
mod jobs;
mod keeper;
mod line;
mod metrics;
mod options;
mod patience;
mod preempt;
mod resolve;
mod retention;
mod runs;
pub mod state;
mod studies;
mod sweeps;
#[cfg(test)]
mod tests;
mod workers;

pub use uuid::Uuid;

pub use amounts::{Since, walltime};
pub use attempt::{Attempt, End, Ending, Stop};
pub use attempts::{After, AttemptRow, Ended, Outcome, Tail};
pub use census::Census;
pub use checkpoints::{
    At, Checkpoint, CheckpointKind, CheckpointRecord, Evaluation, NewEvaluation, RunRef,
};
pub use chunks::{Chunk, ChunkState, NewSampling, Sampling, Tally};
pub use claim::{Claimed, Lease, seconds};
pub use command::CommandLine;
pub use database::{
    Blocking, Database, Tables, connect, on_private, runtime, tables, url_from_env,
    without_password,
};
pub use diff::{Difference, RunDiff, RunSide, config_diff};
pub use directory::{Holder, Progress, SampleJob, WorkerRow, WorkerState};
pub use error::{Error, Result};
pub use fence::{Fence, Idle};
pub use gpu_count::GpuCount;
pub use jobs::{Job, JobFilter, JobKind, NewJob, Submitted, current_user};
pub use keeper::{Keeper, Notice};
pub use metrics::{NewPoint, Point};
pub use options::JobOptions;
pub use patience::within;
pub use preempt::{Asked, Free};
pub use retention::{Retention, RunCheckpoints, retire};
pub use runs::{NewRun, Run, RunDataset, RunFacts, RunFilter, RunJob, RunKind};
pub use state::{JobState, StopRequest};
pub use studies::{
    Answered, NewAnswer, NewRater, NewStudy, NewStudyImage, NewTrial, RatedBy, RaterInput,
    RaterRow, Side, Standing, Study, StudyAnswer, StudyImage,
};
pub use sweeps::{NewSweep, SubmittedSweep, Sweep};
pub use workers::{Gpu, Resources, WorkerInfo, host};

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
