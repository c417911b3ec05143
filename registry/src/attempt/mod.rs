//! The child's side of an attempt, blocking, for programs without a runtime: which job it is,
//! whether it should stop, and what it made. A thread of its own sends metrics, watches the job's
//! row and hears signals.
//!
//! A database that is out of reach harms nothing as long as the lease lasts: writes wait and are
//! sent again. Once the lease has ended the attempt is [`Stop::Stale`] and writes nothing more.
//!
//! None of the methods may be called from within an async runtime.

mod entry;
mod link;
mod spool;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use home::Home;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

pub use entry::End;
use link::{Inner, lock};
use spool::Spool;

use crate::patience::within;
use crate::queue::attempts::Ended;
use crate::queue::fence::Fence;
use crate::queue::keeper::Keeper;
use crate::runs::metrics::NewPoint;
use crate::signals::Signals;
use crate::{
    ATTEMPT_VARIABLE, Checkpoint, CheckpointFolder, CheckpointRecord, Chunk, Database, Error,
    Evaluation, Finding, Job, JobState, Lease, NewEvaluation, NewPicture, NewTryPicture, OtherHost,
    Outcome, Result, Retention, Run, RunDataset, RunFacts, RunOrigin, RunRef, Settled, StopRequest,
    Tally, Try, TryEnd, TryPicture, WorkerInfo,
};

/// Why an attempt should stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stop {
    /// The worker, or the machine, goes down: write a checkpoint and end with status
    /// [`crate::STOPPED`]; the job is queued again.
    Shutdown = 1,
    /// A job of higher priority wants its place: the same.
    Yield = 2,
    /// A user set the job aside: the same; the job is paused.
    Pause = 3,
    /// A user ended the job: the same; the checkpoint is kept for the curious.
    Cancel = 4,
    /// The job is another attempt's: write nothing, end at once.
    Stale = 5,
}

impl From<StopRequest> for Stop {
    fn from(request: StopRequest) -> Self {
        match request {
            StopRequest::Yield => Self::Yield,
            StopRequest::Pause => Self::Pause,
            StopRequest::Cancel => Self::Cancel,
        }
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Shutdown => "the worker shuts down",
            Self::Yield => "gives way to a job of higher priority",
            Self::Pause => "paused",
            Self::Cancel => "cancelled",
            Self::Stale => "the job was given to another attempt",
        })
    }
}

/// How a job that was run in the foreground ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is done.
    Succeeded,
    /// It stopped at a checkpoint as asked; without a user's wish the job is paused.
    Stopped,
    /// It failed, for this reason.
    Failed(String),
}

/// An attempt at a job, in the process that makes it.
pub struct Attempt {
    inner: Arc<Inner>,
    runtime: Option<Runtime>,
    foreground: Option<(Keeper, WorkerInfo)>,
    folder: PathBuf,
}

impl Attempt {
    /// The attempt that a worker started this process for, by `PALETTE_ATTEMPT`; none when the
    /// process was started by somebody else.
    ///
    /// # Errors
    /// When the variable is malformed, the database cannot be opened, or the attempt is stale.
    pub fn from_env() -> Result<Option<Self>> {
        let Some(text) = crate::database::variable(ATTEMPT_VARIABLE) else { return Ok(None) };
        let fence = text
            .split_once(':')
            .and_then(|(job, number)| {
                Some(Fence { job: job.parse().ok()?, number: number.parse().ok()? })
            })
            .ok_or_else(|| {
                Error::Invalid(format!("{ATTEMPT_VARIABLE} is `{text}`, not JOB-UUID:NUMBER"))
            })?;
        let lease = Lease::from_env()?;
        let runtime = crate::database::runtime()?;
        let (database, job) = runtime.block_on(open(fence, &lease))?;
        if job.attempt != fence.number || job.state != JobState::Running {
            return Err(fence.stale());
        }
        Self::start(runtime, &Home::from_env()?, database, job, lease, None).map(Some)
    }

    /// Claims this job, queued or held, and makes the attempt in this process, which renews the
    /// lease itself. End it with [`Attempt::finish`]; a signal asks it to stop, a second interrupt
    /// ends the process.
    ///
    /// # Errors
    /// When the job cannot be claimed.
    pub fn foreground(job: Uuid) -> Result<Self> {
        let lease = Lease::from_env()?;
        let runtime = crate::database::runtime()?;
        let worker = WorkerInfo::this_process(None, 1);
        let (database, job) = runtime.block_on(async {
            let database = Database::open_for_work(&lease).await?;
            database.register_worker(&worker).await?;
            let claimed = database.claim_job(&worker, job, &lease).await?;
            Ok::<_, Error>((database, claimed.job))
        })?;
        Self::start(runtime, &Home::from_env()?, database, job, lease, Some(worker))
    }

