//! Which checkpoints of a run stay. What a training attempt, or later [`crate::gc`], does not keep
//! retires: from then on nobody can choose it, its files are removed, then its row. Owns the column
//! `state` of `checkpoints` and, after the submission, `step` of `samplings`.
//!
//! Always holds: a kept checkpoint is complete where its row says; no checkpoint begins to retire
//! while an unfinished sampling job names it.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::checkpoints::reclaim::{self, CheckpointFolder};
use crate::checkpoints::{best, pick, select_checkpoints};
use crate::queue::fence::Fence;
use crate::{At, Checkpoint, CheckpointKind, Database, Result, Run, RunRef};

/// Which regular checkpoints of a run stay besides its best one and those that jobs need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many; 0 keeps all.
    pub keep_last: u32,
    /// Those at multiples of so many steps; 0 keeps none for that reason.
    pub keep_every: i64,
}

impl Retention {
    /// Steps of the checkpoints that need not stay, of all kept ones by step. What stays: the newest,
    /// multiples, step 0, what is final or imported, the best one, and what is `named` by jobs.
    pub fn surplus(self, all: &[Checkpoint], best_metric: &str, named: &[i64]) -> Vec<i64> {
        if self.keep_last == 0 {
            return Vec::new();
        }
        let newest =
            all.len().saturating_sub(usize::try_from(self.keep_last).unwrap_or(usize::MAX));
        let best = best(all, best_metric).map(|checkpoint| checkpoint.step);
        all[..newest]
            .iter()
            .filter(|checkpoint| checkpoint.kind == CheckpointKind::Regular)
            .map(|checkpoint| checkpoint.step)
            .filter(|&step| step != 0 && Some(step) != best && !named.contains(&step))
            .filter(|&step| self.keep_every <= 0 || step % self.keep_every != 0)
            .collect()
    }
}

/// What decides about the checkpoints of a run.
pub struct RunCheckpoints {
    /// The kept ones, by step.
    pub kept: Vec<Checkpoint>,
    /// The metric by which the best one is found.
    pub best_metric: String,
    /// Steps that unfinished sampling jobs name.
    pub named: Vec<i64>,
    /// An unfinished sampling job will choose the best or the newest when it begins.
    pub awaited: bool,
}

impl RunCheckpoints {
    /// How it is; in a transaction that holds the run's row it stays so.
    pub(super) async fn read(connection: &mut PgConnection, run: Uuid) -> Result<Self> {
        let best_metric = sqlx::query_scalar!("select best_metric from runs where id = $1", run)
            .fetch_one(&mut *connection)
            .await?;
        let kept = select_checkpoints!("where run_id = $1 and state = 'kept' order by step", run)
            .fetch_all(&mut *connection)
            .await?;
        // A job that names @best or @latest names no step until it begins, and then chooses among
        // the best and the newest of that moment.
        let steps = sqlx::query_scalar!(
            "select step from samplings join jobs on jobs.id = job_id
             where samplings.run_id = $1 and jobs.state in ('queued', 'running', 'paused')",
            run,
        )
        .fetch_all(connection)
        .await?;
        let awaited = steps.contains(&None);
        Ok(Self { kept, best_metric, named: steps.into_iter().flatten().collect(), awaited })
    }

    /// Steps of all kept ones that no unfinished job needs, whatever else they are but the end of the run:
    /// one that is extended and then cancelled had ended well before.
    pub fn unneeded(&self) -> Vec<i64> {
        let newest = self.kept.last().map(|checkpoint| checkpoint.step);
        let best = best(&self.kept, &self.best_metric).map(|checkpoint| checkpoint.step);
        let awaited = |step| self.awaited && (Some(step) == newest || Some(step) == best);
        let ends = |checkpoint: &&Checkpoint| checkpoint.kind == CheckpointKind::Final;
        let steps = self.kept.iter().filter(|one| !ends(one)).map(|checkpoint| checkpoint.step);
        steps.filter(|&step| !self.named.contains(&step) && !awaited(step)).collect()
    }
}

