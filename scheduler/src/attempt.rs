//! The child's side of an attempt, blocking, for programs without a runtime: which job it is,
//! whether it should stop, and what it made. A thread of its own sends metrics, watches the job's
//! row and hears signals.
//!
//! A database that is out of reach harms nothing as long as the lease lasts: writes wait and are
//! sent again. Once the lease has ended the attempt is [`Stop::Stale`] and writes nothing more.
//!
//! None of the methods may be called from within an async runtime.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use crate::claim::Ended;
use crate::fence::Fence;
use crate::home::Home;
use crate::keeper::{Keeper, Notice};
use crate::metrics::NewPoint;
use crate::{
    ATTEMPT_VARIABLE, Checkpoint, CheckpointRecord, Chunk, Database, Error, Evaluation, Job,
    JobState, Lease, NewEvaluation, Outcome, Result, Run, RunFacts, RunRef, StopRequest,
    WorkerInfo,
};

/// Why an attempt should stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stop {
    /// The worker, or the machine, goes down: write a checkpoint and end with status
    /// [`crate::STOPPED`]; the job is queued again.
    Shutdown = 1,
    /// A user set the job aside: the same; the job is paused.
    Pause = 2,
    /// A user ended the job: the same; the checkpoint is kept for the curious.
    Cancel = 3,
    /// The job is another attempt's: write nothing, end at once.
    Stale = 4,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Shutdown => "the worker shuts down",
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

struct Inner {
    database: Database,
    fence: Fence,
    job: Job,
    lease: Lease,
    stop: AtomicU8,
    /// When the lease ends, as far as this process knows.
    until: Mutex<Instant>,
    points: Mutex<Vec<NewPoint>>,
    /// Held while a batch is under way, so that a flush waits for it.
    sending: tokio::sync::Mutex<()>,
    many: Notify,
    progress: Mutex<Option<(i64, i64, String)>>,
}

