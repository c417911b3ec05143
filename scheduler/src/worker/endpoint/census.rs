//! What the database knows of the queue and of this worker's jobs, asked at a scrape: not more often
//! than every five seconds, nor so often that it takes the server a fiftieth of its time, and never
//! waited for longer than two. When the database is out of reach the last answer stays.

use std::time::{Duration, Instant};

use registry::{Database, JobKind, JobState, Result, WorkerInfo};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::exposition::Exposition;

const EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(2);

/// Jobs as they are at one moment.
struct Census {
    jobs: Vec<(JobState, JobKind, i64)>,
    /// Seconds that the oldest job has waited that a worker could take, 0 when there is none.
    oldest_wait: f64,
    gpus_busy: i64,
    /// Seconds that the shortest lease of this worker's jobs lasts.
    lease_left: Option<f64>,
}

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
            let answer = tokio::time::timeout(PATIENCE, census(&self.database, worker)).await;
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
            census.write(text);
        }
    }
}

impl Census {
    fn write(&self, text: &mut Exposition) {
        text.family("palette_jobs", "gauge", "Jobs by state and kind.");
        for state in JobState::ALL {
            for kind in JobKind::ALL {
                let count = self
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
            self.oldest_wait,
        );
        let busy = self.gpus_busy as f64;
        text.gauge("palette_worker_gpus_busy", "GPUs that this worker's jobs have.", busy);
        if let Some(left) = self.lease_left {
            let help = "What is left of the lease that ends first of those that this worker holds.";
            text.gauge("palette_worker_lease_left_seconds", help, left);
        }
    }
}

async fn census(database: &Database, worker: Uuid) -> Result<Census> {
    {
        let jobs = sqlx::query!(
            r#"select state as "state: JobState", kind as "kind: JobKind", count(*) as "count!"
               from jobs group by state, kind"#
        )
        .fetch_all(database.pool())
        .await?;
        // A job waits since it could first be taken: its time had come and its parents had ended.
        let row = sqlx::query!(
            r#"select (
                   select coalesce(extract(epoch from now() - min(greatest(created_at, run_after,
                       (select max(parent.ended_at)
                        from dependencies join jobs parent on parent.id = parent_id
                        where job_id = jobs.id)))), 0)::float8
                   from jobs
                   where state = 'queued' and run_after <= now() and not exists (
                       select from dependencies join jobs parent on parent.id = parent_id
                       where job_id = jobs.id and parent.state <> 'succeeded')
               ) as "oldest_wait!",
               (select coalesce(sum(cardinality(string_to_array(attempts.gpus, ','))), 0)
                from jobs join attempts on job_id = jobs.id and number = jobs.attempt
                where state = 'running' and jobs.worker_id = $1) as "gpus_busy!",
               (select extract(epoch from min(lease_expires_at) - now())::float8 from jobs
                where state = 'running' and worker_id = $1) as lease_left"#,
            worker,
        )
        .fetch_one(database.pool())
        .await?;
        Ok(Census {
            jobs: jobs.into_iter().map(|row| (row.state, row.kind, row.count)).collect(),
            oldest_wait: row.oldest_wait,
            gpus_busy: row.gpus_busy,
            lease_left: row.lease_left,
        })
    }
}