    pub(crate) fn start(
        runtime: Runtime,
        home: &Home,
        database: Database,
        job: Job,
        lease: Lease,
        worker: Option<WorkerInfo>,
    ) -> Result<Self> {
        let claimed = Instant::now();
        let fence = Fence { job: job.id, number: job.attempt };
        let folder = home.attempt(&job.short, job.attempt);
        for folder in [&folder, &home.runs()] {
            home.make(folder).map_err(Error::io(folder))?;
        }
        let inner = Arc::new(Inner {
            database: database.clone(),
            fence,
            job,
            lease,
            stop: AtomicU8::new(0),
            until: Mutex::new(claimed + lease.length),
            points: Mutex::new(Spool::new(&folder)),
            sending: tokio::sync::Mutex::default(),
            many: Notify::new(),
            not_summed: AtomicUsize::new(0),
            progress: Mutex::default(),
            chunks: Mutex::default(),
        });
        let entered = runtime.enter();
        let foreground = worker.map(|worker| {
            let (sender, notices) = mpsc::unbounded_channel();
            let keeper = Keeper::start(database, worker.id, lease, sender);
            keeper.hold(fence, claimed);
            tokio::spawn(Arc::clone(&inner).heed(notices));
            (keeper, worker)
        });
        // Ctrl-C reaches an attempt of a worker only by the worker, which asks for a checkpoint.
        let signals = match foreground {
            Some(_) => Signals::hear(),
            None => Signals::hear_others(),
        }
        .map_err(Error::io(Path::new("signals")))?;
        drop(entered);
        runtime.spawn(Arc::clone(&inner).hear(signals));
        runtime.spawn(Arc::clone(&inner).watch());
        runtime.spawn(Arc::clone(&inner).send());
        Ok(Self { inner, runtime: Some(runtime), foreground, folder })
    }

    /// Waits for an answer of the database, sending again through an outage.
    fn persist<T>(&self, operation: impl AsyncFn() -> Result<T>) -> Result<T> {
        let operation = &operation;
        self.block_on(self.inner.persist(move || operation()))
    }

