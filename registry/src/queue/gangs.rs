//! Gangs: attempts that several hosts make together. The attempt itself is claimed by one worker as ever; workers
//! of other hosts take seats beside it. Owns `gangs` and `seats`.
//!
//! Rows are keyed by job and attempt, so that a straggler of an older attempt finds nothing. A seat has no lease of
//! its own: it ends with the attempt.

use std::fmt;

use serde::Serialize;
use sqlx::Connection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::queue::attempts::Tail;
use crate::queue::fence::Fence;
use crate::workers::gpus::gpus_taken;
use crate::{Database, Job, Lease, Resources, Result, Taken, WorkerInfo};

/// How the reason of an attempt begins whose gang was given up.
pub const TOO_FEW_HOSTS: &str = "too few hosts: ";

/// A place that a worker took in the gang of another.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The job.
    pub job: Job,
    /// The attempt that it belongs to.
    pub fence: Fence,
    /// Its number, from 1.
    pub number: i32,
}

/// A gang as its members see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gang {
    /// The attempt goes on. Whether its lease does is for the host of the attempt to know, which renews it.
    pub goes_on: bool,
    /// It was given up because too few hosts came.
    pub too_few: bool,
    /// It waits for more hosts.
    pub assembling: bool,
    /// Seats whose hosts are ready.
    pub seated: i64,
    /// Ranks in all, once it is complete.
    pub world: Option<i32>,
    /// Host and port that the ranks meet at, once they are known.
    pub meeting: Option<(String, i32)>,
    /// The first rank of a seat, and how many it has, if it is one of the complete gang.
    pub ranks: Option<(i32, i32)>,
}

/// A row of `seats`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, described in migrations/")]
pub struct SeatRow {
    pub attempt: i32,
    pub number: i32,
    pub host: Option<String>,
    pub worker: Option<String>,
    pub ranks: Option<i32>,
    pub gpus: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub taken_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    pub reason: Option<String>,
    /// Its first rank, once the gang is complete.
    pub first: Option<i64>,
    pub log_path: Option<String>,
    pub log_tail: Option<String>,
    pub log_bytes: i64,
}

/// A host that takes part in an attempt beside its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherHost {
    /// The number of its seat.
    pub number: i32,
    /// Its name.
    pub host: String,
    /// Its ranks.
    pub ranks: i32,
    /// Its first rank.
    pub first: i64,
    /// Its worker has given the seat up; without a reason, its ranks lost those of another host first.
    pub left: bool,
    /// Its worker has ended, or was not seen within the length of a lease.
    pub gone: bool,
    /// Why its ranks were lost, or what is wrong with them.
    pub reason: Option<String>,
}

impl fmt::Display for OtherHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, ranks, host, .. } = self;
        match ranks {
            1 => write!(f, "rank {first} on {host}"),
            _ => write!(f, "ranks {first} to {} on {host}", first + i64::from(*ranks) - 1),
        }
    }
}

