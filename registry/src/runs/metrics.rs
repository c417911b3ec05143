//! The series of metrics. Owns `series`, `metrics`, `metric_blocks` (decision 61), `run_moments`, `run_rewinds` and the columns `latest`, `initial`, `last_step` of
//! `runs`. Written in batches by attempt; read without what was abandoned: an attempt that goes on
//! from a step hides what earlier attempts wrote past it, and takes back what it wrote there itself.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::queue::fence::Fence;
use crate::{Database, Result};

/// Points of a full block; also said in migration 22.
pub(crate) const BLOCK: i64 = 64;

/// One value of a series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The step that it was measured at.
    pub step: i64,
    /// The name of the series.
    pub name: String,
    /// The value; NaN and infinities are kept.
    pub value: f64,
    /// The attempt that measured it.
    pub attempt: i32,
}

/// A value to record.
#[derive(Clone, Debug)]
pub struct NewPoint {
    /// The step that it was measured at.
    pub step: i64,
    /// The name of the series.
    pub name: String,
    /// The value.
    pub value: f64,
}

/// Points of a run that nobody will see again: an attempt wrote them past the step from which a later one
/// went on. That stays so whatever happens to the job, because an attempt can only go back further.
#[derive(Clone, Debug)]
pub struct HiddenPoints {
    /// The run.
    pub run: Uuid,
    /// Its short id.
    pub short: String,
    /// How many.
    pub count: i64,
    /// Bytes of their rows without the index.
    pub bytes: i64,
}

