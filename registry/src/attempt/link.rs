//! Behind an attempt's methods: what this process knows of its lease, the thread that sends metrics
//! and watches the job's row, and the statements that they need.

use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::Stop;
use super::spool::Spool;
use crate::patience::within;
use crate::queue::fence::Fence;
use crate::queue::keeper::Notice;
use crate::signals::{EndRequest, Signals};
use crate::{Database, Error, Job, Lease, Result, RunFacts, StopRequest};

/// Points of a run after which those that are stored are summed up.
const SUM_UP_AFTER: usize = 4096;

pub(super) struct Inner {
    pub(super) database: Database,
    pub(super) fence: Fence,
    pub(super) job: Job,
    pub(super) lease: Lease,
    pub(super) stop: AtomicU8,
    /// When the lease ends, as far as this process knows.
    pub(super) until: Mutex<Instant>,
    pub(super) points: Mutex<Spool>,
    /// Held while a batch is under way, so that a flush waits for it.
    pub(super) sending: tokio::sync::Mutex<()>,
    pub(super) many: Notify,
    /// Points that were stored since the last were summed up.
    pub(super) not_summed: AtomicUsize,
    pub(super) progress: Mutex<Option<(i64, i64, String)>>,
    /// Chunks that were given to this process: of any other that it has the answer was lost.
    pub(super) chunks: Mutex<Vec<i32>>,
}

impl Inner {
    pub(super) fn run_id(&self) -> Result<Uuid> {
        self.job
            .run_id
            .ok_or_else(|| Error::Invalid(format!("job {} is about no run", self.job.short)))
    }

