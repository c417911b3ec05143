//! Checkpoints that lie complete where they are. Owns
//! `checkpoints`. A checkpoint is registered after its folder was renamed into
//! place, never before. Who reads them sees the kept ones alone, never one that retires
//! ([`crate::retention`]).

mod named;
mod reclaim;
mod removal;
mod retention;

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::queue::fence::Fence;
use crate::runs::forks;
use crate::{Database, Error, Result, Run};

pub use named::{CheckpointName, Named};
pub use reclaim::{CheckpointFolder, Reclaimable};
pub use removal::Removal;
pub use retention::{Retention, RunCheckpoints};

/// Why a checkpoint was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "checkpoint_kind", rename_all = "lowercase")]
pub enum CheckpointKind {
    /// On the way, by schedule or because the attempt was asked to stop.
    Regular,
    /// At the end of the run.
    Final,
    /// Brought in from elsewhere.
    Imported,
}

/// A checkpoint to register.
#[derive(Clone, Debug)]
pub struct CheckpointRecord {
    /// Steps made when it was written.
    pub step: i64,
    /// Why it was written.
    pub kind: CheckpointKind,
    /// Its folder.
    pub uri: String,
    /// The size of its files together.
    pub bytes: i64,
    /// What identifies its content, a sha256 in hex.
    pub digest: String,
    /// Metrics at this step; `@best` chooses by them.
    pub metrics: BTreeMap<String, f64>,
}

/// A row of `checkpoints`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, as in CheckpointRecord")]
pub struct Checkpoint {
    pub run_id: Uuid,
    pub step: i64,
    pub attempt: i32,
    pub kind: CheckpointKind,
    pub uri: String,
    pub bytes: i64,
    pub digest: String,
    pub metrics: Value,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Selects whole rows of `checkpoints`; the text goes on after the table.
macro_rules! select_checkpoints {
    ($tail:tt $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            crate::Checkpoint,
            r#"select run_id, step, attempt, kind as "kind: crate::CheckpointKind", uri, bytes,
                   digest, metrics, created_at
               from checkpoints "# + $tail
            $(, $argument)*
        )
    };
}
pub(crate) use select_checkpoints;

/// Which checkpoint of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The newest.
    Latest,
    /// The one with the lowest value of the run's `best_metric`, the newest of several.
    Best,
    /// The one at this step.
    Step(i64),
}

/// A checkpoint as people name it: `RUN`, `RUN@latest`, `RUN@best`, `RUN@STEP`, where RUN is a
/// name or the beginning of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRef {
    /// The run, as typed.
    pub run: String,
    /// Which of its checkpoints.
    pub at: At,
}

impl FromStr for RunRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (run, at) = match text.rsplit_once('@') {
            None => (text, At::Latest),
            Some((run, "latest")) => (run, At::Latest),
            Some((run, "best")) => (run, At::Best),
            Some((run, step)) => match step.parse() {
                Ok(step) if step >= 0 => (run, At::Step(step)),
                _ => return Err("after a run comes @latest, @best or @STEP".to_owned()),
            },
        };
        if run.is_empty() {
            return Err(format!("`{text}` names no run"));
        }
        Ok(Self { run: run.to_owned(), at })
    }
}

impl std::fmt::Display for RunRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.at {
            At::Latest => write!(f, "{}@latest", self.run),
            At::Best => write!(f, "{}@best", self.run),
            At::Step(step) => write!(f, "{}@{step}", self.run),
        }
    }
}

