//! Preemption: a queued job that may ask for it, and finds no place, makes jobs of lower priority stop
//! at a checkpoint. They go back into the queue without having used up a try. Owns `jobs.yields_to`.

use std::collections::HashMap;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::queue::jobs::select_jobs;
use crate::queue::state::{Event, Next, next};
use crate::{Database, Job, Lease, Result, StopRequest, WorkerInfo};

/// What a worker has left, and what each of its jobs has.
#[derive(Clone, Debug, Default)]
pub struct Free {
    /// Jobs that it could take besides.
    pub slots: usize,
    /// The memory of each free GPU.
    pub gpus: Vec<i64>,
    /// The same of those that each job has.
    pub held: HashMap<Uuid, Vec<i64>>,
}

/// A job that was asked to give way, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The job, by its short id.
    pub job: String,
    /// Its name.
    pub name: String,
    /// The job that it gives way to, by its short id.
    pub to: String,
    /// The name of that.
    pub to_name: String,
}

impl Database {
    /// For the best job that may preempt and would fit this worker were it not for lower ones: asks
    /// as few of those as make room, the lowest first and of equals the youngest. Nobody is asked as
    /// long as another still gives way to the same job, or as it wants more hosts than have workers.
    pub async fn preempt(
        &self,
        worker: &WorkerInfo,
        free: &Free,
        lease: &Lease,
    ) -> Result<Vec<Asked>> {
        self.on_line(async |connection| {
            let candidate = select_jobs!(
                "jobs
                 where state = 'queued' and waits = 0 and preempts and run_after <= now()
                   and kind = any($2::text[]::job_kind[])
                   and gpus <= cardinality($3::bigint[])
                   and gpus <= (select count(*) from unnest($3::bigint[]) as memory
                                where memory >= gpu_memory)
                   and labels <@ $4 and id <> all($5)
                   and (hosts = 1 or hosts <= (
                       select count(distinct workers.host) from workers
                       where workers.ended_at is null and ails is null
                         and last_seen_at > now() - make_interval(secs => $6)
                         and (workers.kinds = '{}' or jobs.kind::text = any(workers.kinds))
                         and workers.labels @> jobs.labels
                         and jobs.gpus <= (select count(*) from unnest(gpu_sizes) as memory
                                           where memory >= jobs.gpu_memory)))
                   and (sweep_id is null or not exists (
                       select from sweeps where sweeps.id = sweep_id and running >= at_most))
                   and not exists (
                       select from jobs other where other.yields_to = jobs.id and state = 'running')
                   and exists (
                       select from jobs lower
                       where lower.worker_id = $1 and lower.state = 'running'
                         and lower.priority < jobs.priority)
                 order by priority desc, coalesce(place, created_at), id
                 limit 1",
                worker.id,
                &worker.offers.kind_names(),
                &worker.offers.gpus,
                worker.offers.labels,
                &worker.offers.except,
                lease.length.as_secs_f64(),
            )
            .fetch_optional(&mut *connection)
            .await?;
            let Some(candidate) = candidate else { return Ok(Vec::new()) };
            let mut tx = connection.begin().await?;
            let candidate = select_jobs!(
                "jobs
                 where id = $1 and state = 'queued' and waits = 0 and preempts
                   and not exists (
                       select from jobs other
                       where other.yields_to = jobs.id and other.state = 'running')
                 for update skip locked",
                candidate.id,
            )
            .fetch_optional(&mut *tx)
            .await?;
            // It was claimed, or another worker asks for it at this moment.
            let Some(candidate) = candidate else {
                tx.rollback().await?;
                return Ok(Vec::new());
            };
            let running = select_jobs!(
                "jobs where worker_id = $1 and state = 'running' and priority < $2
                 order by priority, started_at desc, id
                 for update",
                worker.id,
                candidate.priority,
            )
            .fetch_all(&mut *tx)
            .await?;
            let victims = victims(&candidate, &running, free);
            for victim in &victims {
                ask(&mut tx, victim.id, candidate.id).await?;
            }
            tx.commit().await?;
            Ok(victims
                .into_iter()
                .map(|victim| Asked {
                    job: victim.short.clone(),
                    name: victim.name.clone(),
                    to: candidate.short.clone(),
                    to_name: candidate.name.clone(),
                })
                .collect())
        })
        .await
    }
}

async fn ask(tx: &mut PgConnection, victim: Uuid, candidate: Uuid) -> Result<()> {
    sqlx::query!(
        "update jobs set stop_requested = $2, yields_to = $3 where id = $1",
        victim,
        StopRequest::Yield as StopRequest,
        candidate,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Those of `running`, lowest first, that make room together; none where there is room already or
/// all of them are not enough.
fn victims<'a>(candidate: &Job, running: &'a [Job], free: &Free) -> Vec<&'a Job> {
    let wanted = usize::try_from(candidate.gpus).unwrap_or(0);
    let big_enough =
        |gpus: &[i64]| gpus.iter().filter(|memory| **memory >= candidate.gpu_memory).count();
    let (mut slots, mut gpus) = (free.slots, big_enough(&free.gpus));
    let mut asked = Vec::new();
    let can_yield = |job: &&Job| {
        next(job.state, job.stop_requested, Event::Yield) == Ok(Next::Ask(StopRequest::Yield))
    };
    for job in running.iter().filter(can_yield) {
        let frees = free.held.get(&job.id).map_or(0, |gpus| big_enough(gpus));
        let helps = if gpus < wanted { frees > 0 } else { slots == 0 };
        if helps {
            slots += 1;
            gpus += frees;
            asked.push(job);
        }
    }
    if slots >= 1 && gpus >= wanted { asked } else { Vec::new() }
}
