//! The gangs that there are at the moment, and which workers take part in them. Owns nothing; only reads, for the
//! commands that show it.

use serde::Serialize;
use uuid::Uuid;

use crate::{Database, GpuCount, Result};

/// A gang of a job that runs.
#[derive(Clone, Debug, Serialize)]
pub struct RunningGang {
    /// The job.
    #[serde(skip)]
    pub id: Uuid,
    /// The job, by its short id.
    #[serde(skip)]
    pub job: String,
    /// The attempt.
    pub attempt: i32,
    /// It waits for more hosts.
    pub assembling: bool,
    /// The hosts that the job takes.
    #[serde(skip)]
    pub wants: GpuCount,
    /// Ranks in all, once it is complete.
    pub ranks: Option<i32>,
    /// The seats that are taken.
    pub seats: Vec<HeldSeat>,
}

/// A seat that a worker has.
#[derive(Clone, Debug, Serialize)]
pub struct HeldSeat {
    /// The worker.
    #[serde(skip)]
    pub worker_id: Uuid,
    /// Its name.
    pub worker: String,
    /// Where it runs.
    pub host: String,
    /// The number of the seat, from 1.
    pub number: i32,
    /// Its first rank, once the gang is complete.
    pub first: Option<i32>,
    /// How many ranks it has, once it is ready.
    pub ranks: Option<i32>,
}

impl RunningGang {
    /// Hosts that are there, with that of the attempt.
    pub fn hosts(&self) -> usize {
        1 + self.seats.len()
    }

    /// How it stands: `waits for hosts: 1 of 2 are there`, `on 2 hosts`.
    pub fn text(&self) -> String {
        let hosts = self.hosts();
        match (self.assembling, hosts) {
            (true, 1) => format!("waits for hosts: 1 of {} is there", self.wants),
            (true, _) => format!("waits for hosts: {hosts} of {} are there", self.wants),
            (false, 1) => "on 1 host".to_owned(),
            (false, _) => format!("on {hosts} hosts"),
        }
    }
}

impl HeldSeat {
    /// Its ranks: `rank 1`, `ranks 8 to 15`; nothing before the gang is complete.
    pub fn its_ranks(&self) -> Option<String> {
        let (first, count) = (self.first?, self.ranks?);
        Some(match count {
            1 => format!("rank {first}"),
            _ => format!("ranks {first} to {}", first + count - 1),
        })
    }
}

impl Database {
    /// The gangs of all jobs that run, the oldest job first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn gangs(&self) -> Result<Vec<RunningGang>> {
        let rows = sqlx::query!(
            r#"select jobs.id, jobs.short as "short!", gangs.attempt, gangs.assembling,
                   jobs.hosts, jobs.hosts_most, gangs.world, seats.number as "number?",
                   workers.id as "worker_id?", workers.name as "worker?", workers.host as "host?",
                   seats.ranks as "ranks?",
                   case when gangs.world is not null then gangs.ranks + (
                       select coalesce(sum(lower.ranks), 0)::integer from seats as lower
                       where lower.job_id = jobs.id and lower.attempt = gangs.attempt
                         and lower.number < seats.number) end as first
               from jobs
               join gangs on gangs.job_id = jobs.id and gangs.attempt = jobs.attempt
               left join (seats join workers on workers.id = seats.worker_id)
                   on seats.job_id = jobs.id and seats.attempt = jobs.attempt
                   and seats.ended_at is null
               where jobs.state = 'running' and jobs.hosts_most > 1
               order by jobs.created_at, jobs.id, seats.number"#
        )
        .fetch_all(&self.pool)
        .await?;
        let mut gangs: Vec<RunningGang> = Vec::new();
        for row in rows {
            if gangs.last().is_none_or(|gang| gang.id != row.id) {
                gangs.push(RunningGang {
                    id: row.id,
                    job: row.short,
                    attempt: row.attempt,
                    assembling: row.assembling,
                    wants: GpuCount { least: row.hosts, most: row.hosts_most },
                    ranks: row.world,
                    seats: Vec::new(),
                });
            }
            if let (Some(gang), Some(number), Some(worker_id), Some(worker), Some(host)) =
                (gangs.last_mut(), row.number, row.worker_id, row.worker, row.host)
            {
                let (first, ranks) = (row.first, row.ranks);
                gang.seats.push(HeldSeat { worker_id, worker, host, number, first, ranks });
            }
        }
        Ok(gangs)
    }
}
