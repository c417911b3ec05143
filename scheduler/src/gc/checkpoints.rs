//! Checkpoints of runs that do not run: those that a policy marks, and those whose removal was begun by
//! a process that was killed, whatever the policy.

use std::collections::{BTreeMap, BTreeSet};

use registry::{Database, Result};
use storage::Place;
use uuid::Uuid;

use super::{Class, Fate, Item, Scope, Target, blocking};

pub(super) async fn find(
    db: &Database,
    scope: &Scope,
    notes: &mut Vec<String>,
) -> Result<Vec<Item>> {
    let runs = db.reclaimable(scope.ended_before, scope.policy.marks()).await?;
    let mut items = Vec::new();
    let mut elsewhere: BTreeMap<String, u64> = BTreeMap::new();
    for run in runs {
        let mut surplus: BTreeMap<i64, String> = BTreeMap::new();
        if run.due && run.state.is_final() {
            let standing = db.run_checkpoints(run.run).await?;
            surplus.extend(scope.policy.surplus(run.state, &standing));
        }
        for row in db.checkpoint_folders(run.run).await? {
            if !row.retiring && !surplus.contains_key(&row.step) {
                continue;
            }
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
                target: Target::Checkpoint { run: run.run, step: row.step },
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
pub(super) fn is_elsewhere(scope: &Scope, uri: &str, host: &str) -> bool {
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
    idle.retire(|state, standing| {
        let surplus = scope.policy.surplus(state, standing);
        surplus.into_iter().map(|(step, _)| step).filter(|step| planned.contains(step)).collect()
    })
    .await?;
    idle.commit().await
}

/// Removes the files of a marked checkpoint, then its row. The job is held from before until after,
/// so that no attempt can write this step again meanwhile.
pub(super) async fn remove(db: &Database, run: Uuid, step: i64) -> Result<Fate> {
    let Some(mut idle) = db.idle(run).await? else {
        return Ok(Fate::Left("its run runs again".into()));
    };
    let row = idle.checkpoint_folders().await?.into_iter().find(|row| row.step == step);
    match row {
        None => return Ok(Fate::Gone),
        Some(row) if !row.retiring => return Ok(Fate::Left("it is needed again".into())),
        Some(row) => {
            let removal = row.removal()?;
            blocking(move || removal.carry_out()).await?;
        }
    }
    idle.forget_checkpoint(step).await?;
    idle.commit().await?;
    Ok(Fate::Gone)
}