impl Database {
    /// The hidden points of runs whose jobs ended before then, oldest job first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn hidden_points(&self, ended_before: OffsetDateTime) -> Result<Vec<HiddenPoints>> {
        let rows = sqlx::query_as!(
            HiddenPoints,
            r#"select jobs.id as run, jobs.short, count(*) as "count!",
                   sum(pg_column_size(metrics.*))::bigint as "bytes!"
               from jobs
               join series on series.run_id = jobs.id
               join metrics on series_id = series.id
               where state in ('succeeded', 'failed', 'cancelled') and ended_at < $1
                 and jobs.attempt > 1 and exists (
                     select from attempts later
                     where later.job_id = jobs.id and later.number > metrics.attempt
                       and later.resumed_at < metrics.step)
               group by jobs.id
               order by jobs.created_at, jobs.id"#,
            ended_before,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Deletes the hidden points of a run.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn delete_hidden_points(&self, run: Uuid) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "delete from metric_blocks using series
             where series.id = series_id and run_id = $1 and exists (
                 select from attempts later
                 where later.job_id = $1 and later.number > metric_blocks.attempt
                   and later.resumed_at < metric_blocks.last_step)",
            run,
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "delete from metrics using series
             where series.id = series_id and run_id = $1 and exists (
                 select from attempts later
                 where later.job_id = $1 and later.number > metrics.attempt
                   and later.resumed_at < metrics.step)",
            run,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

impl Database {
    /// Adds points to a run, in the order in which they were measured. Of a step that this attempt
    /// made twice the newer value stays; a batch can be sent again after an answer was lost.
    pub async fn record_metrics(&self, fence: Fence, run: Uuid, points: &[NewPoint]) -> Result<()> {
        let Some(last_step) = points.iter().map(|point| point.step).max() else { return Ok(()) };
        // In the order of the index, each point once: the newest of its place.
        let newest: BTreeMap<(&str, i64), f64> =
            points.iter().map(|point| ((point.name.as_str(), point.step), point.value)).collect();
        let mut names: Vec<String> = newest.keys().map(|(name, _)| (*name).to_owned()).collect();
        names.dedup();
        let mut tx = self.fenced(fence).await?;
        let ids = series_ids(&mut tx, run, &names).await?;
        let mut values: Vec<(i32, i64, f64)> = newest
            .into_iter()
            .filter_map(|((name, step), value)| Some((*ids.get(name)?, step, value)))
            .collect();
        values.sort_by_key(|&(id, step, _)| (id, step));
        let series: Vec<i32> = values.iter().map(|&(id, ..)| id).collect();
        let steps: Vec<i64> = values.iter().map(|&(_, step, _)| step).collect();
        // Each series and its first step.
        let firsts = values.chunk_by(|a, b| a.0 == b.0).filter_map(|points| points.first());
        let (first_of, firsts): (Vec<i32>, Vec<i64>) =
            firsts.map(|&(id, step, _)| (id, step)).unzip();
        let values: Vec<f64> = values.iter().map(|&(.., value)| value).collect();
        // A block of points that change is not true any more, nor may those behind it stay without it. They
        // are looked for by the index only: a join would read all blocks of all runs.
        sqlx::query!(
            "with changed as (
                 delete from metric_blocks
                 where ctid = any(array(
                     select known.ctid
                     from unnest($5::integer[], $6::bigint[]) as firsts (series_id, step)
                     cross join lateral (
                         select ctid from metric_blocks blocks
                         where blocks.series_id = firsts.series_id and last_step >= firsts.step
                           and attempt = $1
                         offset 0) known))
             )
             insert into metrics (series_id, step, attempt, value)
             select series_id, step, $1, value
             from unnest($2::integer[], $3::bigint[], $4::float8[]) as points (series_id, step, value)
             on conflict on constraint metrics_pkey do update set value = excluded.value",
            fence.number,
            &series,
            &steps,
            &values,
            &first_of,
            &firsts,
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "with moment as (
                 insert into run_moments (run_id, attempt, step)
                 select $1, $5, $2
                 where not exists (
                     select from run_moments
                     where run_id = $1 and attempt = $5
                       and (step >= $2 or at > now() - interval '10 seconds'))
                 on conflict on constraint run_moments_pkey do nothing
             )
             update runs
             set last_step = greatest(last_step, $2), latest = latest || $3,
                 initial = $4::jsonb || initial
             where id = $1",
            run,
            last_step,
            edge(points.iter()),
            edge(points.iter().rev()),
            fence.number,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Sums up in blocks the points of the attempt that wait for it, but for the last few of each series.
    pub(crate) async fn sum_up_metrics(&self, fence: Fence, run: Uuid) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        sqlx::query!(
            "insert into metric_blocks
                 (series_id, last_step, attempt, first_step, points, lost, least, most, total)
             select series_id, max(step), $2, min(step), count(*), count(*) filter (where not finite),
                 min(value) filter (where finite), max(value) filter (where finite),
                 sum(greatest(-1e290, least(value, 1e290))) filter (where finite)
             from (
                 select id as series_id, step, value,
                     value not in ('NaN', 'Infinity', '-Infinity') as finite,
                     (row_number() over (partition by id order by step) - 1) / $3 as block
                 from (
                     select id, coalesce((
                         select last_step from metric_blocks
                         where series_id = series.id and attempt = $2
                         order by last_step desc limit 1), '-9223372036854775808') as summed
                     from series where run_id = $1
                 ) series
                 cross join lateral (
                     select step, value from metrics
                     where series_id = series.id and attempt = $2 and step > summed
                     offset 0) loose
             ) numbered
             group by series_id, block
             having count(*) = $3
             on conflict on constraint metric_blocks_pkey do nothing",
            run,
            fence.number,
            BLOCK,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Notes from which step an attempt goes on (0: from scratch), and takes back from the run
    /// what was shown past it. An attempt that goes back says so again: what it recorded past that
    /// step is deleted, for it was another course of the run; what it hides of earlier attempts
    /// stays hidden.
    pub async fn mark_resumed(&self, fence: Fence, run: Uuid, step: i64) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        // The second time it is a rewind.
        sqlx::query!(
            "insert into run_rewinds (run_id, attempt, from_step, to_step)
             select runs.id, number, last_step, $4
             from runs join attempts on job_id = $2 and number = $3
             where runs.id = $1 and resumed_at is not null
             on conflict on constraint run_rewinds_pkey do nothing",
            run,
            fence.job,
            fence.number,
            step,
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "update attempts set resumed_at = least(resumed_at, $3)
             where job_id = $1 and number = $2",
            fence.job,
            fence.number,
            step,
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "delete from run_moments where run_id = $1 and attempt = $2 and step > $3",
            run,
            fence.number,
            step,
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "delete from metric_blocks using series
             where series.id = series_id and run_id = $1 and attempt = $2 and last_step > $3",
            run,
            fence.number,
            step,
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "delete from metrics using series
             where series.id = series_id and run_id = $1 and attempt = $2 and step > $3",
            run,
            fence.number,
            step,
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "update pictures set retiring = true
             where run_id = $1 and attempt = $2 and step > $3 and not retiring",
            run,
            fence.number,
            step,
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "update runs
             set last_step = least(last_step, $3),
                 latest = coalesce((
                     select jsonb_object_agg(name, case
                         when value = 'NaN' or abs(value) = 'Infinity' then null else value end)
                     from (
                         select distinct on (name) name, value
                         from series join metrics on series_id = series.id
                         where run_id = $1 and step <= $3 and not exists (
                             select from attempts later
                             where later.job_id = $2 and later.number > metrics.attempt
                               and later.resumed_at < metrics.step)
                         order by name, step desc, attempt desc
                     ) newest), '{}')
             where id = $1 and last_step > $3",
            run,
            fence.job,
            step,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The series of a run by name and step; all of them without a name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn metric_series(&self, run: Uuid, name: Option<&str>) -> Result<Vec<Point>> {
        let rows = sqlx::query_as!(
            Point,
            "select distinct on (name, step) step, name, value, attempt
             from series join metrics on series_id = series.id
             where run_id = $1 and ($2::text is null or name = $2)
               and not exists (
                   select from attempts later
                   where later.job_id = $1 and later.number > metrics.attempt
                     and later.resumed_at < metrics.step)
             order by name, step, attempt desc",
            run,
            name,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}

/// The ids of a run's series by name; those that are new are made.
async fn series_ids(
    tx: &mut PgConnection,
    run: Uuid,
    names: &[String],
) -> Result<HashMap<String, i32>> {
    let known = sqlx::query!(
        "select name, id from series where run_id = $1 and name = any($2)",
        run,
        names
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut ids: HashMap<String, i32> = known.into_iter().map(|row| (row.name, row.id)).collect();
    let new: Vec<String> = names.iter().filter(|name| !ids.contains_key(*name)).cloned().collect();
    if !new.is_empty() {
        let made = sqlx::query!(
            "insert into series (run_id, name) select $1::uuid, unnest($2::text[])
             on conflict on constraint series_name_key do update set name = excluded.name
             returning name, id",
            run,
            &new,
        )
        .fetch_all(&mut *tx)
        .await?;
        ids.extend(made.into_iter().map(|row| (row.name, row.id)));
    }
    Ok(ids)
}

/// The last value of each name; JSON has no NaN, so that is null there.
fn edge<'a>(points: impl Iterator<Item = &'a NewPoint>) -> Value {
    let newest: BTreeMap<&str, f64> =
        points.map(|point| (point.name.as_str(), point.value)).collect();
    serde_json::to_value(newest).unwrap_or_default()
}
