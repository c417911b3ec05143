//! The place that a dataset is made in: claimed by one process, worked on in `.ingest/`, published in
//! the end. Until then a finished dataset that is to be replaced stays as it is. Every step can be
//! cut off by a kill and is taken up by the next ingest with the same plan.

use std::path::PathBuf;

use serde_json::Value;
use storage::{Claim, Store};

use super::journal::{Mark, WORK, name};
use super::plan::IngestPlan;
use super::{Event, identity};
use crate::dataset::{MANIFEST, Manifest, REJECTS};
use crate::{Error, Result};

const PLAN: &str = ".ingest/plan.json";
/// The plan of a finished dataset: what it was made from, beside what it is.
const MADE: &str = "ingest.json";
/// The manifest, written once all shards are finished: from then on only names change.
const FINAL: &str = ".ingest/manifest.json";
const MAX_PLAN: u64 = 1 << 30;

/// A claimed place.
pub(super) struct Destination {
    store: Store,
    claim: Claim,
    /// Where shards are written that are uploaded afterwards; none where the place is local.
    staging: Option<tempfile::TempDir>,
}

/// What a claimed place holds already.
pub(super) enum Found {
    /// The dataset, finished.
    Dataset(Manifest),
    /// All shards, not yet under their names.
    Shards(Manifest),
    /// Some shards, or none.
    Marks(Vec<Mark>),
}

