//! How busy workers and their hosts were. Owns `worker_samples`: a worker adds a row a minute; for a day all are kept, for
//! a week one a quarter of an hour.

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Database, Result};

/// One look at a worker and its host.
#[derive(Clone, Debug, Default)]
pub struct WorkerSample {
    /// Jobs that it does, and seats that it has.
    pub slots_busy: i32,
    /// Jobs that it would do at a time.
    pub slots: i32,
    /// Share of the host's processors that was busy since the last look.
    pub cpu: Option<f32>,
    /// Bytes of memory that are used on the host, of so many.
    pub memory: Option<(i64, i64)>,
    /// Bytes that are left on the file system of the worker's home, of so many.
    pub disk: Option<(i64, i64)>,
    /// Share of the time that each GPU was busy, in the order in which the worker lists them.
    pub gpu_use: Vec<Option<f32>>,
    /// Bytes that are used of each.
    pub gpu_memory_used: Vec<Option<i64>>,
}

/// What the newest sample of a worker says.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, described in migrations/")]
pub struct NewestSample {
    pub worker_id: Uuid,
    pub at: OffsetDateTime,
    pub slots_busy: i32,
    pub slots: i32,
    pub cpu: Option<f32>,
    pub memory_used: Option<i64>,
    pub memory: Option<i64>,
    pub disk_left: Option<i64>,
    pub disk: Option<i64>,
    pub gpu_use: Vec<Option<f32>>,
    pub gpu_memory_used: Vec<Option<i64>>,
}

/// What the workers with the same labels did within one stretch of the day.
#[derive(Clone, Debug, Serialize)]
pub struct BusyStretch {
    /// Their labels.
    pub labels: Value,
    /// When it began.
    pub at: OffsetDateTime,
    /// Slots in use, on average over the samples, and slots that there were.
    pub slots_busy: f64,
    /// Slots that there were.
    pub slots: f64,
    /// Mean share of the time that their GPUs were busy; none where no driver said.
    pub gpu_use: Option<f64>,
    /// Mean bytes in use of a GPU.
    pub gpu_memory_used: Option<f64>,
    /// Mean bytes that a GPU has.
    pub gpu_memory: Option<f64>,
    /// Mean share of their hosts' processors that was busy.
    pub cpu: Option<f64>,
}

/// Hours that an owner's jobs ran.
#[derive(Clone, Debug, Serialize)]
pub struct OwnerHours {
    /// Whose jobs.
    pub owner: String,
    /// Hours of attempts, and of seats on other hosts.
    pub hours: f64,
    /// The same, times the GPUs that each had.
    pub gpu_hours: f64,
    /// Jobs that ran.
    pub jobs: i64,
}

impl Database {
    /// Adds a sample of a worker.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn add_sample(&self, worker: Uuid, sample: &WorkerSample) -> Result<()> {
        let (memory_used, memory) = sample.memory.unzip();
        let (disk_left, disk) = sample.disk.unzip();
        let insert = sqlx::query!(
            "insert into worker_samples (worker_id, slots_busy, slots, cpu, memory_used, memory,
                 disk_left, disk, gpu_use, gpu_memory_used)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             on conflict do nothing",
            worker,
            sample.slots_busy,
            sample.slots,
            sample.cpu.filter(|share| share.is_finite()).map(|share| share.clamp(0.0, 1.0)),
            memory_used,
            memory,
            disk_left,
            disk,
            &sample.gpu_use as &[Option<f32>],
            &sample.gpu_memory_used as &[Option<i64>],
        );
        self.on_line(async |connection| {
            insert.execute(connection).await?;
            Ok(())
        })
        .await
    }

    /// Removes the samples of all workers that are older than a week, and of those older than a day all but the ones of
    /// the first minute of each quarter of an hour.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn thin_samples(&self) -> Result<u64> {
        let delete = sqlx::query!(
            "delete from worker_samples
             where at < now() - interval '7 days'
                or (at < now() - interval '1 day' and extract(minute from at)::integer % 15 <> 0)"
        );
        self.on_line(async |connection| Ok(delete.execute(connection).await?.rows_affected())).await
    }

    /// The newest sample of each worker that had one within so many seconds.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn newest_samples(&self, seconds: f64) -> Result<Vec<NewestSample>> {
        let rows = sqlx::query_as!(
            NewestSample,
            r#"select distinct on (worker_id) worker_id, at, slots_busy, slots, cpu, memory_used,
                   memory, disk_left, disk, gpu_use as "gpu_use: Vec<Option<f32>>",
                   gpu_memory_used as "gpu_memory_used: Vec<Option<i64>>"
               from worker_samples
               where at > now() - make_interval(secs => $1)
               order by worker_id, at desc"#,
            seconds,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The last day in stretches of so many minutes, for all workers with the same labels together, in order of labels
    /// and time.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn busy_day(&self, minutes: i32) -> Result<Vec<BusyStretch>> {
        let rows = sqlx::query_as!(
            BusyStretch,
            r#"with each as (
                   select worker_id, to_timestamp(
                           floor(extract(epoch from at) / ($1::integer * 60)) * ($1::integer * 60)) as stretch,
                       avg(slots_busy)::float8 as slots_busy, avg(slots)::float8 as slots,
                       avg(cpu)::float8 as cpu,
                       avg((select avg(one) from unnest(gpu_use) as one))::float8 as gpu_use,
                       avg((select avg(one) from unnest(gpu_memory_used) as one))::float8
                           as gpu_memory_used,
                       avg(cardinality(gpu_use))::float8 as gpus
                   from worker_samples
                   where at > now() - interval '1 day'
                   group by worker_id, stretch
               )
               select workers.labels, stretch as "at!", sum(slots_busy) as "slots_busy!",
                   sum(each.slots) as "slots!",
                   sum(gpu_use * each.gpus)
                       / nullif(sum(each.gpus) filter (where gpu_use is not null), 0) as gpu_use,
                   sum(gpu_memory_used * each.gpus)
                       / nullif(sum(each.gpus) filter (where gpu_memory_used is not null), 0)
                       as gpu_memory_used,
                   avg((select avg(one) from unnest(workers.gpu_sizes) as one))::float8
                       as gpu_memory,
                   avg(cpu) as cpu
               from each join workers on workers.id = worker_id
               group by workers.labels, stretch
               order by workers.labels, stretch"#,
            minutes,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Hours that the jobs of each owner ran within so many days, most first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn owner_hours(&self, days: i32) -> Result<Vec<OwnerHours>> {
        let rows = sqlx::query_as!(
            OwnerHours,
            r#"with since as (select now() - make_interval(days => $1) as at),
               places as (
                   select job_id, gpus, started_at as began, ended_at as ended
                   from attempts where ended_at is null or ended_at > (select at from since)
                   union all
                   select job_id, gpus, taken_at, ended_at from seats
                   where taken_at is not null
                     and (ended_at is null or ended_at > (select at from since))
               ), spans as (
                   select job_id, cardinality(string_to_array(coalesce(gpus, ''), ',')) as gpus,
                       greatest(0, extract(epoch from coalesce(ended, now())
                           - greatest(began, (select at from since))))::float8 / 3600 as hours
                   from places
               )
               select owner as "owner!", sum(hours) as "hours!",
                   sum(hours * spans.gpus) as "gpu_hours!", count(distinct jobs.id) as "jobs!"
               from spans join jobs on jobs.id = job_id
               group by owner
               order by sum(hours * spans.gpus) desc, sum(hours) desc, owner
               limit 200"#,
            days,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}
