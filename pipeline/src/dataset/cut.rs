//! Cuts: some images of a dataset as a dataset of their own, under a manifest that points to the same
//! shards. No image is copied.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use storage::{Place, Store};

use super::list::{InList, List};
use super::{Counts, Cut, Dataset, MANIFEST, Manifest};
use crate::order::Permutation;
use crate::{Error, Result};
use random::key;

/// Which images to take; each step chooses among what the one before has left.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The images of a list, in its order, and how people call it.
    pub list: Option<(List, String)>,
    /// This many images of each class, drawn by this seed; in the order that they stand in.
    pub per_class: Option<(u64, u64)>,
    /// From and to, the latter not included.
    pub rows: Option<Range<u64>>,
}

/// Reads the rows of a choice, `FROM..TO`; FROM may be left out.
///
/// # Errors
/// For any other text.
pub fn parse_rows(text: &str) -> Result<Range<u64>> {
    let parsed = text.split_once("..").and_then(|(from, to)| {
        let from = if from.is_empty() { 0 } else { from.parse().ok()? };
        Some(from..to.parse().ok()?)
    });
    parsed.ok_or_else(|| Error::config("--rows", format!("`{text}`"), "FROM..TO"))
}

/// What was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Indices in the dataset, in the order of the cut.
    pub indices: Vec<u64>,
    /// Names of a list that the dataset has not.
    pub missing: Vec<String>,
    /// Images whose class index differs from the list's, as text.
    pub mislabelled: Vec<String>,
    how: Vec<String>,
}

impl Dataset {
    /// Chooses images.
    ///
    /// # Errors
    /// Where a shard cannot be read, a list's name fits several images or two fit one, a class has too few images,
    /// the rows lie outside, or nothing is left.
    pub fn choose(&self, choice: &Choice) -> Result<Chosen> {
        let mut chosen = Chosen { indices: (0..self.len()).collect(), ..Chosen::default() };
        if let Some((list, name)) = &choice.list {
            let InList { indices, missing, mislabelled } = self.in_list(list)?;
            chosen = Chosen { indices, missing, mislabelled, ..chosen };
            chosen.how.push(format!("the images of {name}"));
        }
        if let Some((count, seed)) = choice.per_class {
            chosen.indices = self.choose_per_class(&chosen.indices, count, seed)?;
            chosen.how.push(format!("{count} images a class by seed {seed}"));
        }
        if let Some(rows) = &choice.rows {
            let (from, to, left) = (rows.start, rows.end, chosen.indices.len() as u64);
            if from >= to || to > left {
                let allowed = format!("FROM..TO with FROM < TO <= {left}");
                return Err(Error::config("--rows", format!("{from}..{to}"), allowed));
            }
            chosen.indices = chosen.indices[from as usize..to as usize].to_vec();
            chosen.how.push(format!("rows {from} to {to}"));
        }
        if chosen.indices.is_empty() {
            let message = match chosen.missing.first() {
                Some(first) => {
                    let list = choice.list.as_ref().map_or("", |(_, name)| name.as_str());
                    let number = chosen.missing.len();
                    format!(
                        "lacks all images of the list ({number}), the first is {first} of {list}"
                    )
                }
                None => "nothing of it was chosen".to_owned(),
            };
            return Err(Error::dataset(self.store.place(), message));
        }
        Ok(chosen)
    }

    fn choose_per_class(&self, among: &[u64], count: u64, seed: u64) -> Result<Vec<u64>> {
        let mut labels = vec![-1; self.len() as usize];
        self.scan(&["label"], &mut |row| {
            labels[row.index as usize] = row.label()?;
            Some(())
        })?;
        let mut classes: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (place, &index) in among.iter().enumerate() {
            classes.entry(labels[index as usize]).or_default().push(place);
        }
        let mut places = Vec::new();
        for (&label, members) in &classes {
            let has = members.len() as u64;
            let name = usize::try_from(label).ok().and_then(|at| self.manifest.classes.get(at));
            let Some(name) = name else {
                let message = "has images without a class; --per-class wants all to have one";
                return Err(Error::dataset(self.store.place(), message));
            };
            if has < count {
                let message = format!("class {name} has {has} images, fewer than {count}");
                return Err(Error::dataset(self.store.place(), message));
            }
            let drawn = Permutation::new(has, key(&[seed, label as u64]));
            places.extend((0..count).map(|at| members[drawn.apply(at) as usize]));
        }
        places.sort_unstable();
        Ok(places.into_iter().map(|place| among[place]).collect())
    }