impl Destination {
    /// Claims a place and tells what an earlier ingest with this plan has left in it.
    pub(super) fn claim(
        store: Store,
        plan: &IngestPlan,
        overwrite: bool,
        tell: &dyn Fn(Event),
    ) -> Result<(Self, Found)> {
        let claim = store.claim()?;
        let staging = match store.folder() {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("palette-ingest-")
                    .tempdir()
                    .map_err(Error::io("create a folder in", std::env::temp_dir()))?,
            ),
        };
        let destination = Self { store, claim, staging };
        let found = destination.find(plan, overwrite, tell)?;
        Ok((destination, found))
    }

    fn find(&self, plan: &IngestPlan, overwrite: bool, tell: &dyn Fn(Event)) -> Result<Found> {
        let begun = self.read(PLAN)?;
        let json = match &begun {
            Some(begun) => identity::settled(begun, plan.json()),
            None => plan.json(),
        };
        let same = begun.as_ref() == Some(&json);
        if !overwrite && self.store.size(MANIFEST)?.is_some() {
            let differences = match Manifest::read(&self.store) {
                Ok(Some((manifest, _))) => {
                    let made = self.read(MADE)?;
                    let differences = plan.differences(made.as_ref(), &manifest, tell)?;
                    if differences.is_empty() {
                        self.clear()?;
                        return Ok(Found::Dataset(manifest));
                    }
                    differences.join(", ")
                }
                Ok(None) => "it was removed meanwhile".into(),
                Err(error) => error.to_string(),
            };
            let message = format!(
                "already holds a finished dataset of other sources or options ({differences}); leave it \
                 as it is, choose another place, or say --overwrite to make it anew"
            );
            return Err(self.store.refused(message).into());
        }
        let has_marks = || self.store.size(&name(0, "json")).map(|size| size.is_some());
        if let Some(begun) = &begun
            && !same
            && !overwrite
            && has_marks()?
        {
            let message = format!(
                "holds an unfinished ingest of other sources or options ({}); repeat its command with the \
                 sources as they were to finish it, or say --overwrite to begin anew",
                identity::differences(begun, &json).join(", ")
            );
            return Err(self.store.refused(message).into());
        }
        if !same {
            self.clear()?;
            self.store.write(PLAN, json.to_string().into_bytes())?;
            return Ok(Found::Marks(Vec::new()));
        }
        if let Some(manifest) = self.store.read(FINAL, MAX_PLAN)? {
            let manifest = serde_json::from_slice(&manifest)
                .map_err(|error| Error::dataset(self.store.place(), format!("{FINAL}: {error}")))?;
            return Ok(Found::Shards(manifest));
        }
        let mut marks = Vec::new();
        while let Some(mark) = Mark::read(&self.store, marks.len())? {
            marks.push(mark);
        }
        self.clear_beyond(marks.len())?;
        Ok(Found::Marks(marks))
    }

    /// One of our JSON files; none if it is missing or invalid.
    fn read(&self, file: &str) -> Result<Option<Value>> {
        let text = self.store.read(file, MAX_PLAN)?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    /// Where shard `number` is written.
    pub(super) fn staged(&self, number: usize) -> Result<PathBuf> {
        self.path(&name(number, "parquet"))
    }

    /// A path of this machine for a file of the working folder.
    fn path(&self, file: &str) -> Result<PathBuf> {
        let root = match (&self.staging, self.store.folder()) {
            (Some(staging), _) => staging.path(),
            (None, folder) => folder.unwrap_or(std::path::Path::new(".")),
        };
        let folder = root.join(WORK);
        std::fs::create_dir_all(&folder).map_err(Error::io("create folder", folder))?;
        Ok(root.join(file))
    }

    /// Takes a written shard in, with the mark that makes it count.
    pub(super) fn keep(&self, number: usize, mark: &Mark) -> Result<()> {
        self.check()?;
        self.upload(&name(number, "parquet"))?;
        mark.write(&self.store, number)
    }

    /// Brings a file of the working folder to where the dataset is, if that is elsewhere.
    fn upload(&self, file: &str) -> Result<()> {
        match &self.staging {
            Some(staging) => Ok(self.store.adopt(&staging.path().join(file), file)?),
            None => Ok(()),
        }
    }

    /// The claim may be lost where the store was out of reach for too long.
    fn check(&self) -> Result<()> {
        if self.claim.is_lost() {
            let message = "another ingest has taken this place over, because the store was out of \
                           reach for a minute; wait for it, then start again";
            return Err(self.store.refused(message).into());
        }
        Ok(())
    }

    /// Where the rejects are written.
    pub(super) fn staged_rejects(&self) -> Result<PathBuf> {
        self.path(&format!("{WORK}/{REJECTS}"))
    }

    /// Takes the last shard and the rejects in and says what is to be published.
    pub(super) fn seal(&self, last: Option<usize>, manifest: &Manifest) -> Result<()> {
        self.check()?;
        if let Some(number) = last {
            self.upload(&name(number, "parquet"))?;
        }
        self.upload(&format!("{WORK}/{REJECTS}"))?;
        Ok(self.store.write(FINAL, manifest.text(&self.store)?)?)
    }

    /// Gives everything its final name, the manifest last. From the removal of an old manifest to the
    /// writing of the new one the place is no dataset, and says so.
    pub(super) fn publish(&self, manifest: &Manifest) -> Result<()> {
        self.check()?;
        self.store.remove(MANIFEST)?;
        self.store.remove(MADE)?;
        let staged = self.store.list(WORK)?;
        let is_staged = |number: usize| staged.contains_key(&format!("{number:05}.parquet"));
        let ours = |file: &str| {
            let number = manifest.shards.iter().position(|shard| shard.file == file);
            number.is_some_and(|number| !is_staged(number))
        };
        for old in self.store.list("data")?.into_keys() {
            let file = format!("data/{old}");
            if is_shard(&old) && !ours(&file) {
                self.store.remove(&file)?;
            }
        }
        for (number, shard) in manifest.shards.iter().enumerate() {
            if is_staged(number) {
                self.store.rename(&name(number, "parquet"), &shard.file)?;
            }
        }
        if staged.contains_key(REJECTS) {
            self.store.rename(&format!("{WORK}/{REJECTS}"), REJECTS)?;
        }
        if let Some(plan) = self.store.read(PLAN, MAX_PLAN)? {
            self.store.write(MADE, plan.to_vec())?;
        }
        self.store.write(MANIFEST, manifest.text(&self.store)?)?;
        self.clear()
    }

    /// Removes everything unfinished, the plan last.
    fn clear(&self) -> Result<()> {
        self.clear_beyond(0)?;
        self.store.remove(FINAL)?;
        self.store.remove(PLAN)?;
        Ok(self.store.remove_folder(WORK)?)
    }

    /// Removes what is in the working folder besides the first `count` shards and the plan.
    fn clear_beyond(&self, count: usize) -> Result<()> {
        for file in self.store.list(WORK)?.into_keys() {
            let number = file.split('.').next().and_then(|number| number.parse::<usize>().ok());
            let path = format!("{WORK}/{file}");
            let kept = number.is_some_and(|number| number < count) && !file.ends_with(".part");
            if !kept && path != PLAN && path != FINAL {
                self.store.remove(&path)?;
            }
        }
        Ok(())
    }
}

/// `SPLIT-00000-of-00012.parquet`.
fn is_shard(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".parquet") else { return false };
    let mut parts = stem.rsplitn(4, '-');
    let number = |part: Option<&str>| {
        part.is_some_and(|part| part.len() >= 5 && part.bytes().all(|b| b.is_ascii_digit()))
    };
    number(parts.next())
        && parts.next() == Some("of")
        && number(parts.next())
        && parts.next().is_some()
}
