//! Claiming jobs. A claim begins the lease (`worker_id`, `lease_expires_at`), which [`crate::keeper`] renews
//! and whatever ends the attempt drops ([`crate::attempts`], `cancel --force`), and opens an attempt: a
//! constraint holds that a lease is held exactly while the job runs. No transaction is open while a job works.

use std::time::Duration;

use uuid::Uuid;

use crate::queue::fence::Fence;
use crate::queue::jobs::select_jobs;
use crate::queue::state::{Event, next};
use crate::{Database, Error, Job, JobState, Resources, Result, WorkerInfo};

/// How long claims last and failures wait.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// A claim that is not renewed for so long is lost.
    pub length: Duration,
    /// What the first failure waits for its next try, give or take a half; each further one twice
    /// that, ten minutes at most.
    pub retry_delay: Duration,
}

impl Lease {
    /// 30 and 10 seconds, or `PALETTE_LEASE_SECONDS` and `PALETTE_RETRY_SECONDS`.
    ///
    /// # Errors
    /// When one of them is no number, or the lease is under a tenth of a second.
    pub fn from_env() -> Result<Self> {
        let length = seconds("PALETTE_LEASE_SECONDS", 30.0, 0.1)?;
        Ok(Self { length, retry_delay: seconds("PALETTE_RETRY_SECONDS", 10.0, 0.0)? })
    }

    /// The time to wait after the `failures`-th failure, with jitter so that what failed together
    /// is not tried together.
    pub(crate) fn back_off(&self, failures: i32) -> f64 {
        let doublings = failures.saturating_sub(1).clamp(0, 16);
        let delay = self.retry_delay.as_secs_f64() * f64::from(1 << doublings);
        delay.min(600.0) * (0.5 + rand::random::<f64>())
    }
}

/// A span that a variable gives in seconds, at least `least` and at most a day.
pub fn seconds(variable: &str, default: f64, least: f64) -> Result<Duration> {
    let Some(text) = crate::database::variable(variable) else {
        return Ok(Duration::from_secs_f64(default));
    };
    match text.parse::<f64>() {
        Ok(value) if (least..=86_400.0).contains(&value) => Ok(Duration::from_secs_f64(value)),
        _ => Err(Error::Invalid(format!(
            "{variable} is `{text}`: a number of seconds, {least} to 86400"
        ))),
    }
}

/// How long a collective of several ranks may stand still before the attempt ends for all: 120 seconds, or
/// `PALETTE_COLLECTIVE_SECONDS`.
///
/// # Errors
/// When that is no number, or under a tenth of a second.
pub fn collective_limit() -> Result<Duration> {
    seconds("PALETTE_COLLECTIVE_SECONDS", 120.0, 0.1)
}

/// Takes the one job that the text chooses, and opens an attempt: choice and claim are one statement, so that
/// no other worker comes between. The text's own arguments begin with `$4`.
macro_rules! take {
    ($choice:tt, $worker:expr, $lease:expr $(, $argument:expr)* $(,)?) => {
        select_jobs!(
            with ["with candidate as (" + $choice + "
             ), claimed as (
                 update jobs
                 set state = 'running', attempt = attempt + 1, worker_id = $1, reason = null,
                     lease_expires_at = now() + make_interval(secs => $3),
                     started_at = coalesce(started_at, now()), ended_at = null
                 from candidate where jobs.id = candidate.id
                 returning jobs.*
             ), opened as (
                 insert into attempts (job_id, number, worker_id, host)
                 select id, attempt, $1, $2 from claimed
             ), gang as (
                 insert into gangs (job_id, attempt)
                 select id, attempt from claimed where hosts_most > 1
             ), places as (
                 insert into seats (job_id, attempt, number)
                 select id, attempt, number from claimed, generate_series(1, hosts_most - 1) as number
             ) "]
            "claimed",
            $worker.id,
            $worker.host,
            $lease.length.as_secs_f64()
            $(, $argument)*
        )
    };
}