    pub(super) fn stop_requested(&self) -> Option<Stop> {
        match self.stop.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Stop::Shutdown),
            2 => Some(Stop::Yield),
            3 => Some(Stop::Pause),
            4 => Some(Stop::Cancel),
            _ => Some(Stop::Stale),
        }
    }

    /// The gravest reason wins.
    pub(super) fn ask(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::Relaxed);
    }

    /// Does it until it is done, through failures that pass, as long as the lease lasts.
    ///
    /// # Errors
    /// The failure, where trying again is no use.
    pub(super) async fn persist<T, F: Future<Output = Result<T>>>(
        &self,
        work: impl Fn() -> F,
    ) -> Result<T> {
        let since = Instant::now();
        let mut said = false;
        loop {
            let error = match within(self.lease.length, work()).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if error.is_stale() || *lock(&self.until) <= Instant::now() {
                self.ask(Stop::Stale);
            }
            if !error.may_pass(since, &self.lease) || self.stop_requested() == Some(Stop::Stale) {
                return Err(error);
            }
            if !said {
                tracing::info!(note = true, "{error}; trying again");
            }
            said = true;
            if error.is_full() {
                self.database.lend_line().await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Sends the points and the progress that wait.
    pub(super) async fn flush(&self) -> Result<()> {
        const BATCH: usize = 10_000;
        let _sending = self.sending.lock().await;
        // What comes meanwhile is for the next time.
        let mut left = lock(&self.points).len();
        while left > 0 {
            let batch = lock(&self.points)
                .first(BATCH.min(left))
                .map_err(Error::io(Path::new("metrics that wait")))?;
            if batch.is_empty() {
                break;
            }
            if let Some(run) = self.job.run_id {
                self.persist(|| self.database.record_metrics(self.fence, run, &batch)).await?;
                let stored =
                    self.not_summed.fetch_add(batch.len(), Ordering::Relaxed) + batch.len();
                if stored >= SUM_UP_AFTER {
                    self.sum_up(run).await;
                }
            }
            lock(&self.points).stored(batch.len());
            left = left.saturating_sub(batch.len());
        }
        let progress = lock(&self.progress).clone();
        if let Some((done, total, message)) = &progress {
            self.persist(|| self.database.record_progress(self.fence, *done, *total, message))
                .await?;
            let mut waiting = lock(&self.progress);
            if *waiting == progress {
                *waiting = None;
            }
        }
        Ok(())
    }

    /// Sums up the points that are stored. Without it curves are drawn more slowly, that is all; the next time makes
    /// up for one that failed.
    async fn sum_up(&self, run: Uuid) {
        self.not_summed.store(0, Ordering::Relaxed);
        let summed = self.database.sum_up_metrics(self.fence, run);
        if let Err(error) = within(self.lease.length, summed).await {
            tracing::debug!("metrics are not summed up: {error}");
        }
    }

    /// Sends each second, or when there are many points, until the attempt is stale.
    pub(super) async fn send(self: Arc<Self>) {
        let mut said = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = self.many.notified() => {}
            }
            match self.flush().await {
                Ok(()) => said = false,
                Err(_) if self.stop_requested() == Some(Stop::Stale) => return,
                Err(error) => {
                    if !said {
                        tracing::warn!("metrics are not stored: {error}; they are kept");
                    }
                    said = true;
                }
            }
        }
    }

    /// Looks at the job's row every two seconds, or six times a lease, for what it was asked and
    /// how long its lease lasts.
    pub(super) async fn watch(self: Arc<Self>) {
        let pause = Duration::from_secs(2).min(self.lease.length / 6);
        while self.stop_requested() != Some(Stop::Stale) {
            self.look().await;
            tokio::time::sleep(pause).await;
        }
    }

    pub(super) async fn look(&self) {
        let asked_at = Instant::now();
        match self.database.watch_row(self.fence).await {
            Ok(Some((request, left))) => {
                *lock(&self.until) = asked_at + left;
                if let Some(request) = request {
                    self.ask(request.into());
                }
            }
            Ok(None) => self.ask(Stop::Stale),
            Err(_) => {
                if *lock(&self.until) <= Instant::now() {
                    self.ask(Stop::Stale);
                }
            }
        }
    }

    /// Hears the worker's or the user's signals; the job's row says whether more is meant by one.
    pub(super) async fn hear(self: Arc<Self>, mut signals: Signals) {
        let mut interrupts = 0;
        loop {
            interrupts += u32::from(signals.next().await == EndRequest::Interrupt);
            if interrupts > 1 {
                std::process::exit(130);
            }
            self.look().await;
            self.ask(Stop::Shutdown);
        }
    }

    /// Heeds the keeper of an attempt in the foreground.
    pub(super) async fn heed(self: Arc<Self>, mut notices: mpsc::UnboundedReceiver<Notice>) {
        while let Some(notice) = notices.recv().await {
            self.ask(match notice {
                Notice::Asked(_, request) => request.into(),
                Notice::Stale(_) | Notice::RanOut(_) => Stop::Stale,
            });
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Database {
    pub(super) async fn record_facts(
        &self,
        fence: Fence,
        run: Uuid,
        facts: &RunFacts,
    ) -> Result<()> {
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

    pub(super) async fn record_progress(
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
             where id = $1 and attempt = $2 and lease_expires_at is not null",
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

    /// What the attempt was asked and how long its lease lasts; none when it is stale. Asked on a connection of its
    /// own, or, where the server has none left, on one of the pool.
    pub(super) async fn watch_row(
        &self,
        fence: Fence,
    ) -> Result<Option<(Option<StopRequest>, Duration)>> {
        match self.on_line_soon(async |connection| watch_row(connection, fence).await).await {
            Err(error) if error.is_full() => {
                let mut connection = self.pool.acquire().await?;
                within(self.limits.line, watch_row(&mut connection, fence)).await
            }
            answer => answer,
        }
    }
}

async fn watch_row(
    connection: &mut PgConnection,
    fence: Fence,
) -> Result<Option<(Option<StopRequest>, Duration)>> {
    let row = sqlx::query!(
        r#"select stop_requested as "stop_requested: StopRequest",
               extract(epoch from lease_expires_at - now())::float8 as "left!"
           from jobs where id = $1 and attempt = $2 and lease_expires_at is not null"#,
        fence.job,
        fence.number,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row
        .map(|row| (row.stop_requested, Duration::try_from_secs_f64(row.left).unwrap_or_default())))
}
