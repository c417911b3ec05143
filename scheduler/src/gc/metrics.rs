//! Points that nobody will see again: an attempt wrote them past the step from which a later one went on.
//! That stays so whatever happens to the job, because an attempt can only go back further; so no lock
//! is needed.

use registry::{Database, Result};
use uuid::Uuid;

use super::{Class, Fate, Item, Scope, Target};

pub(super) async fn find(db: &Database, scope: &Scope) -> Result<Vec<Item>> {
    let runs = sqlx::query!(
        r#"select jobs.id, jobs.short, count(*) as "count!",
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
        scope.ended_before,
    )
    .fetch_all(db.pool())
    .await?;
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(runs
        .into_iter()
        .map(|run| Item {
            class: Class::Metrics,
            what: format!("run {} hidden points", run.short),
            why: "a later attempt took another course".into(),
            place: None,
            count: unsigned(run.count),
            bytes: unsigned(run.bytes),
            target: Target::Points { run: run.id },
        })
        .collect())
}

pub(super) async fn remove(db: &Database, run: Uuid) -> Result<Fate> {
    sqlx::query!(
        "delete from metrics using series
         where series.id = series_id and run_id = $1 and exists (
             select from attempts later
             where later.job_id = $1 and later.number > metrics.attempt
               and later.resumed_at < metrics.step)",
        run,
    )
    .execute(db.pool())
    .await?;
    Ok(Fate::Gone)
}
