//! Checkpoints of runs that do not run: those that a policy marks, and those whose removal was begun by
//! a process that was killed, whatever the policy.

use std::collections::{BTreeMap, BTreeSet};

use registry::{Database, JobState, Result, RunCheckpoints, retire};
use storage::Place;
use uuid::Uuid;

use super::{Class, Fate, Item, Scope, Target, blocking};

/// The file that makes the folder of a checkpoint complete: written last, removed first.
const SEAL: &str = "state.json";

pub(super) async fn find(
    db: &Database,
    scope: &Scope,
    notes: &mut Vec<String>,
) -> Result<Vec<Item>> {
    let runs = sqlx::query!(
        r#"select runs.id, runs.short, jobs.state as "state: JobState",
               coalesce(jobs.ended_at < $1, false) as "due!"
           from runs join jobs on jobs.id = runs.id
           where jobs.state <> 'running' and exists (
               select from checkpoints where run_id = runs.id
                 and (checkpoints.state = 'retiring' or ($2 and jobs.ended_at < $1)))
           order by runs.created_at, runs.id"#,
        scope.ended_before,
        scope.policy.marks(),
    )
    .fetch_all(db.pool())
    .await?;
    let mut items = Vec::new();
    let mut elsewhere: BTreeMap<String, u64> = BTreeMap::new();
    for run in runs {
        let mut surplus: BTreeMap<i64, String> = BTreeMap::new();
        if run.due && run.state.is_final() {
            let standing = RunCheckpoints::read(&mut *db.pool().acquire().await?, run.id).await?;
            surplus.extend(scope.policy.surplus(run.state, &standing));
        }
        let steps: Vec<i64> = surplus.keys().copied().collect();
        let rows = sqlx::query!(
            r#"select step, uri, bytes, host as "host?"
               from checkpoints
               left join attempts on job_id = run_id and number = attempt
               where run_id = $1 and (state = 'retiring' or step = any($2))
               order by step"#,
            run.id,
            &steps,
        )
        .fetch_all(db.pool())
        .await?;
        for row in rows {
            let host = row.host.unwrap_or_else(|| "unknown".to_owned());
            if is_elsewhere(scope, &row.uri, &host) {
                *elsewhere.entry(host).or_default() += 1;
                continue;
            }
            let why = surplus.remove(&row.step);
            items.push(Item {
                class: Class::Checkpoints,
                what: format!("run {} step {}", run.short, row.step),
                why: why.unwrap_or_else(|| "its removal was begun".into()),
                place: Some(row.uri),
                count: 1,
                bytes: u64::try_from(row.bytes).unwrap_or(0),
                target: Target::Checkpoint { run: run.id, step: row.step },
            });
        }
    }
    for (host, count) in elsewhere {
        notes.push(format!("checkpoints on host {host}: {count}; reclaim them there"));
    }
    Ok(items)
}

/// True where the folder is on the disk of another host, which cannot be told from one that is gone. A
/// home that hosts share is here, and so is whatever lies in a store.
fn is_elsewhere(scope: &Scope, uri: &str, host: &str) -> bool {
    let Ok(place) = Place::stored(uri) else { return true };
    let Some(path) = place.local() else { return false };
    let shared = path.starts_with(scope.home.path()) && path.symlink_metadata().is_ok();
    host != scope.host && !shared
}

/// Marks these checkpoints of a run, where its job still does not run and needs none of them.
pub(super) async fn mark(db: &Database, scope: &Scope, run: Uuid, items: &[Item]) -> Result<()> {
    let planned: BTreeSet<i64> = items
        .iter()
        .filter_map(|item| match item.target {
            Target::Checkpoint { step, .. } => Some(step),
            _ => None,
        })
        .collect();
    let Some(mut idle) = db.idle(run).await? else { return Ok(()) };
    if !idle.ended_before(scope.ended_before) {
        return Ok(());
    }
    retire(&mut idle.tx, run, |standing| {
        let surplus = scope.policy.surplus(idle.state, standing);
        surplus.into_iter().map(|(step, _)| step).filter(|step| planned.contains(step)).collect()
    })
    .await?;
    idle.tx.commit().await?;
    Ok(())
}

/// Removes the files of a marked checkpoint, then its row. The job is held from before until after,
/// so that no attempt can write this step again meanwhile.
pub(super) async fn remove(db: &Database, run: Uuid, step: i64) -> Result<Fate> {
    let Some(mut idle) = db.idle(run).await? else {
        return Ok(Fate::Left("its run runs again".into()));
    };
    let row = sqlx::query!(
        r#"select uri, state = 'retiring' as "retiring!" from checkpoints
           where run_id = $1 and step = $2"#,
        run,
        step,
    )
    .fetch_optional(&mut *idle.tx)
    .await?;
    match row {
        None => return Ok(Fate::Gone),
        Some(row) if !row.retiring => return Ok(Fate::Left("it is needed again".into())),
        Some(row) => {
            blocking(move || {
                Ok(storage::folder::remove(
                    &Place::stored(&row.uri).map_err(storage::Error::from)?,
                    SEAL,
                )?)
            })
            .await?
        }
    }
    sqlx::query!(
        "delete from checkpoints where run_id = $1 and step = $2 and state = 'retiring'",
        run,
        step,
    )
    .execute(&mut *idle.tx)
    .await?;
    idle.tx.commit().await?;
    Ok(Fate::Gone)
}