impl Attempt {
    /// The attempt that a worker started this process for, by `PALETTE_ATTEMPT`; none when the
    /// process was started by somebody else.
    ///
    /// # Errors
    /// When the variable is malformed, the database cannot be opened, or the attempt is stale.
    pub fn from_env() -> Result<Option<Self>> {
        let Ok(text) = std::env::var(ATTEMPT_VARIABLE) else { return Ok(None) };
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
        let (database, job) = runtime.block_on(async {
            let database = Database::open().await?;
            let job = database.job(fence.job).await?;
            Ok::<_, Error>((database, job))
        })?;
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
        let worker = WorkerInfo::this_process(None, 1, 0);
        let (database, job) = runtime.block_on(async {
            let database = Database::open().await?;
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
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let inner = Arc::new(Inner {
            database: database.clone(),
            fence,
            job,
            lease,
            stop: AtomicU8::new(0),
            until: Mutex::new(claimed + lease.length),
            points: Mutex::default(),
            sending: tokio::sync::Mutex::default(),
            many: Notify::new(),
            progress: Mutex::default(),
        });
        let entered = runtime.enter();
        let foreground = worker.map(|worker| {
            let (sender, notices) = mpsc::unbounded_channel();
            let keeper = Keeper::start(database, worker.id, lease, sender);
            keeper.hold(fence, claimed);
            tokio::spawn(Arc::clone(&inner).heed(notices));
            (keeper, worker)
        });
        let signals = (
            signal(SignalKind::terminate()).map_err(Error::io(Path::new("signals")))?,
            match foreground {
                Some(_) => {
                    Some(signal(SignalKind::interrupt()).map_err(Error::io(Path::new("signals")))?)
                }
                None => None,
            },
        );
        drop(entered);
        runtime.spawn(Arc::clone(&inner).hear(signals.0, signals.1));
        runtime.spawn(Arc::clone(&inner).watch());
        runtime.spawn(Arc::clone(&inner).send());
        Ok(Self { inner, runtime: Some(runtime), foreground, folder })
    }

    /// Waits for an answer of the database, sending again through an outage.
    fn persist<T>(&self, operation: impl AsyncFn() -> Result<T>) -> Result<T> {
        self.block_on(self.inner.persist(operation))
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

    /// The run and the checkpoint that a reference names.
    ///
    /// # Errors
    /// When there is none.
    pub fn checkpoint_of(&self, reference: &RunRef) -> Result<(Run, Checkpoint)> {
        self.persist(async || self.inner.database.checkpoint(reference).await)
    }

    /// The evaluations of a run.
    ///
    /// # Errors
    /// Those of the database.
    pub fn evaluations(&self, run: Uuid) -> Result<Vec<Evaluation>> {
        self.persist(async || self.inner.database.evaluations(run).await)
    }

    /// Records values of a step of the job's run. Never blocks and never fails: they are sent each
    /// second, or as soon as there are a thousand, and kept through an outage.
    pub fn metrics(&self, step: i64, values: &[(&str, f64)]) {
        let mut points = lock(&self.inner.points);
        points.extend(values.iter().map(|(name, value)| NewPoint {
            step,
            name: (*name).to_owned(),
            value: *value,
        }));
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

    /// Says from which step this attempt goes on, 0 for from scratch; to be called before the
    /// first metric. What earlier attempts recorded past it is not shown any more.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn resumed_at(&self, step: i64) -> Result<()> {
        let run = self.inner.run_id()?;
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

    /// Cuts the job's rows into chunks, once; gives their number.
    ///
    /// # Errors
    /// When the attempt is stale, or the chunks were cut otherwise before.
    pub fn create_chunks(&self, rows: i64, chunk_rows: i64) -> Result<i64> {
        self.persist(async || {
            self.inner.database.create_chunks(self.inner.fence, rows, chunk_rows).await
        })
    }

    /// Takes the next chunk that nobody works on; none when all are taken or done.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn claim_chunk(&self) -> Result<Option<Chunk>> {
        let fence = self.inner.fence;
        self.persist(async || self.inner.database.claim_chunk(fence, fence.job).await)
    }

    /// Marks a chunk done whose output lies on disk.
    ///
    /// # Errors
    /// When the attempt is stale, or does not hold the chunk.
    pub fn finish_chunk(&self, number: i32, uri: &str, bytes: i64, digest: &str) -> Result<()> {
        let fence = self.inner.fence;
        self.persist(async || {
            self.inner.database.finish_chunk(fence, fence.job, number, uri, bytes, digest).await
        })
    }

    /// All chunks of the job, by number.
    ///
    /// # Errors
    /// Those of the database.
    pub fn chunks(&self) -> Result<Vec<Chunk>> {
        self.persist(async || self.inner.database.chunks(self.inner.job.id).await)
    }

    /// Records scores.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub fn evaluation(&self, new: &NewEvaluation) -> Result<Uuid> {
        let fence = Some(self.inner.fence);
        self.persist(async || self.inner.database.insert_evaluation(fence, new).await)
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

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // What is left when a program fails half-way; in vain when the database is out of reach.
        let _ = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(2), self.inner.flush()).await
        });
        runtime.shutdown_background();
    }
}

impl Inner {
    fn run_id(&self) -> Result<Uuid> {
        self.job
            .run_id
            .ok_or_else(|| Error::Invalid(format!("job {} is about no run", self.job.short)))
    }

