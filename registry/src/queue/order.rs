//! The order of the queue: by priority, then by place, which is a job's age until somebody moves it. A move changes one
//! job: its place, and its priority only where its new neighbours have others.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::find::Named;
use crate::queue::jobs::select_jobs;
use crate::{Database, Error, Job, JobState, Result};

/// What a queued job waits for that has not succeeded.
#[derive(Clone, Debug)]
pub struct AwaitedJob {
    /// The job that waits.
    pub job: Uuid,
    /// What it waits for, by its short id.
    pub short: String,
    /// The name of that.
    pub name: String,
}

/// Where a job stands in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot {
    priority: i32,
    place: OffsetDateTime,
}

impl Database {
    /// Queued jobs in the order in which claims look at them, from the one at `first` on.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn queue(&self, first: i64, count: i64) -> Result<Vec<Job>> {
        let rows = select_jobs!(
            "jobs where state = 'queued'
             order by priority desc, coalesce(place, created_at), id
             offset $1 limit $2",
            first,
            count,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// How many queued jobs are before this one; none where it is not queued.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn jobs_before(&self, job: Uuid) -> Result<Option<i64>> {
        let count = sqlx::query_scalar!(
            r#"select (select count(*) from jobs where state = 'queued' and (
                   priority > own.priority or (priority = own.priority
                   and (coalesce(place, created_at), id) < (coalesce(own.place, own.created_at), own.id))))
                   as "count!"
               from jobs own where id = $1 and state = 'queued'"#,
            job,
        );
        Ok(count.fetch_optional(&self.pool).await?)
    }

    /// Of these jobs, what each waits for that has not succeeded, in order of creation.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn awaited(&self, jobs: &[Uuid]) -> Result<Vec<AwaitedJob>> {
        let rows = sqlx::query_as!(
            AwaitedJob,
            r#"select job_id as job, parent.short as "short!", parent.name
               from dependencies join jobs parent on parent.id = parent_id
               where job_id = any($1) and parent.state <> 'succeeded'
               order by job_id, parent.created_at"#,
            jobs,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Moves a queued job before another queued one, or behind all where none is named. Nothing else moves.
    ///
    /// # Errors
    /// When one of them is not queued any more.
    pub async fn move_job(&self, job: Uuid, before: Option<Uuid>) -> Result<Job> {
        let mut tx = self.pool.begin().await?;
        // One move at a time: two jobs that go to one place would get the same.
        const MOVING: i64 = 0x7061_6c6d_6f76;
        sqlx::query!("select pg_advisory_xact_lock($1)", MOVING).execute(&mut *tx).await?;
        let moved = select_jobs!("jobs where id = $1 for update", job)
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| Job::not_found(&job.to_string()))?;
        let spots = sqlx::query!(
            r#"select short as "short!", state as "state: JobState" from jobs where id = any($1)"#,
            &[Some(job), before].into_iter().flatten().collect::<Vec<_>>(),
        )
        .fetch_all(&mut *tx)
        .await?;
        for row in &spots {
            if row.state != JobState::Queued {
                let (short, state) = (&row.short, row.state);
                return Err(Error::Failed(format!(
                    "job {short} is {state}: it has no place in the queue"
                )));
            }
        }
        if before == Some(job) {
            return Ok(moved);
        }
        let mut new = spot_before(&mut tx, job, before).await?;
        if new.is_none() {
            // No moment lies between the two.
            spread(&mut tx, before, job).await?;
            new = spot_before(&mut tx, job, before).await?;
        }
        let new = new.ok_or_else(|| Job::not_found(&job.to_string()))?;
        sqlx::query!(
            "update jobs set priority = $2, place = $3 where id = $1 and state = 'queued'",
            job,
            new.priority,
            new.place,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.job(job).await
    }
}

