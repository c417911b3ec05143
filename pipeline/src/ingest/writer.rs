//! Takes items in order: counts, finds duplicates, fills shards, keeps the journal.

use std::collections::HashSet;

use storage::atomic;

use super::Event;
use super::destination::Destination;
use super::holdout::Holdout;
use super::journal::{Digest, Mark, Reject, Seen, State};
use super::layout::Ended;
use super::options::Duplicates;
use super::plan::IngestPlan;
use super::shards::{self, Shards};
use super::work::Done;
use crate::dataset::{Manifest, SourceEntry};
use crate::{Error, Result};
use sha2::{Digest as _, Sha256};

/// How the reasons of files begin that are none of their layout's images.
const PASSED_OVER: &str = "passed over: ";

pub(super) struct Writer<'a> {
    plan: &'a IngestPlan,
    destination: &'a Destination,
    tell: &'a dyn Fn(Event),
    shards: Shards<'a>,
    state: State,
    images: HashSet<Digest>,
    keys: HashSet<Digest>,
    rejects: Vec<Reject>,
    /// Rejects and digests since the last mark.
    marked: usize,
    unmarked: Seen,
}

impl<'a> Writer<'a> {
    /// A writer that goes on after these marks.
    pub(super) fn new(
        plan: &'a IngestPlan,
        destination: &'a Destination,
        marks: Vec<Mark>,
        tell: &'a dyn Fn(Event),
    ) -> Self {
        let mut writer = Self {
            plan,
            destination,
            tell,
            shards: Shards::new(destination, plan, Vec::new()),
            state: State::new(plan.sources.len()),
            images: HashSet::new(),
            keys: HashSet::new(),
            rejects: Vec::new(),
            marked: 0,
            unmarked: Seen::default(),
        };
        let mut finished = Vec::new();
        for mark in marks {
            writer.images.extend(mark.seen.images);
            writer.keys.extend(mark.seen.keys);
            writer.rejects.extend(mark.rejects);
            writer.state = mark.state;
            finished.push(mark.shard);
        }
        writer.marked = writer.rejects.len();
        if !finished.is_empty() {
            let (shards, images) = (finished.len(), writer.state.counts.accepted);
            tell(Event::Resumed { shards, images });
        }
        writer.shards = Shards::new(destination, plan, finished);
        writer
    }

    /// Items taken of each source.
    pub(super) fn taken(&self) -> &[u64] {
        &self.state.taken
    }

    /// True once there are as many images as were asked for.
    pub(super) fn is_full(&self) -> bool {
        self.state.counts.accepted >= self.plan.limit
    }

    /// What is known of the sources that were read to their end.
    pub(super) fn ended(&self) -> &[Option<Ended>] {
        &self.state.ended
    }

