//! Which pictures stay, and what becomes of those that do not.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::queue::fence::{Fence, Idle};
use crate::{Database, JobState, Result};

/// Of these steps, in their order, those that do not stay where `most` do: the first and the last stay, and between
/// them each is about as many times the one before. Of a run that goes on, old steps thin out.
pub fn surplus(steps: &[i64], most: usize) -> Vec<i64> {
    if most == 0 {
        return steps.to_vec();
    }
    let mut kept: Vec<i64> = steps.to_vec();
    let mut gone = Vec::new();
    while kept.len() > most {
        let gap = |at: usize| {
            let of = |step: i64| (step.max(1) as f64).ln();
            of(kept[at + 1]) - of(kept[at - 1])
        };
        let inner = 1..kept.len() - 1;
        let closest = inner.min_by(|&a, &b| gap(a).total_cmp(&gap(b)));
        gone.push(kept.remove(closest.unwrap_or(0)));
    }
    gone.sort_unstable();
    gone
}

/// The pictures of a run that does not run.
#[derive(Clone, Debug)]
pub struct PictureFiles {
    /// The run.
    pub run: Uuid,
    /// Its short id.
    pub short: String,
    /// Its place.
    pub uri: String,
    /// The host of its last attempt, where that is known.
    pub host: Option<String>,
    /// The state of its job.
    pub state: JobState,
    /// Its job ended before the time that was asked for.
    pub due: bool,
    /// Steps of its outputs, in their order.
    pub steps: Vec<i64>,
    /// Pictures whose removal was begun.
    pub retiring: i64,
}

impl Database {
    /// Hides what a run need not keep where it keeps the outputs of `most` steps, and gives the digests of all
    /// files that may go: also those that a killed process may have left.
    ///
    /// # Errors
    /// When the attempt is stale, and those of the database.
    pub async fn retire_pictures(
        &self,
        fence: Fence,
        run: Uuid,
        most: usize,
    ) -> Result<Vec<String>> {
        let mut tx = self.fenced(fence).await?;
        let digests = retire(&mut tx, run, most).await?;
        tx.commit().await?;
        Ok(digests)
    }

    /// Forgets hidden pictures whose files are gone.
    ///
    /// # Errors
    /// When the attempt is stale, and those of the database.
    pub async fn pictures_gone(&self, fence: Fence, run: Uuid, digests: &[String]) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        forget(&mut tx, run, digests).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The runs that do not run and have pictures, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn runs_with_pictures(
        &self,
        ended_before: OffsetDateTime,
    ) -> Result<Vec<PictureFiles>> {
        let rows = sqlx::query_as!(
            PictureFiles,
            r#"select runs.id as run, runs.short as "short!", runs.uri, runs.host, jobs.state as "state: JobState",
                   coalesce(jobs.ended_at < $1, false) as "due!", steps as "steps!", retiring as "retiring!"
               from runs join jobs on jobs.id = runs.id
               cross join lateral (
                   select coalesce(array_agg(distinct step order by step)
                              filter (where part = 'output' and not retiring), '{}') as steps,
                          count(*) filter (where retiring) as retiring, count(*) as pictures
                   from pictures where run_id = runs.id
               ) of_run
               where jobs.state <> 'running' and pictures > 0
               order by runs.created_at, runs.id"#,
            ended_before,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// How many files of a run could go with the outputs of these steps, and their bytes; nothing is changed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn surplus_pictures(&self, run: Uuid, surplus: &[i64]) -> Result<(i64, i64)> {
        let row = sqlx::query!(
            r#"with going as (
                   select digest, max(bytes) as bytes,
                          bool_and(retiring or (part = 'output' and step = any($2))) as goes
                   from pictures where run_id = $1 group by digest)
               select count(*) as "count!", coalesce(sum(bytes), 0)::bigint as "bytes!" from going where goes"#,
            run,
            surplus,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok((row.count, row.bytes))
    }

    /// How many files a run has, and their bytes.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn all_pictures(&self, run: Uuid) -> Result<(i64, i64)> {
        let row = sqlx::query!(
            r#"select count(*) as "count!", coalesce(sum(bytes), 0)::bigint as "bytes!"
               from (select digest, max(bytes) as bytes from pictures where run_id = $1 group by digest) files"#,
            run,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok((row.count, row.bytes))
    }

    /// The digests of all pictures of a run, hidden ones too.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn picture_digests(&self, run: Uuid) -> Result<Vec<String>> {
        digests(&mut *self.pool.acquire().await?, run).await
    }
}

