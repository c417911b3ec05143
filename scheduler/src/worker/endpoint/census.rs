//! What the database knows of the queue and of this worker's jobs, asked at a scrape: not more often
//! than every five seconds, nor so often that it takes the server a fiftieth of its time, and never
//! waited for longer than two. When the database is out of reach the last answer stays.

use std::time::{Duration, Instant};

use registry::{Census, Database, JobKind, JobState, WorkerInfo};
use tokio::sync::Mutex;

use super::exposition::Exposition;

const EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks, and keeps the answer.
pub struct Counter {
    database: Database,
    kept: Mutex<Kept>,
}

struct Kept {
    census: Option<(Census, Instant)>,
    up: bool,
    next: Instant,
}

impl Counter {
    /// Has asked nothing yet.
    pub fn new(database: Database) -> Self {
        let kept = Kept { census: None, up: true, next: Instant::now() };
        Self { database, kept: Mutex::new(kept) }
    }

    /// Writes the last answer, asking anew where it is time.
    pub async fn write(&self, worker: Option<WorkerInfo>, text: &mut Exposition) {
        let mut kept = self.kept.lock().await;
        let now = Instant::now();
        if now >= kept.next {
            let worker = worker.map(|worker| worker.id).unwrap_or_default();
            let answer = tokio::time::timeout(PATIENCE, self.database.census(worker)).await;
            kept.next = Instant::now() + EVERY.max(50 * now.elapsed());
            kept.up = matches!(answer, Ok(Ok(_)));
            if let Ok(Ok(census)) = answer {
                kept.census = Some((census, now));
            }
        }
        let up = f64::from(u8::from(kept.up));
        text.gauge("palette_database_up", "1 when the database answered when last asked.", up);
        if let Some((census, asked)) = &kept.census {
            let age = asked.elapsed().as_secs_f64();
            text.gauge("palette_queue_age_seconds", "Age of the numbers that it gave.", age);
            write(census, text);
        }
    }
}

fn write(census: &Census, text: &mut Exposition) {
    text.family("palette_jobs", "gauge", "Jobs by state and kind.");
    for state in JobState::ALL {
        for kind in JobKind::ALL {
            let count = census
                .jobs
                .iter()
                .find(|(in_state, of_kind, _)| (*in_state, *of_kind) == (state, kind));
            let labels = [("state", state.name()), ("kind", kind.name())];
            text.sample("palette_jobs", &labels, count.map_or(0, |(.., count)| *count) as f64);
        }
    }
    text.gauge(
        "palette_queue_oldest_wait_seconds",
        "How long the oldest job has waited that any worker may take; 0 when none waits.",
        census.oldest_wait,
    );
    text.family("palette_gangs", "gauge", "Jobs on several hosts that run, by what they do.");
    for (state, count) in
        [("assembling", census.gangs_assembling), ("running", census.gangs_running)]
    {
        text.sample("palette_gangs", &[("state", state)], count as f64);
    }
    let help = "Seats that workers have in attempts of other hosts.";
    text.gauge("palette_seats", help, census.seats as f64);
    let busy = census.gpus_busy as f64;
    text.gauge("palette_worker_gpus_busy", "GPUs that this worker's jobs and seats have.", busy);
    if let Some(left) = census.lease_left {
        let help = "What is left of the lease that ends first of those that this worker holds.";
        text.gauge("palette_worker_lease_left_seconds", help, left);
    }
}