    /// Takes the next item; false once the limit is reached. `ended` tells what is known of the
    /// sources before the item's.
    pub(super) fn take(
        &mut self,
        done: Done,
        ended: impl FnOnce() -> Vec<Option<Ended>>,
    ) -> Result<bool> {
        let Done { source, key, digest, image, weight } = done;
        let name = &self.plan.sources[source].name;
        let digest_text = digest.map_or_else(|| "unread".into(), |digest| atomic::hex(&digest));
        let key_digest = half(&Sha256::digest(&key));
        let state = &mut self.state;
        state.files[source].0.update(format!("{digest_text}  {key}\n"));
        state.taken[source] += 1;
        state.bytes += weight;
        let mut closed = None;
        let mut reject = |reason: String| {
            self.rejects.push(Reject { key: key.clone(), source: name.clone(), reason });
        };
        let elsewhere = |holdout: Holdout| digest.is_some_and(|digest| !holdout.takes(&digest));
        match image {
            Ok(_) if self.plan.holdout.is_some_and(elsewhere) => state.counts.left_out += 1,
            Err(reason) => {
                state.counts.rejected += 1;
                reject(reason);
            }
            Ok(_) if self.keys.contains(&key_digest) => {
                state.counts.rejected += 1;
                reject("second of its name: an earlier image has this key".into());
            }
            Ok(image) => {
                let again = digest.is_some_and(|digest| {
                    let new = self.images.insert(half(&digest));
                    if new {
                        self.unmarked.images.push(half(&digest));
                    }
                    !new
                });
                state.counts.duplicates += u64::from(again);
                if again && self.plan.duplicates == Duplicates::Skip {
                    state.counts.duplicates_skipped += 1;
                    reject(format!(
                        "duplicate: the bytes of an earlier image, sha256 {digest_text}"
                    ));
                } else {
                    state.counts.accepted += 1;
                    let has_none = image.label < 0 && !self.plan.classes.is_empty();
                    state.counts.unlabelled += u64::from(has_none);
                    if let Some(note) = &image.note {
                        state.counts.noted += 1;
                        reject(note.clone());
                    }
                    self.keys.insert(key_digest);
                    self.unmarked.keys.push(key_digest);
                    closed = self.shards.push(image, key, name)?;
                }
            }
        }
        if let Some((number, shard)) = closed {
            for (at, ended) in ended().into_iter().enumerate() {
                self.state.ended[at] = ended;
            }
            let rejects = self.rejects[self.marked..].to_vec();
            self.marked = self.rejects.len();
            let seen = std::mem::take(&mut self.unmarked);
            let mark = Mark { shard, state: self.state.clone(), rejects, seen };
            self.destination.keep(number, &mark)?;
        }
        let images = self.state.counts.accepted;
        (self.tell)(Event::Progress { bytes: self.state.bytes, total: self.plan.total, images });
        Ok(!self.is_full())
    }

    /// Closes the last shard and seals everything; what is left to do is to publish it.
    pub(super) fn finish(self, ended: Vec<Option<Ended>>) -> Result<Manifest> {
        let Self { plan, destination, shards, rejects, state, .. } = self;
        let counts = state.counts;
        if counts.accepted == 0 {
            let first = rejects.first().map_or_else(String::new, |reject| {
                format!(", the first, {}: {}", reject.key, reject.reason)
            });
            let elsewhere = match counts.left_out {
                0 => String::new(),
                count => format!(", {count} on the other side of the cut (--holdout)"),
            };
            let rejected = counts.rejected;
            let message = format!("no usable image, {rejected} rejected{first}{elsewhere}");
            return Err(Error::source(&plan.sources[0].name, message));
        }
        let passed_over = |name: &str| {
            let of_source =
                |reject: &&Reject| reject.source == name && reject.reason.starts_with(PASSED_OVER);
            rejects.iter().filter(of_source).count() as u64
        };
        let limited = counts.accepted >= plan.limit;
        let mut manifest = Manifest::new(&plan.name, &plan.split);
        manifest.rows = counts.accepted;
        manifest.classes = plan.classes.clone();
        manifest.counts = counts;
        manifest.options = plan.options.clone();
        manifest.sources = plan
            .sources
            .iter()
            .zip(ended)
            .zip(state.files.into_iter().zip(state.taken))
            .map(|((source, ended), (files, taken))| SourceEntry {
                name: source.name.clone(),
                layout: source.layout.name().to_owned(),
                bytes: source.bytes,
                sha256: match (limited, ended) {
                    (true, _) | (_, None) => None,
                    (false, Some(Ended { sha256: Some(sha256), .. })) => Some(sha256),
                    (false, Some(Ended { sha256: None, .. })) => {
                        Some(atomic::hex(&files.0.finalize()))
                    }
                },
                // What is passed over for its name is listed, and is none of the publisher's images.
                files: taken.saturating_sub(passed_over(&source.name)),
                published: source.published,
            })
            .collect();
        let (shards, last) = shards.finish()?;
        manifest.shards = shards;
        shards::write_rejects(destination, &rejects)?;
        destination.seal(last, &manifest)?;
        Ok(manifest)
    }
}

fn half(digest: &[u8]) -> Digest {
    *digest.first_chunk().unwrap_or(&[0; 16])
}