impl Idle {
    /// As [`Database::retire_pictures`], of the run that is held.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn retire_pictures(&mut self, most: usize) -> Result<Vec<String>> {
        retire(&mut self.tx, self.job, most).await
    }

    /// As [`Database::pictures_gone`].
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_pictures(&mut self, digests: &[String]) -> Result<()> {
        forget(&mut self.tx, self.job, digests).await
    }

    /// As [`Database::picture_digests`].
    ///
    /// # Errors
    /// Those of the database.
    pub async fn picture_digests(&mut self) -> Result<Vec<String>> {
        digests(&mut self.tx, self.job).await
    }
}

async fn digests(connection: &mut PgConnection, run: Uuid) -> Result<Vec<String>> {
    let rows = sqlx::query_scalar!("select distinct digest from pictures where run_id = $1", run);
    Ok(rows.fetch_all(connection).await?)
}

async fn retire(tx: &mut PgConnection, run: Uuid, most: usize) -> Result<Vec<String>> {
    // What no reader sees any more, because a later attempt took another course.
    sqlx::query!(
        "update pictures set retiring = true
         where run_id = $1 and not retiring and exists (
             select from attempts later
             where later.job_id = $1 and later.number > pictures.attempt and later.resumed_at < pictures.step)",
        run,
    )
    .execute(&mut *tx)
    .await?;
    let steps = sqlx::query_scalar!(
        "select distinct step from pictures
         where run_id = $1 and part = 'output' and not retiring order by step",
        run,
    )
    .fetch_all(&mut *tx)
    .await?;
    sqlx::query!(
        "update pictures set retiring = true
         where run_id = $1 and not retiring and (step = any($2) and part = 'output' or $3)",
        run,
        &surplus(&steps, most),
        most == 0,
    )
    .execute(&mut *tx)
    .await?;
    // The file of a hidden row may be that of a shown one too.
    sqlx::query!(
        "delete from pictures where run_id = $1 and retiring and digest in (
             select digest from pictures where run_id = $1 and not retiring)",
        run,
    )
    .execute(&mut *tx)
    .await?;
    let digests = sqlx::query_scalar!(
        "select distinct digest from pictures where run_id = $1 and retiring order by digest",
        run,
    );
    Ok(digests.fetch_all(tx).await?)
}

async fn forget(tx: &mut PgConnection, run: Uuid, digests: &[String]) -> Result<()> {
    sqlx::query!(
        "delete from pictures where run_id = $1 and retiring and digest = any($2)",
        run,
        digests,
    )
    .execute(tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::surplus;

    #[test]
    fn the_first_and_the_last_stay_and_between_them_steps_thin_out() {
        let steps: Vec<i64> = (1..=8).map(|n| n * 10).collect();
        assert_eq!(surplus(&steps, 8), [0; 0]);
        assert_eq!(surplus(&steps, 6), [50, 70]);
        assert_eq!(surplus(&steps, 2).len(), 6);
        assert_eq!(surplus(&steps, 1), steps[..7]);
        assert_eq!(surplus(&steps, 0), steps);
        assert_eq!(surplus(&[], 3), [0; 0]);
    }

    #[test]
    fn what_stays_of_a_run_that_goes_on_is_spread_whenever_it_is_looked_at() {
        let mut kept: Vec<i64> = Vec::new();
        for step in (100..=1_000_000).step_by(100) {
            kept.push(step);
            let gone = surplus(&kept, 48);
            kept.retain(|step| !gone.contains(step));
        }
        assert_eq!((kept.len(), kept[0], kept[47]), (48, 100, 1_000_000));
        let ratios = kept.windows(2).map(|pair| pair[1] as f64 / pair[0] as f64);
        assert!(ratios.fold(0.0, f64::max) <= 2.0, "{kept:?}");
    }
}
