//! The registry: the queue of jobs and what they made, in Postgres. All SQL of the workspace is here, in
//! folders by what it is about.
//!
//! - [`Database`] opens `DATABASE_URL` or the private Postgres; submitting and reading are its
//!   methods. [`Blocking`] is the same for programs without a runtime.
//! - [`Attempt`] is the child's side: its job, whether it should stop, its metrics and checkpoints.
//! - [`state`] says how jobs move from state to state, and which statements move them.
//! - [`Server`] is what `scheduler doctor` asks; [`Scratch`] a database for measurements.
//!
//! The registry does not know what a job does: a job is a kind, a JSON payload, resources.

mod address;
mod alerts;
mod attempt;
mod checkpoints;
mod database;
mod error;
mod evaluations;
mod filter;
mod find;
mod fitness;
mod glance;
mod limits;
mod line;
mod lock;
mod nearest;
mod once;
mod patience;
pub mod pictures;
mod pooler;
mod private;
mod queue;
mod runs;
mod samplings;
mod scratch;
mod server;
mod signals;
mod studies;
mod tokens;
#[cfg(test)]
extern crate self as registry;
#[cfg(test)]
mod tests;
mod tries;
mod user;
mod workers;

pub use uuid::Uuid;

pub use alerts::{AlertDelivery, AlertEvent, AlertKind, AlertRule, Delivery, NewAlertRule, Told};
pub use attempt::{Attempt, End, Ending, Stop};
pub use checkpoints::{
    At, Checkpoint, CheckpointFolder, CheckpointKind, CheckpointName, CheckpointRecord, Named,
    Reclaimable, Removal, Retention, RunCheckpoints, RunRef,
};
pub use database::{Blocking, Crowd, Database, Tables, runtime, url_from_env, without_password};
pub use error::{Error, Result};
pub use evaluations::{Evaluation, NewEvaluation, ScoredRun};
pub use filter::Filter;
pub use find::{Kind, Several, Target};
pub use fitness::unfit_encoding;
pub use glance::ForkedRun;
pub use lock::Lock;
pub use nearest::{meant, nearest};
pub use patience::within;
pub use pictures::{NewPicture, Picture, PictureFile, PictureFiles, PicturePart};
pub use queue::{
    After, Asked, AttemptRow, AwaitedJob, Claimed, CommandLine, Ended, EndedAttempt, Fence, Free,
    Gang, GoOn, GpuCount, Idle, Job, JobFilter, JobKind, JobOptions, JobState, Keeper,
    LEFT_TO_OTHERS, Lease, Look, NewJob, Notice, OtherHost, Outcome, Seat, SeatRow, Since,
    StopRequest, Submitted, TOO_FEW_HOSTS, Tail, collective_limit, seconds, short_of_hosts, state,
    waiting, walltime, why_not,
};
pub use runs::{
    AcceptedChange, ChangedData, Curve, CurveColumn, CurveMark, CurveShape, CurveWindow, Curves,
    DataRole, Difference, Extension, Facet, Finding, Fork, GroupMetric, HiddenPoints, KnownDataset,
    Moment, NewPoint, NewRun, NewSweep, Point, RecordedData, Run, RunDataset, RunDiff, RunFacts,
    RunFilter, RunFolder, RunGroup, RunJob, RunKind, RunOrigin, RunSide, SeriesKey, Settled,
    SubmittedSweep, Sweep, TableColumn, TableFilter, TableOrder, config_diff, config_leaves,
    config_path, run_folder,
};
pub use runs::{compare, ranking};
pub use samplings::chunks::{Chunk, ChunkState, Tally};
pub use samplings::{NewSampling, Progress, SampleJob, Sampling};
pub use scratch::Scratch;
pub use server::{
    Connections, Deed, Durability, Encryption, Expired, Lacking, Offer, Role, SeenWorker, Server,
    Session, TableSize, Version, Wants,
};
pub use signals::{EndRequest, Signals};
pub use studies::{
    Answered, NewAnswer, NewRater, NewStudy, NewStudyImage, NewTrial, RatedBy, RaterInput,
    RaterRow, Side, Standing, Study, StudyAnswer, StudyImage,
};
pub use tokens::{NewRoomToken, RoomRole, RoomToken, ValidRoomToken};
pub use tries::{
    NewTry, NewTryPicture, RemovedTries, TRY_FRAMINGS, TRY_PROCESSES, Try, TryEnd, TryLimits,
    TryPart, TryPicture, TryService, TryState,
};
pub use user::current_user;
pub use workers::{
    BusyStretch, Census, Gpu, HeldSeat, Holder, NewestSample, OwnerHours, Resources, RunningGang,
    Taken, WorkerInfo, WorkerRow, WorkerSample, WorkerState, host,
};

/// Exit status of a child that wrote a checkpoint and stopped because it was asked to.
pub const STOPPED: u8 = 75;

/// Exit status of a child whose job can never work: wrong use or a bad configuration. Not retried.
pub const BAD_CONFIGURATION: u8 = 2;

/// The environment variable by which a child knows its attempt: `JOB-UUID:NUMBER`.
pub const ATTEMPT_VARIABLE: &str = "PALETTE_ATTEMPT";

/// The environment variable by which a worker tells the process of an attempt on several hosts how many ranks there
/// are: `WORLD:HERE`, in all and on its host.
pub const GANG_VARIABLE: &str = "PALETTE_GANG";

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
