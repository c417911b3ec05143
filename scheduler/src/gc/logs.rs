//! The working folders of attempts on this host, with their logs. The database keeps the last lines.

use std::path::{Path, PathBuf};

use registry::{Database, Result};
use uuid::Uuid;

use super::{Class, Fate, Item, Scope, Target, blocking, tree};

pub(super) async fn find(db: &Database, scope: &Scope) -> Result<Vec<Item>> {
    let attempts = db.ended_attempts(&scope.host, scope.ended_before).await?;
    let mut items = Vec::new();
    for attempt in attempts {
        let folder = scope.home.attempt(&attempt.short, attempt.number);
        // What was made in the foreground has no log, and what was made under another home is not ours.
        let logged = match &attempt.log_path {
            Some(path) if Path::new(path).parent() != Some(&folder) => continue,
            path => path.is_some(),
        };
        let mut bytes = None;
        for part in [&folder, &tree::hidden(&folder)] {
            if let Some(size) = tree::size(part)? {
                *bytes.get_or_insert(0) += size.bytes;
            }
        }
        if bytes.is_some() || logged {
            items.push(Item {
                class: Class::Logs,
                what: format!("job {} attempt {}", attempt.short, attempt.number),
                why: "the job has ended".into(),
                place: Some(folder.display().to_string()),
                count: 1,
                bytes: bytes.unwrap_or(0),
                target: Target::Attempt { job: attempt.job, number: attempt.number, folder },
            });
        }
    }
    Ok(items)
}

/// Removes the folder, then what the row says of it.
pub(super) async fn remove(
    db: &Database,
    scope: &Scope,
    job: Uuid,
    number: i32,
    folder: &Path,
) -> Result<Fate> {
    let again = || Ok(Fate::Left("its job was given new tries".into()));
    let Some(mut idle) = db.idle(job).await? else { return again() };
    if !idle.ended_before(scope.ended_before) {
        return again();
    }
    let (home, folder): (_, PathBuf) = (scope.home.clone(), folder.to_owned());
    blocking(move || {
        tree::remove(&home, &folder)?;
        // The job's own folder goes with the last of its attempts, and only then.
        let _ = folder.parent().map(std::fs::remove_dir);
        Ok(())
    })
    .await?;
    idle.forget_log(number).await?;
    idle.commit().await?;
    Ok(Fate::Gone)
}
