//! Files of runs under this home that no row names: a process was killed before it registered them, or
//! before it had them in place. Only of runs of this database that were begun and whose job does not run; a folder of
//! any other run may be another database's.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use registry::pictures::FOLDER;
use registry::{CheckpointFolder, Database, JobState, Result};
use storage::Place;
use uuid::Uuid;

use super::{Class, Fate, Item, Scope, Target, blocking, tree};

/// Nothing younger is an orphan: its process may be about to register it.
const DAY: Duration = Duration::from_secs(86_400);

/// What the registry says of the checkpoints and pictures of a run that lie on this machine.
#[derive(Default)]
struct Rows {
    /// Names of the files of pictures.
    pictures: HashSet<String>,
    named: HashSet<PathBuf>,
    retiring: HashSet<PathBuf>,
}

impl Rows {
    fn of(folders: Vec<CheckpointFolder>, pictures: Vec<String>) -> Self {
        let pictures = pictures.into_iter().map(|digest| format!("{digest}.png")).collect();
        let mut rows = Self { pictures, ..Self::default() };
        for row in folders {
            let place = Place::stored(&row.uri).ok();
            if let Some(path) = place.as_ref().and_then(Place::local).map(Path::to_owned) {
                if row.retiring {
                    rows.retiring.insert(path.clone());
                }
                rows.named.insert(path);
            }
        }
        rows
    }
}

pub(super) async fn find(
    db: &Database,
    scope: &Scope,
    notes: &mut Vec<String>,
) -> Result<Vec<Item>> {
    let runs_folder = scope.home.runs();
    tree::inside(&scope.home, &runs_folder)?;
    let folders = tree::entries(&runs_folder)?;
    let names: Vec<String> = folders.iter().map(|folder| name(folder).to_owned()).collect();
    let runs = db.run_folders(&names).await?;
    let runs: HashMap<&str, _> = runs.iter().map(|run| (run.short.as_str(), run)).collect();
    let mut items = Vec::new();
    let mut strange = 0;
    for folder in &folders {
        let Some(run) = runs.get(name(folder)) else {
            strange += 1;
            continue;
        };
        let is_own = Place::stored(&run.uri).is_ok_and(|place| place.local() == Some(folder));
        let idle = run.state.is_some_and(|state| state != JobState::Running);
        if !is_own || !idle || !run.begun || !tree::is_folder(folder) {
            continue;
        }
        let rows =
            Rows::of(db.checkpoint_folders(run.id).await?, db.picture_digests(run.id).await?);
        for (path, why) in left_in(folder, &rows)? {
            let Some(size) = tree::size(&path)? else { continue };
            if scope.is_older(size.changed, DAY) {
                items.push(Item {
                    class: Class::Orphans,
                    what: format!("run {} {}", run.short, name(&path)),
                    why: why.into(),
                    place: Some(path.display().to_string()),
                    count: 1,
                    bytes: size.bytes,
                    target: Target::Orphan { run: run.id, path },
                });
            }
        }
    }
    if strange > 0 {
        notes.push(format!(
            "folders in {} of no run of this database: {strange}; left alone",
            scope.home.runs().display()
        ));
    }
    Ok(items)
}

/// Removes an orphan that still is one, holding the job so that no attempt can register it meanwhile.
pub(super) async fn remove(db: &Database, scope: &Scope, run: Uuid, path: &Path) -> Result<Fate> {
    let Some(mut idle) = db.idle(run).await? else {
        return Ok(Fate::Left("its run runs again".into()));
    };
    let rows = Rows::of(idle.checkpoint_folders().await?, idle.picture_digests().await?);
    let orphan = path.to_owned();
    let runs = scope.home.runs();
    let folder = path.ancestors().find(|at| at.parent() == Some(&runs));
    let still = match folder {
        Some(folder) => left_in(folder, &rows)?.iter().any(|(left, _)| *left == orphan),
        None => false,
    };
    if !still {
        return Ok(Fate::Left("it was registered or removed meanwhile".into()));
    }
    let home = scope.home.clone();
    blocking(move || tree::remove(&home, &orphan)).await?;
    Ok(Fate::Gone)
}

/// What no row names in the folder of a run, with why it is there.
fn left_in(folder: &Path, rows: &Rows) -> Result<Vec<(PathBuf, &'static str)>> {
    let mut left = Vec::new();
    for path in tree::entries(folder)? {
        let is_folder = tree::is_folder(&path);
        if let Some(of) = unfinished(name(&path)).map(|step| folder.join(step)) {
            // What retires is finished as a checkpoint; and where the folder that a row names is not
            // there, a writer was killed between two renames, and this may be all there is of it.
            let needed = rows.retiring.contains(&of) || (rows.named.contains(&of) && !of.exists());
            if !needed {
                left.push((path, "a process was killed while it wrote or removed it"));
            }
        } else if is_folder && is_step(name(&path)) {
            if !rows.named.contains(&path) {
                left.push((path, "no row names it"));
            }
        } else if is_folder {
            parts(&path, &mut left)?;
            if name(&path) == FOLDER {
                let unnamed =
                    |file: &PathBuf| is_picture(name(file)) && !rows.pictures.contains(name(file));
                let files = tree::entries(&path)?.into_iter().filter(unnamed);
                left.extend(files.map(|file| (file, "no row names it")));
            }
        } else if path.extension().is_some_and(|extension| extension == "part") {
            left.push((path, "a process was killed while it wrote it"));
        }
    }
    Ok(left)
}

/// Unfinished files in other folders of a run, such as its previews.
fn parts(folder: &Path, left: &mut Vec<(PathBuf, &'static str)>) -> Result<()> {
    for path in tree::entries(folder)? {
        if tree::is_folder(&path) {
            parts(&path, left)?;
        } else if path.extension().is_some_and(|extension| extension == "part") {
            left.push((path, "a process was killed while it wrote it"));
        }
    }
    Ok(())
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// `DIGEST.png`, as the trainer names it.
fn is_picture(name: &str) -> bool {
    name.strip_suffix(".png").is_some_and(|digest| {
        digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// `step-00000010`.
fn is_step(name: &str) -> bool {
    name.strip_prefix("step-").is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
    })
}

/// The step of `.step-00000010.partial-123`, `.step-00000010.replaced` or `.step-00000010.removed`.
fn unfinished(name: &str) -> Option<&str> {
    let (step, rest) = name.strip_prefix('.')?.split_once('.')?;
    let known = rest == "removed" || rest == "replaced" || rest.starts_with("partial-");
    (known && is_step(step)).then_some(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_writers_give_are_steps_or_unfinished() {
        assert!(is_step("step-00000010") && is_step("step-1"));
        assert!(!is_step("step-") && !is_step("step-10-mine") && !is_step("previews"));
        for rest in ["removed", "replaced", "partial-77"] {
            assert_eq!(unfinished(&format!(".step-10.{rest}")), Some("step-10"));
        }
        for other in [".step-10", "step-10.removed", ".mine.removed", ".step-10.kept", ".git"] {
            assert_eq!(unfinished(other), None, "{other}");
        }
    }
}
