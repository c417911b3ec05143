//! What is in a dataset, from its small columns: read once for each manifest, behind the page.

use std::collections::HashMap;
use std::sync::Arc;

use pipeline::Dataset;
use pipeline::dataset::{Rejected, Summary};

use crate::work::Long;
use crate::{Answer, Refusal, Room};

/// Rejected and noted files that are kept, of each kind.
const LISTED: usize = 1000;
/// Images whose classes are kept: four bytes each.
const INDEXED: u64 = 50_000_000;

/// What is in a dataset.
pub struct Inside {
    /// Counts, sizes, classes, reasons.
    pub summary: Summary,
    /// The rows of each class, in the order of the manifest's classes.
    pub classes: Vec<Vec<u32>>,
    /// Files that were left out, the first of them.
    pub rejects: Vec<Listed>,
    /// Images that are stored and listed all the same, the first of them.
    pub noted: Vec<Listed>,
}

/// A file of the list of rejects.
pub struct Listed {
    /// Its name and why it is listed.
    pub file: Rejected,
    /// The row that shows it: its own, or that of the image that it is the copy or the namesake of.
    pub row: Option<u64>,
}

/// What is in a dataset; read by the first who asks.
///
/// # Errors
/// Where a shard or the list of rejects cannot be read.
pub async fn read(room: &Room, dataset: &Arc<Dataset>) -> Answer<Long<Inside>> {
    let key = format!("data.inside.{}", dataset.digest());
    let dataset = Arc::clone(dataset);
    let work = move |_: &_| look(&dataset).map_err(|error| Refusal::conflict(error.to_string()));
    room.work.long(&key, work).await
}

fn look(dataset: &Dataset) -> pipeline::Result<Inside> {
    let summary = dataset.summary()?;
    let first = |mut listed: Vec<Rejected>| {
        listed.truncate(LISTED);
        listed
    };
    let (rejects, noted) = (first(dataset.rejects()?), first(dataset.noted()?));
    let mut classes = vec![Vec::new(); dataset.manifest().classes.len()];
    let mut keys: HashMap<String, Option<u64>> =
        rejects.iter().chain(&noted).map(|one| (one.key.clone(), None)).collect();
    if dataset.len() <= INDEXED && (!classes.is_empty() || !keys.is_empty()) {
        for (row, (key, label)) in dataset.labels()?.into_iter().enumerate() {
            if let Some(found) = keys.get_mut(&key) {
                *found = Some(row as u64);
            }
            let class = label.and_then(|label| usize::try_from(label).ok());
            if let Some(rows) = class.and_then(|class| classes.get_mut(class)) {
                rows.push(row as u32);
            }
        }
    }
    let mut copies: HashMap<[u8; 16], Option<u64>> =
        rejects.iter().filter_map(|one| Some((copy_of(one)?, None))).collect();
    if !copies.is_empty() && dataset.len() <= INDEXED {
        for (row, digest) in dataset.digests()?.into_iter().enumerate() {
            if let Some(found) = copies.get_mut(&digest) {
                found.get_or_insert(row as u64);
            }
        }
    }
    let listed = |file: Rejected| {
        let namesake = || keys.get(&file.key).copied().flatten();
        let row = match copy_of(&file) {
            Some(digest) => copies.get(&digest).copied().flatten(),
            None => namesake(),
        };
        Listed { file, row }
    };
    Ok(Inside {
        rejects: rejects.into_iter().map(listed).collect(),
        noted: noted.into_iter().map(listed).collect(),
        summary,
        classes,
    })
}

/// The first half of the digest of the stored image that a duplicate is a copy of.
fn copy_of(file: &Rejected) -> Option<[u8; 16]> {
    let (_, text) = file.reason.strip_prefix("duplicate")?.split_once("sha256 ")?;
    let mut digest = [0; 16];
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}