    fn block_on<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(future),
            None => Err(self.inner.fence.stale()),
        }
    }

    /// The job as it was when the attempt began.
    pub fn job(&self) -> &Job {
        &self.inner.job
    }

    /// The number of this attempt, from 1.
    pub fn number(&self) -> i32 {
        self.inner.fence.number
    }

    /// A folder of its own for whatever it needs while it works.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it should stop, and why. An atomic load.
    pub fn stop_requested(&self) -> Option<Stop> {
        self.inner.stop_requested()
    }

    /// The run that the job is about.
    ///
    /// # Errors
    /// When the job is about none.
    pub fn run(&self) -> Result<Run> {
        self.run_by_id(self.inner.run_id()?)
    }

    /// A run by its id.
    ///
    /// # Errors
    /// When there is none.
    pub fn run_by_id(&self, id: Uuid) -> Result<Run> {
        self.persist(async || self.inner.database.run(id).await)
    }

    /// The run and the checkpoint that a reference names now, for a sample job: all attempts at it and
    /// at its shares are given the one that the first of them was given, which stays until the job
    /// has ended.
    ///
    /// # Errors
    /// When there is none, or the attempt is stale.
    pub fn checkpoint_of(&self, of: Uuid, reference: &RunRef) -> Result<(Run, Checkpoint)> {
        let fence = self.inner.fence;
        self.persist(async || self.inner.database.choose_checkpoint(fence, of, reference).await)
    }

    /// The evaluations of a run.
    ///
    /// # Errors
    /// Those of the database.
    pub fn evaluations(&self, run: Uuid) -> Result<Vec<Evaluation>> {
        self.persist(async || self.inner.database.evaluations(run).await)
    }

    /// Records values of a step of the job's run. Never waits for the database and never fails: they are sent each
    /// second, or as soon as there are a thousand, and kept until they are stored, many of them on disk.
    pub fn metrics(&self, step: i64, values: &[(&str, f64)]) {
        let mut points = lock(&self.inner.points);
        let point = |(name, value): &(&str, f64)| NewPoint {
            step,
            name: (*name).to_owned(),
            value: *value,
        };
        points.push(values.iter().map(point).collect());
        if points.len() >= 1000 {
            self.inner.many.notify_one();
        }
    }

    /// Sends what is waiting and comes back when it is stored.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn flush(&self) -> Result<()> {
        self.block_on(self.inner.flush())
    }

    /// What is wrong with the course of the job's run, which is done, by all that was recorded.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn finding(&self) -> Result<Option<Finding>> {
        let run = self.run()?;
        self.flush()?;
        self.persist(async || self.inner.database.finding(run.id, run.total_steps, true).await)
    }

    /// Says to the other hosts of the attempt where its ranks meet.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn meet_gang(&self, address: &str, port: u16) -> Result<()> {
        let (database, fence) = (&self.inner.database, self.inner.fence);
        self.persist(async || database.meet_gang(fence, address, port).await)
    }

    /// The other hosts that take part in the attempt, with what their workers say of their ranks.
    ///
    /// # Errors
    /// Those of the database.
    pub fn other_hosts(&self) -> Result<Vec<OtherHost>> {
        let (database, fence) = (&self.inner.database, self.inner.fence);
        self.persist(async || database.others_of_gang(fence, &self.inner.lease).await)
    }

    /// Notes of another host that its ranks were lost, for a worker that does not say so itself.
    ///
    /// # Errors
    /// Those of the database.
    pub fn note_lost(&self, host: &OtherHost, reason: &str) -> Result<()> {
        let (database, fence) = (&self.inner.database, self.inner.fence);
        self.persist(async || database.note_seat(fence, host.number, Some(reason)).await)
    }

    /// Says how far it is; sent each second at most.
    pub fn progress(&self, done: i64, total: i64, message: &str) {
        *lock(&self.inner.progress) = Some((done, total, message.to_owned()));
    }

    /// Records what is only known where the run is made.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn run_facts(&self, facts: RunFacts) -> Result<()> {
        let run = self.inner.run_id()?;
        self.persist(async || self.inner.database.record_facts(self.inner.fence, run, &facts).await)
    }

    /// The newest registered checkpoint of the job's run: where to go on from.
    ///
    /// # Errors
    /// When the job is about no run.
    pub fn resume_point(&self) -> Result<Option<Checkpoint>> {
        let run = self.inner.run_id()?;
        self.persist(async || self.inner.database.latest_checkpoint(run).await)
    }

    /// The registered checkpoints of the job's run, the newest first: that is where to go on from, and where it
    /// is damaged from the next.
    ///
    /// # Errors
    /// When the job is about no run.
    pub fn resume_points(&self) -> Result<Vec<Checkpoint>> {
        let run = self.inner.run_id()?;
        let mut all = self.persist(async || self.inner.database.checkpoints(run).await)?;
        all.reverse();
        Ok(all)
    }

    /// The checkpoint of another run that the job's run began with; none where it began at step 0.
    ///
    /// # Errors
    /// When the job is about no run.
    pub fn origin(&self) -> Result<Option<RunOrigin>> {
        let run = self.inner.run_id()?;
        self.persist(async || self.inner.database.origin(run).await)
    }

    /// Sets checkpoints of these steps aside: they are damaged. Nobody can choose them any more.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn set_aside(&self, steps: &[i64]) -> Result<()> {
        let run = self.inner.run_id()?;
        let fence = self.inner.fence;
        self.persist(async || self.inner.database.set_aside_damaged(fence, run, steps).await)
    }

    /// Compares what the job's run reads with what was recorded of it, and records what was not. `step` is
    /// that from which the attempt goes on.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn settle_data(&self, step: i64, found: &[RunDataset]) -> Result<Settled> {
        let run = self.inner.run_id()?;
        let fence = self.inner.fence;
        self.persist(async || self.inner.database.settle_data(fence, run, step, found).await)
    }

    /// Says from which step this attempt goes on, 0 for from scratch; to be called before the
    /// first metric, and again whenever the attempt goes back to a checkpoint to take another
    /// course. What was recorded past it, by earlier attempts or by this one, is not shown any more.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn resumed_at(&self, step: i64) -> Result<()> {
        let run = self.inner.run_id()?;
        // What still waits was measured before, and must not come in after this.
        self.flush()?;
        self.persist(async || self.inner.database.mark_resumed(self.inner.fence, run, step).await)
    }

    /// Registers a checkpoint that lies complete on disk. Metrics that wait are sent first, so
    /// that none from before it can be lost.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn checkpoint(&self, record: &CheckpointRecord) -> Result<()> {
        let run = self.inner.run_id()?;
        self.flush()?;
        self.persist(async || {
            self.inner.database.record_checkpoint(self.inner.fence, run, record).await
        })
    }

    /// Retires those checkpoints of the job's run that need not stay, and gives all retiring ones,
    /// by step: also those whose files a killed process may have left. Remove the files of each, then
    /// call [`Attempt::checkpoint_gone`]; nobody can choose them any more.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn retire_checkpoints(&self, retention: &Retention) -> Result<Vec<CheckpointFolder>> {
        let run = self.inner.run_id()?;
        self.persist(async || {
            self.inner.database.retire_checkpoints(self.inner.fence, run, retention).await
        })
    }

    /// Forgets a retiring checkpoint whose files are removed. A kept one stays; that it is
    /// forgotten already is no error.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn checkpoint_gone(&self, step: i64) -> Result<()> {
        let run = self.inner.run_id()?;
        self.persist(async || {
            self.inner.database.checkpoint_gone(self.inner.fence, run, step).await
        })
    }

    /// Records pictures of the job's run whose files are in its place.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn pictures(&self, new: &[NewPicture]) -> Result<()> {
        let (run, fence) = (self.inner.run_id()?, self.inner.fence);
        self.persist(async || self.inner.database.record_pictures(fence, run, new).await)
    }

    /// Hides those pictures of the job's run that are not among the outputs of `most` steps, and gives the digests
    /// of all whose files may go. Remove these, then call [`Attempt::pictures_gone`].
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn retire_pictures(&self, most: usize) -> Result<Vec<String>> {
        let (run, fence) = (self.inner.run_id()?, self.inner.fence);
        self.persist(async || self.inner.database.retire_pictures(fence, run, most).await)
    }

    /// Forgets hidden pictures whose files are removed.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn pictures_gone(&self, digests: &[String]) -> Result<()> {
        let (run, fence) = (self.inner.run_id()?, self.inner.fence);
        self.persist(async || self.inner.database.pictures_gone(fence, run, digests).await)
    }

    /// The sample job whose chunks this attempt takes: its own, or the one that it is a share of.
    ///
    /// # Errors
    /// When that is gone.
    pub fn sample_job(&self) -> Result<Job> {
        match self.inner.job.share_of() {
            Some(job) => self.persist(async || self.inner.database.job(job).await),
            None => Ok(self.inner.job.clone()),
        }
    }

    /// Cuts the rows of a sample job into chunks, once; gives their number.
    ///
    /// # Errors
    /// When the attempt is stale, or the chunks were cut otherwise before.
    pub fn create_chunks(&self, of: Uuid, rows: i64, chunk_rows: i64) -> Result<i64> {
        let fence = self.inner.fence;
        self.persist(async || self.inner.database.create_chunks(fence, of, rows, chunk_rows).await)
    }

    /// Takes the next chunk of a sample job that nobody works on; none when all are taken or done, or
    /// the job is neither queued nor running.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn claim_chunk(&self, of: Uuid) -> Result<Option<Chunk>> {
        let fence = self.inner.fence;
        let mine = lock(&self.inner.chunks).clone();
        let chunk =
            self.persist(async || self.inner.database.claim_chunk(fence, of, &mine).await)?;
        lock(&self.inner.chunks).extend(chunk.as_ref().map(|chunk| chunk.number));
        Ok(chunk)
    }

    /// Takes the next picture that somebody wants to try.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn claim_try(&self) -> Result<Option<Try>> {
        let fence = self.inner.fence;
        self.persist(async || self.inner.database.claim_try(fence).await)
    }

    /// The picture, and the mask if there is one, that a try was given with.
    ///
    /// # Errors
    /// Those of the database.
    pub fn try_files(&self, id: Uuid) -> Result<Vec<(TryPicture, Vec<u8>)>> {
        self.persist(async || self.inner.database.try_files(id).await)
    }

    /// The run and the checkpoint that a reference names now, for something that is made at once.
    ///
    /// # Errors
    /// When there is none.
    pub fn checkpoint_now(&self, reference: &RunRef) -> Result<(Run, Checkpoint)> {
        self.persist(async || self.inner.database.checkpoint(reference).await)
    }

    /// Says with which weights a try is made, and in how many steps; false where it is no longer to be made.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn begin_try(&self, id: Uuid, step: Option<i64>, digest: &str, total: i64) -> Result<bool> {
        let fence = self.inner.fence;
        self.persist(async || self.inner.database.begin_try(fence, id, step, digest, total).await)
    }

    /// Says how far a try is, with pictures of it; false where it is no longer to be made.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn advance_try(&self, id: Uuid, done: i64, pictures: &[NewTryPicture]) -> Result<bool> {
        let fence = self.inner.fence;
        self.persist(async || self.inner.database.advance_try(fence, id, done, pictures).await)
    }

    /// Ends a try; false where it was no longer to be made.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn end_try(&self, id: Uuid, end: &TryEnd) -> Result<bool> {
        let fence = self.inner.fence;
        self.persist(async || self.inner.database.end_try(fence, id, end).await)
    }

    /// Gives back a try that was begun, for the next who makes tries.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn leave_try(&self, id: Uuid) -> Result<()> {
        let fence = self.inner.fence;
        self.persist(async || self.inner.database.leave_try(fence, id).await)
    }

    /// Marks a chunk done whose output lies on disk.
    ///
    /// # Errors
    /// When the attempt is stale, or does not hold the chunk.
    pub fn finish_chunk(
        &self,
        of: Uuid,
        number: i32,
        uri: &str,
        bytes: i64,
        digest: &str,
    ) -> Result<()> {
        let fence = self.inner.fence;
        self.persist(async || {
            self.inner.database.finish_chunk(fence, of, number, uri, bytes, digest).await
        })
    }

    /// How far the chunks of a sample job are.
    ///
    /// # Errors
    /// Those of the database.
    pub fn tally(&self, of: Uuid) -> Result<Tally> {
        self.persist(async || self.inner.database.tally(of).await)
    }

    /// Records scores.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn evaluation(&self, new: &NewEvaluation) -> Result<Uuid> {
        // Chosen once, so that what is sent again is not recorded again.
        let (fence, id) = (Some(self.inner.fence), Uuid::new_v4());
        self.persist(async || self.inner.database.insert_evaluation(fence, id, new).await)?;
        Ok(id)
    }

    /// Sends what is waiting and, for a job in the foreground, ends the attempt and gives the
    /// state that the job is in. Under a worker the exit status ends it.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn finish(mut self, ending: Ending) -> Result<JobState> {
        self.flush()?;
        let Some((keeper, worker)) = self.foreground.take() else { return Ok(JobState::Running) };
        let ended = match ending {
            Ending::Succeeded => Ended::new(Outcome::Succeeded, None),
            Ending::Stopped => Ended { hold: true, ..Ended::new(Outcome::Stopped, None) },
            // Whoever runs in the foreground sees the failure and tries again himself.
            Ending::Failed(reason) => {
                Ended { again: false, ..Ended::new(Outcome::Failed, Some(reason)) }
            }
        };
        let inner = Arc::clone(&self.inner);
        let after =
            self.persist(async || inner.database.finish(inner.fence, &ended, &inner.lease).await)?;
        drop(keeper);
        self.persist(async || inner.database.end_worker(worker.id).await)?;
        Ok(after.state)
    }
}

/// Opens the database and reads the job, however long the server is out of reach or has no connection left: as long as
/// the job is this attempt's, its worker lets it wait.
async fn open(fence: Fence, lease: &Lease) -> Result<(Database, Job)> {
    let (mut said, since) = (false, Instant::now());
    loop {
        let opened = within(lease.length, async {
            let database = Database::open_for_work(lease).await?;
            let job = database.job(fence.job).await?;
            Ok((database, job))
        });
        match opened.await {
            Err(error) if error.may_pass(since, lease) => {
                if !said {
                    tracing::info!(note = true, "{error}; waiting for the database");
                }
                said = true;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            answer => return answer,
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // What is left when a program fails half-way; in vain when the database is out of reach.
        let _ = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(2), self.inner.flush()).await
        });
        let left = lock(&self.inner.points).len();
        if left > 0 && self.inner.stop_requested() != Some(Stop::Stale) {
            tracing::warn!("{left} points of metrics were not stored");
        }
        runtime.shutdown_background();
    }
}