impl Database {
    /// Registers a checkpoint of a run; the same step again replaces what was registered, and is
    /// kept even if that was retiring.
    pub async fn record_checkpoint(
        &self,
        fence: Fence,
        run: Uuid,
        new: &CheckpointRecord,
    ) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        sqlx::query!(
            "insert into checkpoints (run_id, step, attempt, kind, uri, bytes, digest, metrics)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict on constraint checkpoints_pkey do update
             set attempt = excluded.attempt, kind = excluded.kind, uri = excluded.uri,
                 bytes = excluded.bytes, digest = excluded.digest, metrics = excluded.metrics,
                 created_at = now(), state = 'kept'",
            run,
            new.step,
            fence.number,
            new.kind as CheckpointKind,
            new.uri,
            new.bytes,
            new.digest,
            serde_json::to_value(&new.metrics).unwrap_or_default(),
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "update runs set last_step = greatest(last_step, $2) where id = $1",
            run,
            new.step,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The kept checkpoints of a run, by step.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn checkpoints(&self, run: Uuid) -> Result<Vec<Checkpoint>> {
        let rows = select_checkpoints!("where run_id = $1 and state = 'kept' order by step", run);
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The newest kept checkpoint of a run.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn latest_checkpoint(&self, run: Uuid) -> Result<Option<Checkpoint>> {
        let row = select_checkpoints!(
            "where run_id = $1 and state = 'kept' order by step desc limit 1",
            run,
        );
        Ok(row.fetch_optional(&self.pool).await?)
    }

    /// The steps of a run's checkpoints that are set aside: damaged, or left behind when it was taken back.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn set_aside(&self, run: Uuid) -> Result<Vec<i64>> {
        let steps = sqlx::query_scalar!(
            "select step from checkpoints where run_id = $1 and state = 'aside' order by step",
            run,
        );
        Ok(steps.fetch_all(&self.pool).await?)
    }

    /// Sets checkpoints of a run aside that are damaged.
    pub(crate) async fn set_aside_damaged(
        &self,
        fence: Fence,
        run: Uuid,
        steps: &[i64],
    ) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        sqlx::query!(
            "update checkpoints set state = 'aside'
             where run_id = $1 and step = any($2) and state = 'kept'",
            run,
            steps,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The run and the checkpoint that a reference names.
    ///
    /// # Errors
    /// When there is no such run, or it has no such checkpoint.
    pub async fn checkpoint(&self, reference: &RunRef) -> Result<(Run, Checkpoint)> {
        let run = self.find_run(&reference.run).await?;
        let checkpoint = pick(&run, self.checkpoints(run.id).await?, reference)?;
        Ok((run, checkpoint))
    }
}

/// Takes a run back to the checkpoint of a step: later ones are set aside. 0 is its beginning, with or
/// without a checkpoint of that step: all are set aside. The beginning of a fork is the checkpoint that it
/// came with.
///
/// # Errors
/// When it has none of that step.
pub(crate) async fn take_back(tx: &mut PgConnection, run: Uuid, step: i64) -> Result<()> {
    let step = if step == 0 { forks::beginning(tx, run).await? } else { step };
    let kept = select_checkpoints!("where run_id = $1 and state = 'kept' order by step", run)
        .fetch_all(&mut *tx)
        .await?;
    if step != 0 && !kept.iter().any(|checkpoint| checkpoint.step == step) {
        let steps: Vec<String> =
            kept.iter().map(|checkpoint| checkpoint.step.to_string()).collect();
        let there = if steps.is_empty() { "none".to_owned() } else { steps.join(", ") };
        return Err(Error::Invalid(format!(
            "there is no checkpoint of step {step}; there are: {there}"
        )));
    }
    let last = if step == 0 { -1 } else { step };
    sqlx::query!(
        "update checkpoints set state = 'aside' where run_id = $1 and step > $2 and state = 'kept'",
        run,
        last,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The one of a run's checkpoints, by step, that a reference names.
pub(crate) fn pick(run: &Run, all: Vec<Checkpoint>, reference: &RunRef) -> Result<Checkpoint> {
    let found = match reference.at {
        At::Latest => all.last(),
        At::Step(step) => all.iter().find(|checkpoint| checkpoint.step == step),
        At::Best => best(&all, &run.best_metric),
    };
    found.cloned().ok_or_else(|| {
        let steps: Vec<String> = all.iter().map(|checkpoint| checkpoint.step.to_string()).collect();
        let (metric, short) = (&run.best_metric, &run.short);
        let has = match (&steps[..], reference.at) {
            ([], _) => "it has none yet".to_owned(),
            (_, At::Best) => format!("none of its checkpoints has the metric `{metric}`"),
            _ => format!("it has those of steps {}", listed(&steps)),
        };
        Error::Invalid(format!(
            "run {short} has no checkpoint {reference}; {has} (see `scheduler checkpoints {short}`)"
        ))
    })
}

/// The first and the last few of many.
fn listed(all: &[String]) -> String {
    const ENDS: usize = 6;
    match all.len() > 2 * ENDS {
        true => {
            let (first, last) = (&all[..ENDS], &all[all.len() - ENDS..]);
            format!("{}, …, {}", first.join(", "), last.join(", "))
        }
        false => all.join(", "),
    }
}

/// The one with the lowest value of a metric, of checkpoints by step; the newest of several.
pub(crate) fn best<'a>(all: &'a [Checkpoint], metric: &str) -> Option<&'a Checkpoint> {
    all.iter()
        .rev()
        .filter_map(|checkpoint| Some((checkpoint.metrics.get(metric)?.as_f64()?, checkpoint)))
        .min_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, checkpoint)| checkpoint)
}

impl Run {
    /// Which of its checkpoints `@best` names.
    pub fn best<'a>(&self, checkpoints: &'a [Checkpoint]) -> Option<&'a Checkpoint> {
        best(checkpoints, &self.best_metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_a_run_and_one_of_its_checkpoints() {
        let parse = |text: &str| text.parse::<RunRef>();
        for (text, at) in [
            ("demo", At::Latest),
            ("demo@latest", At::Latest),
            ("demo@best", At::Best),
            ("demo@1500", At::Step(1500)),
        ] {
            assert_eq!(parse(text), Ok(RunRef { run: "demo".into(), at }), "{text}");
        }
        for text in ["", "@best", "demo@", "demo@worst", "demo@-1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
