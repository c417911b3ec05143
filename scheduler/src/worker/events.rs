//! What a worker reports of its work.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use registry::{JobKind, JobState, WorkerInfo};

/// What a worker has to say.
#[derive(Clone, Debug)]
pub enum WorkerEvent {
    /// It is ready, with these kinds of jobs.
    Ready {
        /// It.
        worker: WorkerInfo,
        /// What it can do.
        kinds: Vec<JobKind>,
    },
    /// An attempt began.
    Started {
        /// Short id of the job.
        job: String,
        /// Its name.
        name: String,
        /// Its kind.
        kind: JobKind,
        /// Number of the attempt.
        attempt: i32,
        /// Its ranks, where there are several: in all, and on this host.
        ranks: Option<(i32, i32)>,
        /// The UUIDs of the GPUs that it was given, with commas; none where it was given none.
        gpus: Option<String>,
        /// Where its log is.
        log: PathBuf,
    },
    /// A seat was taken in the attempt of another host.
    Seated {
        /// Short id of the job.
        job: String,
        /// Its name.
        name: String,
        /// Number of the attempt.
        attempt: i32,
    },
    /// The ranks of a seat began.
    Joined {
        /// Short id of the job.
        job: String,
        /// Its name.
        name: String,
        /// Number of the attempt.
        attempt: i32,
        /// Its ranks: `rank 1`, `ranks 8 to 15`.
        ranks: String,
        /// The UUIDs of the GPUs that they were given, with commas; none where they were given none.
        gpus: Option<String>,
        /// Where their log is.
        log: PathBuf,
    },
    /// A seat has ended, with the attempt or before it.
    Left {
        /// Short id of the job.
        job: String,
        /// Its name.
        name: String,
        /// Number of the attempt.
        attempt: i32,
        /// Why its ranks were lost, where they were.
        reason: Option<String>,
    },
    /// A line that a child printed.
    Line {
        /// Short id of the job.
        job: String,
        /// The line.
        line: String,
    },
    /// An attempt ended, here or with a lost worker.
    Ended {
        /// Short id of the job.
        job: String,
        /// Its name.
        name: String,
        /// The state of the job now.
        state: JobState,
        /// Why, where there is something to say.
        reason: Option<String>,
        /// How long the attempt took, where it was made here.
        took: Option<Duration>,
        /// How long until it is tried again, where it will be.
        wait: Duration,
    },
    /// An attempt was given up here: its job is another worker's, or its end cannot be stored.
    Dropped {
        /// Short id of the job.
        job: String,
        /// Its name.
        name: String,
        /// Number of the attempt.
        attempt: i32,
        /// Why its end cannot be stored; none where the job is another's.
        why: Option<String>,
    },
    /// The GPUs that it hands out are others.
    Gpus(WorkerInfo),
    /// Something ails its host, so that it claims nothing; none where all is well again.
    Ails(Option<String>),
    /// Anything else, in one line.
    Note(String),
}

/// Where a worker's reports go.
pub type Reporter = Arc<dyn Fn(WorkerEvent) + Send + Sync>;