/// How the reason of an attempt begins that a worker left to those of other hosts.
pub const LEFT_TO_OTHERS: &str = "left to other hosts: ";

/// A job that was claimed.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The job; `attempt` is the number of the attempt that was opened.
    pub job: Job,
    /// The right to write.
    pub fence: Fence,
}

impl Database {
    /// Claims the best job that fits: highest priority, then oldest, parents succeeded, time come,
    /// room in its sweep; for a job on several hosts, workers that fit alive on as many. Any number of workers may ask at once; each job goes to one of them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn claim(
        &self,
        worker: &WorkerInfo,
        resources: &Resources,
        lease: &Lease,
    ) -> Result<Option<Claimed>> {
        loop {
            match self.try_claim(worker, resources, lease).await {
                // Another worker took the last place of a sweep at the same moment: look again.
                // Or began to assemble a gang.
                Err(Error::SweepFull | Error::GangAssembles) => {}
                result => return result,
            }
        }
    }

    async fn try_claim(
        &self,
        worker: &WorkerInfo,
        resources: &Resources,
        lease: &Lease,
    ) -> Result<Option<Claimed>> {
        let row = take!(
            "select id from jobs
             where state = 'queued' and waits = 0 and run_after <= now()
               and kind = any($4::text[]::job_kind[])
               and gpus <= cardinality($5::bigint[])
               and gpus <= (select count(*) from unnest($5::bigint[]) as memory
                            where memory >= gpu_memory)
               and labels <@ $6
               and id <> all($7)
               and (hosts_most = 1 or not exists (select from gangs where assembling))
               and (hosts = 1 or hosts <= (
                   select count(distinct workers.host) from workers
                   where workers.ended_at is null and ails is null
                     and last_seen_at > now() - make_interval(secs => $3)
                     and (workers.kinds = '{}' or jobs.kind::text = any(workers.kinds))
                     and workers.labels @> jobs.labels
                     and jobs.gpus <= (select count(*) from unnest(gpu_sizes) as memory
                                       where memory >= jobs.gpu_memory)))
               and (sweep_id is null or not exists (
                   select from sweeps where sweeps.id = sweep_id and running >= at_most))
             order by priority desc, coalesce(place, created_at), id
             limit 1
             for update skip locked",
            worker,
            lease,
            &resources.kind_names(),
            &resources.gpus,
            resources.labels,
            &resources.except,
        );
        let row =
            self.on_line(async |connection| Ok(row.fetch_optional(connection).await?)).await?;
        Ok(row.map(claimed))
    }

    /// Claims this job, whatever it needs, where it is queued or set aside and its parents have
    /// succeeded: somebody runs it in the foreground.
    ///
    /// # Errors
    /// When it is in another state or waits for a parent.
    pub async fn claim_job(
        &self,
        worker: &WorkerInfo,
        job: Uuid,
        lease: &Lease,
    ) -> Result<Claimed> {
        let row = take!(
            "select id from jobs
             where id = $4 and state in ('queued', 'paused') and waits = 0
             for update",
            worker,
            lease,
            job,
        );
        if let Some(row) = row.fetch_optional(&self.pool).await? {
            return Ok(claimed(row));
        }
        let job = self.job(job).await?;
        match next(job.state, job.stop_requested, Event::Claim) {
            Err(refused) if job.state != JobState::Paused => {
                Err(Error::Refused { job: job.short, refused })
            }
            _ => Err(Error::Failed(format!(
                "job {0} waits for another job (see `scheduler show {0}`)",
                job.short
            ))),
        }
    }

    /// Whether a job that is queued or running could come to a worker with these resources: it fits, and what it waits
    /// for has succeeded. Where every job that fits waits for another, one of those is set aside, does not fit or
    /// has failed; otherwise the first of them would wait for nothing. A job that `resources` leave out counts as one that
    /// runs, unless it waits for hosts.
    pub async fn could_do(&self, resources: &Resources) -> Result<bool> {
        let kinds = resources.kind_names();
        let could = sqlx::query_scalar!(
            r#"select exists (
                   select from jobs
                   where state = 'running' and kind = any($1::text[]::job_kind[])
                     and gpus <= (select count(*) from unnest($2::bigint[]) as memory
                                  where memory >= gpu_memory)
                     and labels <@ $3
                     and (id <> all($4)
                          or not exists (select from gangs where job_id = id and assembling))
               ) or exists (
                   select from jobs
                   where state = 'queued' and waits = 0 and kind = any($1::text[]::job_kind[])
                     and gpus <= cardinality($2::bigint[])
                     and gpus <= (select count(*) from unnest($2::bigint[]) as memory
                                  where memory >= gpu_memory)
                     and labels <@ $3 and id <> all($4)) as "could!""#,
            &kinds,
            &resources.gpus,
            resources.labels,
            &resources.except,
        );
        self.on_line(async |connection| Ok(could.fetch_one(connection).await?)).await
    }

    /// The queued jobs that these resources fit and that need more hosts than have workers alive for them, each with
    /// the number of hosts that have.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn short_of_hosts(
        &self,
        resources: &Resources,
        lease: &Lease,
    ) -> Result<Vec<(Job, i64)>> {
        let short = sqlx::query!(
            r#"select jobs.id, there as "there!"
               from jobs cross join lateral (
                   select count(distinct workers.host) as there from workers
                   where workers.ended_at is null and ails is null
                     and last_seen_at > now() - make_interval(secs => $5)
                     and (workers.kinds = '{}' or jobs.kind::text = any(workers.kinds))
                     and workers.labels @> jobs.labels
                     and jobs.gpus <= (select count(*) from unnest(gpu_sizes) as memory
                                       where memory >= jobs.gpu_memory)) as alive
               where state = 'queued' and waits = 0 and hosts > 1 and hosts > there
                 and kind = any($1::text[]::job_kind[])
                 and gpus <= (select count(*) from unnest($2::bigint[]) as memory
                              where memory >= gpu_memory)
                 and labels <@ $3 and id <> all($4)
               order by priority desc, coalesce(place, created_at), id"#,
            &resources.kind_names(),
            &resources.gpus,
            resources.labels,
            &resources.except,
            lease.length.as_secs_f64(),
        );
        let rows = self.on_line(async |connection| Ok(short.fetch_all(connection).await?)).await?;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in rows {
            jobs.push((self.job(row.id).await?, row.there));
        }
        Ok(jobs)
    }

    /// Whether a worker that lives on another host could try this job and has not left it to others yet, as this host
    /// would, because it lacks what the job needs there. `lease` is the length of one: who was seen within it lives.
    pub async fn could_go_elsewhere(&self, job: &Job, host: &str, lease: &Lease) -> Result<bool> {
        let could = sqlx::query_scalar!(
            r#"select exists (
                   select from workers
                   where ended_at is null and last_seen_at > now() - make_interval(secs => $5)
                     and host <> $3 and $2 = any(kinds)
                     and host not in (select host from attempts
                                      where job_id = $1 and starts_with(reason, $4))) as "could!""#,
            job.id,
            job.kind.name(),
            host,
            LEFT_TO_OTHERS,
            lease.length.as_secs_f64(),
        );
        self.on_line(async |connection| Ok(could.fetch_one(connection).await?)).await
    }

    /// Counts the jobs in the states queued, running, paused.
    pub async fn open_jobs(&self) -> Result<(i64, i64, i64)> {
        let counts = sqlx::query!(
            r#"select count(*) filter (where state = 'queued') as "queued!",
                   count(*) filter (where state = 'running') as "running!",
                   count(*) filter (where state = 'paused') as "paused!"
               from jobs where state in ('queued', 'running', 'paused')"#
        );
        let row = self.on_line(async |connection| Ok(counts.fetch_one(connection).await?)).await?;
        Ok((row.queued, row.running, row.paused))
    }
}

fn claimed(job: Job) -> Claimed {
    let fence = Fence { job: job.id, number: job.attempt };
    Claimed { job, fence }
}
