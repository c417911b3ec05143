//! What goes on at the moment, at a glance, and what came of a run. Owns nothing; only reads, for pages that are looked
//! at all day.

use std::collections::HashMap;

use serde::Serialize;
use uuid::Uuid;

use crate::queue::jobs::select_jobs;
use crate::{Database, Job, JobState, Result};

/// A run that began with a checkpoint of another.
#[derive(Clone, Debug, Serialize)]
pub struct ForkedRun {
    /// Its short id.
    pub short: String,
    /// Its name.
    pub name: String,
    /// The state of its job.
    pub state: Option<JobState>,
    /// The step of the checkpoint.
    pub step: i64,
}

impl Database {
    /// At most `points` points of a series of each of these runs, from its first step to its last, evenly spaced in
    /// steps: each is a recorded point, and costs one look into an index however long the series is.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sketches(
        &self,
        runs: &[Uuid],
        name: &str,
        points: u16,
    ) -> Result<HashMap<Uuid, Vec<(i64, f64)>>> {
        let rows = sqlx::query!(
            r#"select distinct on (drawn.run_id, point.step)
                   drawn.run_id, point.step as "step!", point.value as "value!"
               from (
                   select run_id, id,
                       (select min(step) from metrics where series_id = series.id) as first,
                       (select max(step) from metrics where series_id = series.id) as last
                   from series where run_id = any($1) and name = $2
               ) as drawn
               cross join generate_series(0::bigint, $3::bigint) as number
               cross join lateral (
                   select step, value from metrics
                   where series_id = drawn.id and step >= first + (last - first) * number / $3::bigint
                     and not exists (
                         select from attempts later
                         where later.job_id = drawn.run_id and later.number > metrics.attempt
                           and later.resumed_at < metrics.step)
                   order by step, attempt desc limit 1
               ) as point
               order by drawn.run_id, point.step"#,
            runs,
            name,
            i64::from(points.max(2)) - 1,
        );
        let mut sketches: HashMap<Uuid, Vec<(i64, f64)>> = HashMap::new();
        for row in rows.fetch_all(&self.pool).await? {
            sketches.entry(row.run_id).or_default().push((row.step, row.value));
        }
        Ok(sketches)
    }

    /// The jobs that failed last, the latest first, without those that are archived.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn failures(&self, most: i64) -> Result<Vec<Job>> {
        let rows = select_jobs!(
            "jobs where state = 'failed' and archived_at is null
             order by ended_at desc nulls last, id limit $1",
            most,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// How many GPUs the attempts that run have, of whatever host.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn busy_gpus(&self) -> Result<i64> {
        let busy = sqlx::query_scalar!(
            r#"select count(distinct uuid) as "busy!"
               from jobs
               cross join lateral (
                   select attempts.gpus from attempts
                   where job_id = jobs.id and number = jobs.attempt
                   union all
                   select seats.gpus from seats
                   where job_id = jobs.id and seats.attempt = jobs.attempt and seats.ended_at is null
               ) as place
               cross join unnest(string_to_array(place.gpus, ',')) as uuid
               where state = 'running' and uuid <> ''"#
        );
        Ok(busy.fetch_one(&self.pool).await?)
    }

    /// The runs that began with a checkpoint of this one, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forked_runs(&self, run: Uuid) -> Result<Vec<ForkedRun>> {
        let rows = sqlx::query_as!(
            ForkedRun,
            r#"select runs.short as "short!", runs.name as "name!", jobs.state as "state?: JobState",
                   run_origins.step as "step!"
               from run_origins
               join runs on runs.id = run_origins.run_id
               left join jobs on jobs.id = runs.id
               where parent_id = $1 order by runs.created_at, runs.id"#,
            run,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The runs of this name, newest first, by their short ids.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn runs_called(&self, name: &str) -> Result<Vec<String>> {
        let rows = sqlx::query_scalar!(
            r#"select short as "short!" from runs where name = $1 order by created_at desc, id limit 100"#,
            name,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}