    fn stop_requested(&self) -> Option<Stop> {
        match self.stop.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Stop::Shutdown),
            2 => Some(Stop::Pause),
            3 => Some(Stop::Cancel),
            _ => Some(Stop::Stale),
        }
    }

    /// The gravest reason wins.
    fn ask(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::Relaxed);
    }

    async fn persist<T>(&self, operation: impl AsyncFn() -> Result<T>) -> Result<T> {
        loop {
            match operation().await {
                Err(error) if self.outlasts(&error).await => {}
                result => return result,
            }
        }
    }

    /// Waits a moment where a failure is an outage and the lease still lasts: true to try again.
    async fn outlasts(&self, error: &Error) -> bool {
        if error.is_stale() || *lock(&self.until) <= Instant::now() {
            self.ask(Stop::Stale);
        }
        if !error.is_outage() || self.stop_requested() == Some(Stop::Stale) {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        true
    }

    /// Sends the points and the progress that wait.
    async fn flush(&self) -> Result<()> {
        let _sending = self.sending.lock().await;
        let points = std::mem::take(&mut *lock(&self.points));
        if let Some(run) = self.job.run_id {
            for batch in points.chunks(10_000) {
                while let Err(error) = self.database.record_metrics(self.fence, run, batch).await {
                    if !self.outlasts(&error).await {
                        return Err(error);
                    }
                }
            }
        }
        let progress = lock(&self.progress).take();
        if let Some((done, total, message)) = progress {
            while let Err(error) =
                self.database.record_progress(self.fence, done, total, &message).await
            {
                if !self.outlasts(&error).await {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Sends each second, or when there are many points, until the attempt is stale.
    async fn send(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = self.many.notified() => {}
            }
            if self.flush().await.is_err() && self.stop_requested() == Some(Stop::Stale) {
                return;
            }
        }
    }

    /// Looks at the job's row every two seconds, or six times a lease, for what it was asked and
    /// how long its lease lasts.
    async fn watch(self: Arc<Self>) {
        let mut connection = None;
        let pause = Duration::from_secs(2).min(self.lease.length / 6);
        while self.stop_requested() != Some(Stop::Stale) {
            self.look(&mut connection).await;
            tokio::time::sleep(pause).await;
        }
    }

    async fn look(&self, connection: &mut Option<PgConnection>) {
        let asked_at = Instant::now();
        let answer = tokio::time::timeout(
            self.lease.length / 3,
            self.database.watch_row(connection, self.fence),
        );
        match answer.await {
            Ok(Ok(Some((request, left)))) => {
                *lock(&self.until) = asked_at + left;
                match request {
                    Some(StopRequest::Pause) => self.ask(Stop::Pause),
                    Some(StopRequest::Cancel) => self.ask(Stop::Cancel),
                    None => {}
                }
            }
            Ok(Ok(None)) => self.ask(Stop::Stale),
            Ok(Err(_)) | Err(_) => {
                *connection = None;
                if *lock(&self.until) <= Instant::now() {
                    self.ask(Stop::Stale);
                }
            }
        }
    }

    /// Hears the worker's or the user's signal; the job's row says whether more is meant by it.
    async fn hear(
        self: Arc<Self>,
        mut terminate: tokio::signal::unix::Signal,
        mut interrupt: Option<tokio::signal::unix::Signal>,
    ) {
        let mut interrupts = 0;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                () = async {
                    match &mut interrupt {
                        Some(interrupt) => { interrupt.recv().await; }
                        None => std::future::pending().await,
                    }
                } => interrupts += 1,
            }
            if interrupts > 1 {
                std::process::exit(130);
            }
            self.look(&mut None).await;
            self.ask(Stop::Shutdown);
        }
    }

    /// Heeds the keeper of an attempt in the foreground.
    async fn heed(self: Arc<Self>, mut notices: mpsc::UnboundedReceiver<Notice>) {
        while let Some(notice) = notices.recv().await {
            self.ask(match notice {
                Notice::Asked(_, StopRequest::Pause) => Stop::Pause,
                Notice::Asked(_, StopRequest::Cancel) => Stop::Cancel,
                Notice::Stale(_) | Notice::RanOut(_) => Stop::Stale,
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Database {
    async fn record_facts(&self, fence: Fence, run: Uuid, facts: &RunFacts) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        sqlx::query!(
            "update runs
             set device = $2, libtorch = $3, git_revision = coalesce($4, git_revision),
                 host = (select host from attempts where job_id = $5 and number = $6)
             where id = $1",
            run,
            facts.device,
            facts.libtorch,
            facts.git_revision,
            fence.job,
            fence.number,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn record_progress(
        &self,
        fence: Fence,
        done: i64,
        total: i64,
        message: &str,
    ) -> Result<()> {
        sqlx::query!(
            "update jobs
             set progress_done = $3, progress_total = $4, progress_message = $5,
                 progress_at = now()
             where id = $1 and attempt = $2 and state = 'running'",
            fence.job,
            fence.number,
            done,
            total,
            message,
        )
        .execute(&self.pool)
        .await
        .map_err(Error::from)
        .and_then(|done| if done.rows_affected() == 0 { Err(fence.stale()) } else { Ok(()) })
    }

    /// What the attempt was asked and how long its lease lasts; none when it is stale.
    async fn watch_row(
        &self,
        connection: &mut Option<PgConnection>,
        fence: Fence,
    ) -> Result<Option<(Option<StopRequest>, Duration)>> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(self.connect().await?),
        };
        let row = sqlx::query!(
            r#"select stop_requested as "stop_requested: StopRequest",
                   extract(epoch from lease_expires_at - now())::float8 as "left!"
               from jobs where id = $1 and attempt = $2 and state = 'running'"#,
            fence.job,
            fence.number,
        )
        .fetch_optional(connection)
        .await?;
        Ok(row.map(|row| {
            (row.stop_requested, Duration::try_from_secs_f64(row.left).unwrap_or_default())
        }))
    }
}
