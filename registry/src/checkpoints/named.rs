//! A checkpoint as people name it where weights are wanted: a run (`RUN`, `RUN@best`, `RUN@latest`,
//! `RUN@STEP`), a run's folder, a step's folder, a file of exported weights. What is there by that name
//! comes first, a run second.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use home::Home;
use storage::{Place, Store};

use super::RunRef;
use crate::{Blocking, Error, Result};

/// More than this is no last file of a checkpoint.
const MOST: u64 = 64 << 20;

/// How folders of steps are called.
const STEP: &str = "step-";

/// The name of a checkpoint, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointName(String);

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A complete folder of a checkpoint, or a file.
    Place(Place),
    /// A run and one of its checkpoints, if there is such a run.
    Run(RunRef),
}

impl FromStr for CheckpointName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.is_empty() {
            true => {
                Err("give a run, the folder of a run or of a step, or a weights file".to_owned())
            }
            false => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl CheckpointName {
    /// What the name means; no database is asked. `last` is the file that makes a checkpoint's folder
    /// complete.
    ///
    /// # Errors
    /// When there is something of this name that is no checkpoint, or nothing, and it can be no run's name.
    pub fn named(&self, last: &str) -> Result<Named> {
        let text = &self.0;
        if Place::is_address(text) {
            let place: Place = text.parse().map_err(storage::Error::from)?;
            return match place.local() {
                Some(path) => on_this_machine(path, last)?
                    .map(Named::Place)
                    .ok_or_else(|| nothing_there(path, last)),
                None => in_store(&place, last).map(Named::Place),
            };
        }
        let path = Path::new(text);
        if let Some(place) = on_this_machine(path, last)? {
            return Ok(Named::Place(place));
        }
        if text.contains('/') {
            return Err(nothing_there(path, last));
        }
        text.parse().map(Named::Run).map_err(|error| {
            Error::Invalid(format!(
                "`{text}` is no file or folder here, and of no run either: {error}"
            ))
        })
    }

    /// The place of the checkpoint: a complete folder, or a file.
    ///
    /// # Errors
    /// As [`Self::named`], and when there is no such run, or it has no such checkpoint.
    pub fn find(&self, last: &str) -> Result<Place> {
        match self.named(last)? {
            Named::Place(place) => Ok(place),
            Named::Run(reference) => self.of_run(&reference),
        }
    }

    fn of_run(&self, reference: &RunRef) -> Result<Place> {
        // To be told of a slip of the pen nobody needs a server.
        let home = Home::from_env()?;
        if crate::url_from_env().is_none() && !home.postgres().exists() {
            return Err(Error::Invalid(format!(
                "`{self}` is no file or folder here, and there are no runs in {} yet",
                home.path().display()
            )));
        }
        let db = Blocking::open()?;
        match db.wait(db.checkpoint(reference)) {
            Ok((_, checkpoint)) => {
                Ok(Place::stored(&checkpoint.uri).map_err(storage::Error::from)?)
            }
            Err(Error::NotFound { meant, .. }) => Err(Error::Invalid(format!(
                "`{self}` is no file or folder here, and there is no run `{}`{meant} (see `scheduler runs`)",
                reference.run
            ))),
            Err(error) => Err(error),
        }
    }
}

impl From<RunRef> for CheckpointName {
    fn from(reference: RunRef) -> Self {
        Self(reference.to_string())
    }
}

/// The checkpoint at a path of this machine: a complete folder, the newest complete step of a run's folder,
/// or a file; none where there is nothing.
fn on_this_machine(path: &Path, last: &str) -> Result<Option<Place>> {
    let place = |path: &Path| Place::folder(path).map_err(storage::Error::from);
    if path.is_file() {
        let is_last = path.file_name().is_some_and(|name| name == last);
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        return Ok(Some(place(match is_last {
            true => folder.unwrap_or(Path::new(".")),
            false => path,
        })?));
    }
    if !path.is_dir() {
        return Ok(None);
    }
    if path.join(last).is_file() {
        return Ok(Some(place(path)?));
    }
    if let Some(newest) = steps(path, last).pop() {
        return Ok(Some(place(&path.join(newest))?));
    }
    let unfinished = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(STEP));
    let what = match unfinished {
        true => "is an unfinished checkpoint",
        false => "is neither a checkpoint nor the folder of a run",
    };
    Err(Error::Invalid(format!(
        "{} {what}: there is no {last} in it{}",
        path.display(),
        if unfinished { "" } else { ", and no step-… with one" }
    )))
}

