//! What the whole queue and one worker's jobs are at one moment, as the endpoint of a worker shows it.

use uuid::Uuid;

use crate::{Database, JobKind, JobState, Result};

/// Jobs as they are at one moment.
pub struct Census {
    /// How many jobs of a kind are in a state, where there are any.
    pub jobs: Vec<(JobState, JobKind, i64)>,
    /// Seconds that the oldest job has waited that a worker could take, 0 when no job waits.
    pub oldest_wait: f64,
    /// GPUs that the worker's jobs have, and its seats in gangs.
    pub gpus_busy: i64,
    /// Gangs that wait for hosts.
    pub gangs_assembling: i64,
    /// Gangs that are complete and run.
    pub gangs_running: i64,
    /// Seats in them that workers have.
    pub seats: i64,
    /// Seconds that the shortest lease of the worker's jobs lasts; `None` while it has no jobs.
    pub lease_left: Option<f64>,
}

impl Database {
    /// Counts all jobs, and looks at those of this worker.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn census(&self, worker: Uuid) -> Result<Census> {
        let jobs = sqlx::query!(
            r#"select state as "state: JobState", kind as "kind: JobKind", count(*) as "count!"
               from jobs group by state, kind"#
        )
        .fetch_all(&self.pool)
        .await?;
        // A job waits since it could first be taken: its time had come and its parents had ended.
        let row = sqlx::query!(
            r#"select (
                   select coalesce(extract(epoch from now() - min(greatest(created_at, run_after,
                       (select max(parent.ended_at)
                        from dependencies join jobs parent on parent.id = parent_id
                        where job_id = jobs.id)))), 0)::float8
                   from jobs
                   where state = 'queued' and waits = 0 and run_after <= now()
               ) as "oldest_wait!",
               (select coalesce(sum(cardinality(string_to_array(place.gpus, ','))), 0)
                from jobs cross join lateral (
                    select attempts.worker_id, attempts.gpus from attempts
                    where job_id = jobs.id and number = jobs.attempt
                    union all
                    select seats.worker_id, seats.gpus from seats
                    where job_id = jobs.id and seats.attempt = jobs.attempt
                      and seats.ended_at is null
                ) as place
                where state = 'running' and place.worker_id = $1) as "gpus_busy!",
               gangs.assembling as "assembling!", gangs.running as "running!",
               gangs.seats as "seats!",
               (select extract(epoch from min(lease_expires_at) - now())::float8 from jobs
                where state = 'running' and worker_id = $1) as lease_left
               from (
                   select count(*) filter (where gangs.assembling) as assembling,
                       count(*) filter (where not gangs.assembling) as running,
                       coalesce(sum((
                           select count(*) from seats
                           where seats.job_id = jobs.id and seats.attempt = jobs.attempt
                             and worker_id is not null and ended_at is null)), 0)::bigint as seats
                   from jobs
                   join gangs on gangs.job_id = jobs.id and gangs.attempt = jobs.attempt
                   where jobs.state = 'running' and jobs.hosts_most > 1
               ) as gangs"#,
            worker,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Census {
            jobs: jobs.into_iter().map(|row| (row.state, row.kind, row.count)).collect(),
            oldest_wait: row.oldest_wait,
            gpus_busy: row.gpus_busy,
            gangs_assembling: row.assembling,
            gangs_running: row.running,
            seats: row.seats,
            lease_left: row.lease_left,
        })
    }
}