impl Database {
    /// Takes a free seat that fits, in the gang that assembles, on a host that has none in it yet. One that this worker
    /// has taken and not sat on is given again: the answer may have been lost.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn claim_seat(
        &self,
        worker: &WorkerInfo,
        resources: &Resources,
    ) -> Result<Option<Seat>> {
        let kinds = resources.kind_names();
        let taken = sqlx::query!(
            r#"with free as (
                   select seats.job_id, seats.attempt, seats.number
                   from gangs
                   join jobs on jobs.id = gangs.job_id and jobs.attempt = gangs.attempt
                   join attempts on attempts.job_id = gangs.job_id and attempts.number = gangs.attempt
                   join seats on seats.job_id = gangs.job_id and seats.attempt = gangs.attempt
                   where gangs.assembling and jobs.state = 'running' and jobs.stop_requested is null
                     and (seats.worker_id is null or seats.worker_id = $1 and seats.ranks is null)
                     and seats.ended_at is null
                     and attempts.host <> $2
                     and not exists (select from seats as other
                                     where other.job_id = gangs.job_id and other.attempt = gangs.attempt
                                       and other.host = $2 and other.number <> seats.number)
                     and jobs.kind = any($3::text[]::job_kind[])
                     and jobs.gpus <= (select count(*) from unnest($4::bigint[]) as memory
                                       where memory >= jobs.gpu_memory)
                     and jobs.labels <@ $5
                     and jobs.id <> all($6)
                   order by seats.number
                   limit 1
                   for update of seats skip locked
               )
               update seats set worker_id = $1, host = $2, taken_at = now()
               from free
               where seats.job_id = free.job_id and seats.attempt = free.attempt
                 and seats.number = free.number
               returning seats.job_id, seats.attempt, seats.number"#,
            worker.id,
            worker.host,
            &kinds,
            &resources.gpus,
            resources.labels,
            &resources.except,
        );
        let taken =
            self.on_line(async |connection| Ok(taken.fetch_optional(connection).await?)).await?;
        let Some(row) = taken else { return Ok(None) };
        let fence = Fence { job: row.job_id, number: row.attempt };
        Ok(Some(Seat { job: self.job(row.job_id).await?, fence, number: row.number }))
    }

    /// Says that the host of a seat is ready: how many ranks it has, and its GPUs, unless another worker has one of
    /// them: that one is returned.
    ///
    /// # Errors
    /// When the seat is not this worker's any more.
    pub async fn sit(
        &self,
        worker: Uuid,
        seat: &Seat,
        ranks: i32,
        gpus: &[String],
    ) -> Result<Option<Taken>> {
        self.on_line(async |connection| {
            let mut tx = connection.begin().await?;
            if let Some(taken) = gpus_taken(&mut tx, worker, gpus).await? {
                return Ok(Some(taken));
            }
            let sat = sqlx::query!(
                "update seats set ranks = $4, gpus = nullif($5, '')
                 where job_id = $1 and attempt = $2 and number = $3 and worker_id = $6
                   and ended_at is null",
                seat.fence.job,
                seat.fence.number,
                seat.number,
                ranks,
                gpus.join(","),
                worker,
            );
            if sat.execute(&mut *tx).await?.rows_affected() == 0 {
                return Err(seat.fence.stale());
            }
            tx.commit().await?;
            Ok(None)
        })
        .await
    }

    /// How a gang stands, for the host of this seat; 0 is that of the attempt.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn gang(&self, fence: Fence, seat: i32) -> Result<Gang> {
        let row = sqlx::query!(
            r#"select assembling, world, address, port,
                   (select count(*) from seats
                    where job_id = $1 and attempt = $2 and ranks is not null and ended_at is null)
                       as "seated!",
                   case when $3 = 0 then gangs.ranks
                        else (select ranks from seats where job_id = $1 and attempt = $2 and number = $3
                                and ended_at is null) end as own,
                   coalesce(gangs.ranks, 0) + (select coalesce(sum(ranks), 0)::integer from seats
                       where job_id = $1 and attempt = $2 and number < $3 and ranks is not null)
                       as "first!",
                   exists (select from jobs where id = $1 and jobs.attempt = $2 and state = 'running'
                             and ($3 = 0 or lease_expires_at > now())) as "goes_on!",
                   coalesce((select starts_with(reason, $4) from attempts
                             where job_id = $1 and attempts.number = $2), false) as "too_few!"
               from gangs where job_id = $1 and attempt = $2"#,
            fence.job,
            fence.number,
            seat,
            TOO_FEW_HOSTS,
        );
        let row =
            self.on_line(async |connection| Ok(row.fetch_optional(connection).await?)).await?;
        let Some(row) = row else { return Ok(Gang::default()) };
        Ok(Gang {
            goes_on: row.goes_on,
            too_few: row.too_few,
            assembling: row.assembling,
            seated: row.seated,
            world: row.world,
            meeting: row.address.zip(row.port),
            ranks: row.own.map(|own| (row.first, own)),
        })
    }

    /// Ends the wait for hosts: the first `seats` of those that are ready take part beside the host of the attempt, which
    /// has room for `ranks` ranks; all other seats are given up. Every host has as many ranks as the one with the least
    /// room. Gives the number of ranks in all and on each host; nothing where a host has left meanwhile,
    /// or the gang does not assemble any more. Where the answer is lost, [`Database::gang`] says what has become of it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn complete_gang(
        &self,
        fence: Fence,
        seats: i64,
        ranks: i32,
    ) -> Result<Option<(i32, i32)>> {
        let complete = sqlx::query!(
            r#"with gang as (
                   select from gangs where job_id = $1 and attempt = $2 and assembling
                   for update
               ), chosen as (
                   select number, ranks from seats
                   where job_id = $1 and attempt = $2 and ranks is not null and ended_at is null
                     and exists (select from gang)
                   order by number limit $3
                   for update
               ), complete as (
                   update gangs
                   set assembling = false, ranks = each.ranks, world = each.ranks * ($3::integer + 1)
                   from (select least($4, min(chosen.ranks)) as ranks from chosen) as each
                   where job_id = $1 and attempt = $2 and assembling
                     and (select count(*) from chosen) = $3
                   returning world, gangs.ranks
               ), even as (
                   update seats set ranks = complete.ranks from complete
                   where job_id = $1 and attempt = $2 and number in (select number from chosen)
               ), given_up as (
                   update seats set ended_at = now()
                   where job_id = $1 and attempt = $2 and ended_at is null
                     and number not in (select number from chosen)
                     and exists (select from complete)
               )
               select world as "world!", ranks as "ranks!" from complete"#,
            fence.job,
            fence.number,
            seats,
            ranks,
        );
        let row =
            self.on_line(async |connection| Ok(complete.fetch_optional(connection).await?)).await?;
        Ok(row.map(|row| (row.world, row.ranks)))
    }

    /// Says where the ranks of a gang meet.
    ///
    /// # Errors
    /// When the attempt is stale.
    pub async fn meet_gang(&self, fence: Fence, address: &str, port: u16) -> Result<()> {
        let met = sqlx::query!(
            "update gangs set address = $3, port = $4 where job_id = $1 and attempt = $2",
            fence.job,
            fence.number,
            address,
            i32::from(port),
        );
        let met = self.on_line(async |connection| Ok(met.execute(connection).await?)).await?;
        if met.rows_affected() == 0 { Err(fence.stale()) } else { Ok(()) }
    }

    /// Notes where the ranks of a seat write their log.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn note_seat_log(&self, seat: &Seat, log: &str) -> Result<()> {
        let noted = sqlx::query!(
            "update seats set log_path = $4
             where job_id = $1 and attempt = $2 and number = $3 and ended_at is null",
            seat.fence.job,
            seat.fence.number,
            seat.number,
            log,
        );
        self.on_line(async |connection| {
            noted.execute(connection).await?;
            Ok(())
        })
        .await
    }

    /// Says of a seat that goes on what is wrong with it, or that nothing is any more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn note_seat(&self, fence: Fence, number: i32, reason: Option<&str>) -> Result<()> {
        let noted = sqlx::query!(
            "update seats set reason = $4
             where job_id = $1 and attempt = $2 and number = $3 and ended_at is null",
            fence.job,
            fence.number,
            number,
            reason,
        );
        self.on_line(async |connection| {
            noted.execute(connection).await?;
            Ok(())
        })
        .await
    }

    /// Gives up a seat; `reason` says why its ranks were lost, where they were. `log` is the end of what they wrote. As long
    /// as the gang assembles, the seat is free for others then.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn leave_seat(
        &self,
        worker: Uuid,
        seat: &Seat,
        reason: Option<&str>,
        log: &Tail,
    ) -> Result<()> {
        let freed = sqlx::query!(
            "with gang as (
                 select from gangs where job_id = $1 and attempt = $2 and assembling for update
             )
             update seats
             set worker_id = null, host = null, taken_at = null, ranks = null, gpus = null
             where job_id = $1 and attempt = $2 and number = $3 and worker_id = $4
               and exists (select from gang)",
            seat.fence.job,
            seat.fence.number,
            seat.number,
            worker,
        );
        let left = sqlx::query!(
            "update seats
             set ended_at = coalesce(ended_at, now()), reason = coalesce($4, reason),
                 log_tail = nullif($5, ''), log_bytes = $6
             where job_id = $1 and attempt = $2 and number = $3 and worker_id = $7",
            seat.fence.job,
            seat.fence.number,
            seat.number,
            reason,
            log.text,
            log.bytes,
            worker,
        );
        self.on_line(async |connection| {
            if freed.execute(&mut *connection).await?.rows_affected() > 0 {
                return Ok(());
            }
            left.execute(connection).await?;
            Ok(())
        })
        .await
    }

    /// Asks the attempt of a seat to give way: its host has to go.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ask_gang_to_yield(&self, fence: Fence) -> Result<()> {
        let asked = sqlx::query!(
            "update jobs set stop_requested = 'yield'
             where id = $1 and attempt = $2 and state = 'running' and stop_requested is null",
            fence.job,
            fence.number,
        );
        self.on_line(async |connection| {
            asked.execute(connection).await?;
            Ok(())
        })
        .await
    }

    /// The seats of all attempts at a job that were taken.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn seats(&self, job: Uuid) -> Result<Vec<SeatRow>> {
        let rows = sqlx::query_as!(
            SeatRow,
            r#"select seats.attempt, number, seats.host, workers.name as "worker?", seats.ranks,
                   seats.gpus, taken_at, seats.ended_at, reason,
                   gangs.ranks + sum(seats.ranks) over before - seats.ranks as first,
                   log_path, log_tail, log_bytes
               from seats
               join gangs on gangs.job_id = seats.job_id and gangs.attempt = seats.attempt
               join workers on workers.id = worker_id
               where seats.job_id = $1
               window before as (partition by seats.attempt order by number)
               order by seats.attempt, number"#,
            job,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The hosts that take part in an attempt beside its own, in the order of their ranks. Who was seen within the length
    /// of a lease lives.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn others_of_gang(&self, fence: Fence, lease: &Lease) -> Result<Vec<OtherHost>> {
        let rows = sqlx::query_as!(
            OtherHost,
            r#"select seats.number, seats.host as "host!", seats.ranks as "ranks!",
                   gangs.ranks + sum(seats.ranks) over (order by seats.number) - seats.ranks as "first!",
                   seats.ended_at is not null as "left!",
                   (workers.ended_at is not null
                    or workers.last_seen_at < now() - make_interval(secs => $3)) as "gone!",
                   reason
               from seats join gangs on gangs.job_id = seats.job_id and gangs.attempt = seats.attempt
               join workers on workers.id = seats.worker_id
               where seats.job_id = $1 and seats.attempt = $2 and seats.ranks is not null
                 and gangs.ranks is not null
               order by seats.number"#,
            fence.job,
            fence.number,
            lease.length.as_secs_f64(),
        );
        self.on_line(async |connection| Ok(rows.fetch_all(connection).await?)).await
    }
}