/// Names of the complete steps in a folder, the newest last.
fn steps(folder: &Path, last: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut steps: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| number(name).is_some() && folder.join(name).join(last).is_file())
        .collect();
    steps.sort_by_key(|name| number(name));
    steps
}

/// The step of a folder's name.
fn number(name: &str) -> Option<u64> {
    name.strip_prefix(STEP)?.parse().ok()
}

/// The error that there is nothing at a path, with the checkpoints beside it.
fn nothing_there(path: &Path, last: &str) -> Error {
    let mut message = format!("{}: no such file or folder", path.display());
    let parent = path.parent().filter(|parent| parent.is_dir());
    let beside = parent.map(|parent| steps(parent, last)).unwrap_or_default();
    if !beside.is_empty() {
        let parent = parent.map(|parent| parent.display().to_string()).unwrap_or_default();
        message = format!("{message}; {parent} has {}", beside.join(", "));
    }
    Error::Invalid(message)
}

/// As [`on_this_machine`], in an object store, which has no files of weights for us.
fn in_store(place: &Place, last: &str) -> Result<Place> {
    let store = Store::open(place)?;
    if store.read(last, MOST)?.is_some() {
        return Ok(place.clone());
    }
    // The steps are what is beside any one of them.
    let any = place.join("step-00000000").map_err(storage::Error::from)?;
    let name = |place: &Place| {
        let text = place.to_string();
        text.rsplit('/').next().and_then(number)
    };
    let beside = Store::open(&any)?;
    let mut steps = beside.siblings(last)?;
    if beside.read(last, MOST)?.is_some() {
        steps.push(any);
    }
    steps.retain(|place| name(place).is_some());
    if let Some(newest) = steps.into_iter().max_by_key(name) {
        return Ok(newest);
    }
    Err(Error::Invalid(format!(
        "{place} is neither a checkpoint nor the folder of a run: there is no {last} in it, and no \
         step-… with one"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Result<Named> {
        text.parse::<CheckpointName>().unwrap().named("state.json")
    }

    #[test]
    fn folders_of_runs_and_steps_and_files_are_found_and_the_rest_is_told_truly() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        for step in ["run/step-00000005", "run/step-00000010", "run/step-00000015", "imported"] {
            std::fs::create_dir_all(path(step)).unwrap();
        }
        for done in ["run/step-00000005", "run/step-00000010", "imported"] {
            std::fs::write(path(&format!("{done}/state.json")), "{}").unwrap();
        }
        std::fs::create_dir(path("empty")).unwrap();
        std::fs::write(path("weights.safetensors"), "").unwrap();
        let place = |name: &str| Named::Place(path(name).parse().unwrap());
        let newest = "run/step-00000010";
        for (given, found) in [
            ("run", newest),
            ("run/", newest),
            ("run/step-00000005", "run/step-00000005"),
            ("run/step-00000005/state.json", "run/step-00000005"),
            ("imported", "imported"),
            ("weights.safetensors", "weights.safetensors"),
        ] {
            assert_eq!(named(&path(given)).unwrap(), place(found), "{given}");
            assert_eq!(named(&format!("file://{}", path(given))).unwrap(), place(found), "{given}");
        }
        for (given, words) in [
            ("run/step-00000015", &["unfinished", "no state.json"][..]),
            ("empty", &["neither a checkpoint nor the folder of a run"]),
            ("run/step-00000007", &["no such file or folder", "step-00000005, step-00000010"]),
            ("nowhere/at-all", &["no such file or folder"]),
        ] {
            let error = named(&path(given)).unwrap_err();
            assert!(error.is_usage(), "{given}");
            let message = error.to_string();
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
            assert!(!message.contains("publish"), "{message}");
        }
        let run = |text: &str| Named::Run(text.parse().unwrap());
        assert_eq!(named("demo@best").unwrap(), run("demo@best"));
        assert_eq!(named("demo").unwrap(), run("demo@latest"));
        assert!(named("demo@worst").unwrap_err().to_string().contains("@best"));
        assert!(named("ftp://a/b").is_err());
        assert!("".parse::<CheckpointName>().is_err());
    }
}
