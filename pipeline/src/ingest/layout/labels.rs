//! Labels of the ImageNet validation images: a list with one synset a line, or the development kit,
//! `ILSVRC2012_devkit_t12.tar.gz` or its folder. The kit's ground truth has ILSVRC ids, which are not
//! places in the sorted list of synsets; its `meta.mat` tells the synset of each.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use super::classes;
use super::files::Files;
use super::member;
use super::{mat, names};
use crate::ingest::origin::Origin;
use crate::text;
use crate::{Error, Result};

const META: &str = "meta.mat";
const GROUND_TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
/// Longest file of the kit that is read.
const MAX_BYTES: u64 = 16 << 20;

/// The synset of each validation image.
pub(super) struct Labels {
    /// All synsets, sorted.
    pub(super) synsets: Vec<String>,
    /// Index into `synsets` of file number n at n - 1.
    labels: Vec<usize>,
}

impl Labels {
    /// Reads a list or a kit that has to reach to file number `last`.
    pub(super) fn read(source: &Path, last: usize) -> Result<Self> {
        let wrong = |message: String| Error::source(source, message);
        let labels = match is_kit(source)? {
            true => kit(source)?,
            false => list(&text::read(source, classes::MAX_BYTES)?).map_err(wrong)?,
        };
        if labels.labels.len() < last {
            return Err(wrong(format!(
                "has {} labels, the images reach to number {last}; give the labels of all 50000 \
                 files",
                labels.labels.len()
            )));
        }
        Ok(labels)
    }

    /// The synset of a file by its number.
    pub(super) fn of(&self, number: usize) -> Option<&str> {
        let label = *self.labels.get(number.checked_sub(1)?)?;
        self.synsets.get(label).map(String::as_str)
    }

    /// Labels by the names of `truth` among `synsets`, which has each of them.
    fn new<'a>(mut synsets: Vec<String>, truth: impl Iterator<Item = &'a str>) -> Self {
        synsets.sort_unstable();
        synsets.dedup();
        let label = |name| synsets.binary_search_by(|synset| synset.as_str().cmp(name)).ok();
        let labels = truth.filter_map(label).collect();
        Self { synsets, labels }
    }
}

/// True for folders, tar archives and gzipped files; else it is a list.
fn is_kit(source: &Path) -> Result<bool> {
    let meta = std::fs::metadata(source).map_err(Error::io("open", source))?;
    if meta.is_dir() {
        return Ok(true);
    }
    let mut start = Vec::new();
    let (file, _) = storage::regular::open(source).map_err(Error::io("open", source))?;
    file.take(512).read_to_end(&mut start).map_err(Error::io("read", source))?;
    Ok(start.starts_with(&[0x1f, 0x8b]) || start.get(257..262) == Some(b"ustar"))
}

fn list(text: &str) -> Result<Labels, String> {
    let truth = text::numbered(text)?;
    if !truth.is_empty() && truth.iter().all(|line| line.parse::<u32>().is_ok()) {
        return Err(
            "has numbers; those of ILSVRC stand in no order of the synsets: give the whole \
                    devkit, archive or folder, or a list with one synset a line"
                .into(),
        );
    }
    if let Some(line) = truth.iter().position(|line| !names::is_synset(line)) {
        return Err(format!("line {}: one synset such as n01440764 is expected", line + 1));
    }
    Ok(Labels::new(truth.iter().map(|&line| line.to_owned()).collect(), truth.into_iter()))
}

fn kit(source: &Path) -> Result<Labels> {
    let (mut meta, mut truth) = (None, None);
    Files::open(&Origin::local(source), None)?.scan(member::NONE, &mut |member| {
        let name = member.name.to_owned();
        let slot = match names::file_name(&name) {
            META => &mut meta,
            GROUND_TRUTH => &mut truth,
            _ => return Ok(true),
        };
        let content = member.content(MAX_BYTES)?;
        *slot = Some(content.map_err(|error| wrong(source, &name, error))?);
        Ok(meta.is_none() || truth.is_none())
    })?;
    let whole = |file: Option<Vec<u8>>, name: &str| {
        file.ok_or_else(|| wrong(source, name, "is missing; give the whole devkit".into()))
    };
    let synsets = mat::synsets(&whole(meta, META)?)
        .map_err(|error| wrong(source, META, format!("{error}; download the devkit again")))?;
    let truth = text::of(whole(truth, GROUND_TRUTH)?);
    let truth = truth.map_err(|message| wrong(source, GROUND_TRUTH, message))?;
    let leaves: HashMap<u32, &str> = synsets
        .iter()
        .filter(|synset| synset.is_leaf)
        .map(|synset| (synset.id, synset.wnid.as_str()))
        .collect();
    let synset = |(number, line): (usize, &str)| {
        let id = line.trim().parse().ok();
        id.and_then(|id: u32| leaves.get(&id).copied()).ok_or_else(|| {
            let message = format!("line {}: `{line}` is the id of no class of {META}", number + 1);
            wrong(source, GROUND_TRUTH, message)
        })
    };
    let truth: Vec<&str> = truth.lines().enumerate().map(synset).collect::<Result<_>>()?;
    Ok(Labels::new(leaves.values().map(|&name| name.to_owned()).collect(), truth.into_iter()))
}

fn wrong(source: &Path, name: &str, message: String) -> Error {
    Error::source(source, format!("{name}: {message}"))
}