/// Where a job goes that is to stand before another, or behind all; none where no moment is left between two of one
/// priority.
async fn spot_before(
    tx: &mut PgConnection,
    job: Uuid,
    before: Option<Uuid>,
) -> Result<Option<Spot>> {
    let rows = sqlx::query!(
        r#"select id, priority, coalesce(place, created_at) as "place!" from jobs where id = any($1)"#,
        &[Some(job), before].into_iter().flatten().collect::<Vec<_>>(),
    )
    .fetch_all(&mut *tx)
    .await?;
    let spot = |id: Uuid| {
        let row = rows.iter().find(|row| row.id == id);
        let spot = row.map(|row| Spot { priority: row.priority, place: row.place });
        spot.ok_or_else(|| Job::not_found(&id.to_string()))
    };
    let own = spot(job)?;
    let below = before.map(spot).transpose()?;
    let above = sqlx::query_as!(
        Spot,
        r#"select priority, coalesce(place, created_at) as "place!" from jobs
           where state = 'queued' and id <> $1
             and ($2::uuid is null or priority > $3 or (priority = $3
                 and (coalesce(place, created_at), id) < ($4::timestamptz, $2)))
           order by priority, coalesce(place, created_at) desc, id desc
           limit 1"#,
        job,
        before,
        below.map_or(0, |it| it.priority),
        below.map(|it| it.place),
    )
    .fetch_optional(tx)
    .await?;
    let new = between(own, above, below);
    let behind = above.is_none_or(|it| it.priority != new.priority || it.place < new.place);
    let ahead = below.is_none_or(|it| it.priority != new.priority || new.place < it.place);
    Ok((behind && ahead).then_some(new))
}

/// Gives the queued jobs of a priority places a second apart, back from the last one's: their order stays, and what is
/// queued later comes behind them as before.
async fn spread(tx: &mut PgConnection, like: Option<Uuid>, but: Uuid) -> Result<()> {
    sqlx::query!(
        "with spread as (
             select id, max(coalesce(place, created_at)) over () as last,
                 row_number() over (order by coalesce(place, created_at) desc, id desc) - 1 as back
             from jobs
             where state = 'queued' and id <> $2
               and priority = (select priority from jobs where id = $1)
         )
         update jobs set place = last - make_interval(secs => back)
         from spread where jobs.id = spread.id and state = 'queued'",
        like,
        but,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The spot behind `above` and before `below` that is the least change.
fn between(own: Spot, above: Option<Spot>, below: Option<Spot>) -> Spot {
    const LEAST: Duration = Duration::microseconds(1);
    let mut priority = own.priority;
    if let Some(above) = above {
        priority = priority.min(above.priority);
    }
    if let Some(below) = below {
        priority = priority.max(below.priority);
    }
    let above = above.filter(|it| it.priority == priority).map(|it| it.place);
    let below = below.filter(|it| it.priority == priority).map(|it| it.place);
    let fits = above.is_none_or(|it| it < own.place) && below.is_none_or(|it| own.place < it);
    let place = match (above, below) {
        _ if fits => own.place,
        (Some(above), Some(below)) => {
            // Postgres has no smaller unit.
            let half = (below - above).whole_microseconds() / 2;
            above + Duration::microseconds(i64::try_from(half).unwrap_or(i64::MAX / 2_000))
        }
        (Some(above), None) => above + LEAST,
        (None, Some(below)) => below - LEAST,
        (None, None) => own.place,
    };
    Spot { priority, place }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(priority: i32, second: i64) -> Spot {
        let place = OffsetDateTime::UNIX_EPOCH + Duration::seconds(second);
        Spot { priority, place }
    }

    #[test]
    fn a_move_changes_as_little_as_possible() {
        let cases = [
            // Among equals the priority stays, and the place is between.
            (spot(0, 9), Some(spot(0, 1)), Some(spot(0, 3)), spot(0, 2)),
            // To the top of all.
            (spot(0, 9), None, Some(spot(5, 3)), spot(5, 2)),
            (spot(9, 9), None, Some(spot(5, 3)), spot(9, 9)),
            // To the end.
            (spot(7, 1), Some(spot(2, 8)), None, spot(2, 8)),
            (spot(1, 1), Some(spot(2, 8)), None, spot(1, 1)),
            // Between two priorities: its own where that lies there, otherwise the nearer.
            (spot(3, 1), Some(spot(5, 2)), Some(spot(1, 2)), spot(3, 1)),
            (spot(0, 1), Some(spot(5, 2)), Some(spot(1, 2)), spot(1, 1)),
            (spot(9, 1), Some(spot(5, 2)), Some(spot(1, 2)), spot(5, 2)),
            // It is there already.
            (spot(0, 2), Some(spot(0, 1)), Some(spot(0, 3)), spot(0, 2)),
            (spot(4, 2), None, None, spot(4, 2)),
        ];
        for (own, above, below, wanted) in cases {
            let new = between(own, above, below);
            let near = (new.place - wanted.place).abs() <= Duration::seconds(1);
            assert!(
                new.priority == wanted.priority && near,
                "{own:?} {above:?} {below:?}: {new:?}"
            );
            assert!(above.is_none_or(|it| (-it.priority, it.place) < (-new.priority, new.place)));
            assert!(below.is_none_or(|it| (-new.priority, new.place) < (-it.priority, it.place)));
        }
    }
}