    /// Writes a manifest over the chosen images at `out`; one that says the same is left as it is.
    ///
    /// # Errors
    /// Where another dataset is there already (a cut may be replaced if `overwrite` says so).
    pub fn cut(
        &self,
        chosen: &Chosen,
        out: &Place,
        name: &str,
        split: Option<&str>,
        overwrite: bool,
    ) -> Result<Manifest> {
        crate::ingest::check_name("--name", name)?;
        let split = split.unwrap_or(&self.manifest.split);
        crate::ingest::check_name("--split", split)?;
        let store = Store::open(out)?;
        let too_many = |_| Error::dataset(self.store.place(), "has more rows than a cut can name");
        let rows = chosen
            .indices
            .iter()
            .map(|&index| match &self.manifest.cut {
                Some(cut) => Ok(cut.rows[index as usize]),
                None => u32::try_from(index).map_err(too_many),
            })
            .collect::<Result<Vec<_>>>()?;
        let before = self.manifest.cut.as_ref();
        let how = before.map(|cut| cut.how.clone()).into_iter().chain(chosen.how.iter().cloned());
        let mut manifest = Manifest::new(name, split);
        manifest.rows = rows.len() as u64;
        manifest.classes = self.manifest.classes.clone();
        manifest.shards = self.manifest.shards.clone();
        manifest.sources = self.manifest.sources.clone();
        manifest.options = self.manifest.options.clone();
        manifest.counts = Counts { accepted: manifest.rows, ..Counts::default() };
        manifest.cut = Some(Cut {
            base: base(&self.shards_in, &store),
            digest: before.map_or_else(|| self.digest.clone(), |cut| cut.digest.clone()),
            how: how.collect::<Vec<_>>().join(", then "),
            rows,
        });
        let text = manifest.text(&store)?;
        if let Some(old) = store.read(MANIFEST, 1 << 30)? {
            if old == text {
                return Ok(manifest);
            }
            let is_cut = Manifest::read(&store)?.is_some_and(|(old, _)| old.cut.is_some());
            if !(is_cut && overwrite) {
                let remedy = if is_cut { ", or say --overwrite" } else { "" };
                let message = format!("already holds a dataset; choose another place{remedy}");
                return Err(store.refused(message).into());
            }
        }
        store.write(MANIFEST, text)?;
        Ok(manifest)
    }
}

/// How a cut at `out` calls the place of its shards: relative on one machine, so that both can be moved together, and
/// so that a manifest names no other place.
fn base(shards_in: &Store, out: &Store) -> String {
    match (shards_in.folder().map(real), out.folder().map(real)) {
        (Some(base), Some(out)) => way(&out, &base),
        (Some(base), None) => base.to_string_lossy().into_owned(),
        (None, _) => shards_in.place().to_string(),
    }
}

/// The folder with links followed, as far as it is there.
fn real(folder: &Path) -> PathBuf {
    for there in folder.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), folder.strip_prefix(there)) {
            return real.join(rest);
        }
    }
    folder.to_owned()
}

/// The relative path from one folder to another.
fn way(from: &Path, to: &Path) -> String {
    let common = from.components().zip(to.components()).take_while(|(from, to)| from == to).count();
    let up = from.components().skip(common).map(|_| "..".into());
    let down = to.components().skip(common).map(|part| part.as_os_str().to_string_lossy());
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// Refuses a base that the cut at `place` may not name: whoever opens a manifest has named its place and no other, and
/// lends it neither their network nor their credentials. Relative ones are as near as the manifest; of an object
/// store, those in the same bucket; else those that `PALETTE_BASES` names.
pub(super) fn demand_named(place: &Place, text: &str, base: &Place) -> Result<()> {
    let relative = !Place::is_address(text) && Path::new(text).is_relative();
    if relative || (place.local().is_none() && place.is_in_store_of(base)) {
        return Ok(());
    }
    if is_named(base) {
        return Ok(());
    }
    let message = format!(
        "is a cut of {base}, which a manifest may not name by itself: if you mean that place, say so \
         (PALETTE_BASES={base}), or cut it again beside its base"
    );
    Err(Error::dataset(place, message))
}

/// Whether the caller named a place beside those of the command: `PALETTE_BASES`, parted by commas, which names all below
/// them too.
pub fn is_named(place: &Place) -> bool {
    let named = std::env::var("PALETTE_BASES").unwrap_or_default();
    let mut named = named.split(',').filter_map(|place| place.trim().parse::<Place>().ok());
    named.any(|named| place.is_below(&named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_leads_over_the_nearest_common_folder() {
        let way = |from: &str, to: &str| way(Path::new(from), Path::new(to));
        assert_eq!(way("/data/cut", "/data/all"), "../all");
        assert_eq!(way("/tmp/deep/cut", "/data/all"), "../../../data/all");
        assert_eq!(way("/data/all/cut", "/data/all"), "..");
    }

    #[test]
    fn a_manifest_names_no_place_of_its_own() {
        let named = |at: &str, base: &str| {
            let at: Place = at.parse().unwrap();
            demand_named(&at, base, &at.resolve(base).unwrap()).is_ok()
        };
        assert!(named("/data/cut", "../all") && named("s3://lab/cut", "s3://lab/all"));
        for base in ["/srv/secret", "s3://lab/all", "file:///srv/secret", "gs://lab/all"] {
            assert!(!named("/data/cut", base), "{base}");
        }
        assert!(!named("s3://lab/cut", "s3://other/all") && !named("s3://lab/cut", "gs://lab/all"));
        assert!(!named("s3://lab/cut", "/srv/secret"));
    }
}
