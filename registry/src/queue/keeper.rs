//! Keeps leases: renews, at a third of their length, those of the attempts that this process holds, and says when one
//! was asked to stop, was given away, or ran out because the database could not be reached.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::queue::fence::Fence;
use crate::{Database, Lease, Result, StopRequest};

/// What the keeper has to say about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It was asked to stop. Said again at every renewal.
    Asked(Fence, StopRequest),
    /// The database says that it is not the job's newest: it must end at once.
    Stale(Fence),
    /// The lease could not be renewed in time: it must stop at a checkpoint.
    RanOut(Fence),
}

type Held = Arc<Mutex<HashMap<Fence, Instant>>>;

/// The task that renews. Ends when it is dropped.
pub struct Keeper {
    held: Held,
    nudge: Arc<Notify>,
    length: Duration,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Starts the task on the current runtime.
    pub fn start(
        database: Database,
        worker: Uuid,
        lease: Lease,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> Self {
        let held = Held::default();
        let nudge = Arc::new(Notify::new());
        let task = tokio::spawn(keep(
            database,
            worker,
            lease.length,
            Arc::clone(&held),
            Arc::clone(&nudge),
            notices,
        ));
        Self { held, nudge, length: lease.length, task }
    }

    /// Renews the lease of this attempt from now on; it was claimed at `claimed` or later.
    pub fn hold(&self, fence: Fence, claimed: Instant) {
        lock(&self.held).insert(fence, claimed + self.length);
    }

    /// Lets go of an attempt that has ended.
    pub fn release(&self, fence: Fence) {
        lock(&self.held).remove(&fence);
    }

    /// Renews now, and so learns what was asked.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(held: &Held) -> std::sync::MutexGuard<'_, HashMap<Fence, Instant>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn keep(
    database: Database,
    worker: Uuid,
    length: Duration,
    held: Held,
    nudge: Arc<Notify>,
    notices: mpsc::UnboundedSender<Notice>,
) {
    let mut pause = length / 3;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = nudge.notified() => {}
        }
        let asked_at = Instant::now();
        let fences: Vec<Fence> = lock(&held).keys().copied().collect();
        match renew(&database, worker, &fences, length).await {
            Ok(renewed) => {
                pause = length / 3;
                for fence in fences {
                    let answer = renewed.iter().find(|(renewed, _)| *renewed == fence);
                    match answer {
                        Some((_, request)) => {
                            if let Some(until) = lock(&held).get_mut(&fence) {
                                *until = asked_at + length;
                            }
                            if let Some(request) = request {
                                let _ = notices.send(Notice::Asked(fence, *request));
                            }
                        }
                        None => {
                            if lock(&held).remove(&fence).is_some() {
                                let _ = notices.send(Notice::Stale(fence));
                            }
                        }
                    }
                }
            }
            // Out of reach: sooner again, and watch the clock.
            Err(_) => {
                pause = (length / 10).min(Duration::from_secs(1));
                let now = Instant::now();
                for (fence, until) in lock(&held).iter() {
                    if *until <= now {
                        let _ = notices.send(Notice::RanOut(*fence));
                    }
                }
            }
        }
    }
}

/// Renews these leases and gives those that are still ours, with what was asked of them.
async fn renew(
    database: &Database,
    worker: Uuid,
    fences: &[Fence],
    length: Duration,
) -> Result<Vec<(Fence, Option<StopRequest>)>> {
    let ids: Vec<Uuid> = fences.iter().map(|fence| fence.job).collect();
    let numbers: Vec<i32> = fences.iter().map(|fence| fence.number).collect();
    database
        .on_line_soon(async |connection| {
            sqlx::query!("update workers set last_seen_at = now() where id = $1", worker)
                .execute(&mut *connection)
                .await?;
            if fences.is_empty() {
                return Ok(Vec::new());
            }
            let rows = sqlx::query!(
                r#"update jobs set lease_expires_at = now() + make_interval(secs => $3)
                   from unnest($1::uuid[], $2::integer[]) as held (id, attempt)
                   where jobs.id = held.id and jobs.attempt = held.attempt
                       and lease_expires_at is not null
                   returning jobs.id, jobs.attempt,
                       stop_requested as "stop_requested: StopRequest""#,
                &ids,
                &numbers,
                length.as_secs_f64(),
            )
            .fetch_all(connection)
            .await?;
            Ok(rows
                .into_iter()
                .map(|row| (Fence { job: row.id, number: row.attempt }, row.stop_requested))
                .collect())
        })
        .await
}
