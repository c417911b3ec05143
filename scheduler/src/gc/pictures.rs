//! Pictures of previews of runs that do not run: those of steps that a policy does not keep, and those whose removal
//! was begun by a process that was killed, whatever the policy.

use std::collections::BTreeMap;

use registry::pictures::{picture_address, remove_picture, surplus};
use registry::{Database, PictureFiles, Result};
use uuid::Uuid;

use super::{Class, Fate, Item, Scope, Target, blocking, checkpoints};

/// More steps than any run has pictures of.
const ALL: usize = usize::MAX;

pub(super) async fn find(
    db: &Database,
    scope: &Scope,
    notes: &mut Vec<String>,
) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut elsewhere: BTreeMap<String, u64> = BTreeMap::new();
    for run in db.runs_with_pictures(scope.ended_before).await? {
        let most = most(scope, &run);
        let steps = surplus(&run.steps, most);
        if steps.is_empty() && run.retiring == 0 && most > 0 {
            continue;
        }
        let (count, bytes) = match most {
            0 => db.all_pictures(run.run).await?,
            _ => db.surplus_pictures(run.run, &steps).await?,
        };
        let host = run.host.clone().unwrap_or_else(|| "unknown".to_owned());
        if checkpoints::is_elsewhere(scope, &run.uri, &host) {
            *elsewhere.entry(host).or_default() += u64::try_from(count).unwrap_or(0);
            continue;
        }
        let why = match (steps.len(), most) {
            (_, 0) => "none are kept".to_owned(),
            (0, _) => "their removal was begun".to_owned(),
            (gone, _) => format!("of {gone} of {} steps: not in keep={most}", run.steps.len()),
        };
        items.push(Item {
            class: Class::Pictures,
            what: format!("run {} pictures", run.short),
            why,
            place: Some(format!(
                "{}/{}",
                run.uri.trim_end_matches('/'),
                registry::pictures::FOLDER
            )),
            count: u64::try_from(count).unwrap_or(0),
            bytes: u64::try_from(bytes).unwrap_or(0),
            target: Target::Pictures { run: run.run, uri: run.uri, most },
        });
    }
    for (host, count) in elsewhere {
        notes.push(format!("pictures on host {host}: {count}; reclaim them there"));
    }
    Ok(items)
}

/// Of how many steps a run keeps its pictures.
fn most(scope: &Scope, run: &PictureFiles) -> usize {
    match &scope.policy.pictures {
        Some(spread) if run.due && run.state.is_final() => spread.0 as usize,
        _ => ALL,
    }
}

/// Hides what goes, removes its files, then its rows. The job is held meanwhile, so that no attempt draws these
/// again.
pub(super) async fn remove(
    db: &Database,
    scope: &Scope,
    run: Uuid,
    uri: &str,
    most: usize,
) -> Result<Fate> {
    // Marked first and for good, so that a removal which is killed is known to have begun.
    let Some(mut idle) = db.idle(run).await? else {
        return Ok(Fate::Left("its run runs again".into()));
    };
    if most != ALL && !idle.ended_before(scope.ended_before) {
        return Ok(Fate::Left("its job was given new tries".into()));
    }
    idle.retire_pictures(most).await?;
    idle.commit().await?;
    let Some(mut idle) = db.idle(run).await? else {
        return Ok(Fate::Left("its run runs again".into()));
    };
    let digests = idle.retire_pictures(ALL).await?;
    let (place, going) = (uri.to_owned(), digests.clone());
    let (gone, failed) = blocking(move || {
        let (mut gone, mut failed) = (Vec::new(), None);
        for digest in going {
            match remove_picture(&place, &digest) {
                Ok(()) => gone.push(digest),
                Err(error) => failed = Some(error),
            }
        }
        if let (None, Ok((folder, _))) = (&failed, picture_address(&place, &"0".repeat(64))) {
            // The folder goes with the last of its files, and only then.
            let _ = folder.local().map(std::fs::remove_dir);
        }
        Ok((gone, failed))
    })
    .await?;
    idle.forget_pictures(&gone).await?;
    idle.commit().await?;
    Ok(match failed {
        Some(error) => {
            let left = digests.len() - gone.len();
            Fate::Failed(format!("{left} of {} files: {error}", digests.len()))
        }
        None => Fate::Gone,
    })
}