/// Retires the checkpoints of a run at the steps that `surplus` gives. The transaction holds the
/// run's job: as its attempt (`Database::fenced`), or where it does not run ([`Database::idle`]).
///
/// Safe against submissions and choices at the same moment: this locks the run's row `for update`
/// before it looks at what jobs name, and whoever makes a job name a step
/// ([`Database::submit_sampling`], `Database::choose_checkpoint`) holds the row `for key share`
/// from before it looks at the checkpoint until it commits. So either the name is seen here, or the
/// retirement is seen there.
pub(super) async fn retire(
    tx: &mut PgConnection,
    run: Uuid,
    surplus: impl FnOnce(&RunCheckpoints) -> Vec<i64>,
) -> Result<()> {
    sqlx::query!("select from runs where id = $1 for update", run).fetch_one(&mut *tx).await?;
    let standing = RunCheckpoints::read(tx, run).await?;
    sqlx::query!(
        "update checkpoints set state = 'retiring'
         where run_id = $1 and step = any($2) and state = 'kept'",
        run,
        &surplus(&standing),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn forget(tx: &mut PgConnection, run: Uuid, step: i64) -> Result<()> {
    sqlx::query!(
        "delete from checkpoints where run_id = $1 and step = $2 and state = 'retiring'",
        run,
        step,
    )
    .execute(tx)
    .await?;
    Ok(())
}

impl Database {
    /// Retires what a run need not keep, and gives all of its retiring checkpoints, by step: also
    /// those whose files a killed process may have left.
    ///
    /// Safe against submissions and choices at the same moment, see [`retire`]. Metrics and
    /// checkpoints of the run wait meanwhile.
    pub(crate) async fn retire_checkpoints(
        &self,
        fence: Fence,
        run: Uuid,
        retention: &Retention,
    ) -> Result<Vec<CheckpointFolder>> {
        let mut tx = self.fenced(fence).await?;
        retire(&mut tx, run, |run| retention.surplus(&run.kept, &run.best_metric, &run.named))
            .await?;
        let mut folders = reclaim::folders(&mut tx, run).await?;
        tx.commit().await?;
        folders.retain(|folder| folder.retiring);
        Ok(folders)
    }

    /// Forgets a retiring checkpoint whose files are gone. One that was written again meanwhile is
    /// kept and stays; that it is forgotten already is no error.
    pub(crate) async fn checkpoint_gone(&self, fence: Fence, run: Uuid, step: i64) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        forget(&mut tx, run, step).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The run and the checkpoint that a reference names now; where one was chosen for the sample job
    /// `of` before, that one. It stays until the job has ended.
    pub(crate) async fn choose_checkpoint(
        &self,
        fence: Fence,
        of: Uuid,
        reference: &RunRef,
    ) -> Result<(Run, Checkpoint)> {
        let run = self.find_run(&reference.run).await?;
        let mut tx = self.fenced(fence).await?;
        let chosen = sqlx::query_scalar!(
            "select step from samplings where job_id = $1 and run_id = $2 for no key update",
            of,
            run.id,
        )
        .fetch_optional(&mut *tx)
        .await?
        .flatten();
        let reference = match chosen {
            Some(step) => &RunRef { at: At::Step(step), ..reference.clone() },
            None => reference,
        };
        sqlx::query!("select from runs where id = $1 for key share", run.id)
            .fetch_one(&mut *tx)
            .await?;
        let kept =
            select_checkpoints!("where run_id = $1 and state = 'kept' order by step", run.id)
                .fetch_all(&mut *tx)
                .await?;
        let checkpoint = pick(&run, kept, reference)?;
        sqlx::query!(
            "update samplings set step = $3 where job_id = $1 and run_id = $2",
            of,
            run.id,
            checkpoint.step,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok((run, checkpoint))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use time::OffsetDateTime;

    use super::*;

    fn checkpoint(step: i64, kind: CheckpointKind, metrics: Value) -> Checkpoint {
        Checkpoint {
            run_id: Uuid::nil(),
            step,
            attempt: 1,
            kind,
            uri: String::new(),
            bytes: 0,
            digest: String::new(),
            metrics,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn surplus(keep_last: u32, keep_every: i64, all: &[Checkpoint], named: &[i64]) -> Vec<i64> {
        Retention { keep_last, keep_every }.surplus(all, "loss", named)
    }

    #[test]
    fn each_reason_to_keep_counts_by_itself() {
        use CheckpointKind::{Final, Imported, Regular};
        let regular = |step| checkpoint(step, Regular, json!({}));
        let all: Vec<_> = (0..=6).map(|n| regular(10 * n)).collect();
        assert_eq!(surplus(0, 0, &all, &[]), [0; 0], "all stay");
        assert_eq!(surplus(1, 0, &all, &[]), [10, 20, 30, 40, 50], "the newest, and step 0");
        assert_eq!(surplus(3, 0, &all, &[]), [10, 20, 30]);
        assert_eq!(surplus(7, 0, &all, &[]), [0; 0]);
        assert_eq!(surplus(u32::MAX, 0, &all, &[]), [0; 0]);
        assert_eq!(surplus(1, 20, &all, &[]), [10, 30, 50], "multiples");
        assert_eq!(surplus(1, 0, &all, &[30, 31]), [10, 20, 40, 50], "what a job names");
        assert_eq!(surplus(1, 0, &[], &[]), [0; 0]);

        let kinds = [
            checkpoint(10, Imported, json!({})),
            regular(20),
            checkpoint(30, Final, json!({})),
            regular(40),
        ];
        assert_eq!(surplus(1, 0, &kinds, &[]), [20], "what is final or imported");
    }

    #[test]
    fn the_best_one_is_the_newest_of_the_lowest() {
        let scored = |losses: &[Value]| -> Vec<_> {
            let steps = losses.iter().zip(1..);
            let scored = |(loss, step): (&Value, i64)| {
                checkpoint(step, CheckpointKind::Regular, json!({ "loss": loss, "other": 0 }))
            };
            steps.map(scored).collect()
        };
        let all = scored(&[json!(0.3), json!(0.1), json!(0.1), json!(null), json!(0.2)]);
        assert_eq!(surplus(1, 0, &all, &[]), [1, 2, 4]);
        // Without a score none is the best.
        assert_eq!(surplus(1, 0, &scored(&[json!(null), json!("?"), json!(null)]), &[]), [1, 2]);
    }
}
