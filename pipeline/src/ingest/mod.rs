//! Ingest: sources in, a dataset out. A reading thread streams items through a bounded channel to
//! workers, which decode each image once and digest it; the caller's thread writes in order.
//!
//! Always holds: the shards are the same bytes for any number of workers; memory is bounded by
//! `IN_FLIGHT` and does not grow with the sources but by a digest an image; nothing has its final
//! name before it is whole, and the manifest comes last.

mod gate;
mod layout;
mod part;
mod place;
mod shards;
mod work;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::thread;

use serde_json::json;
use sha2::{Digest, Sha256};

pub use layout::LayoutKind;
use layout::{Layout, SourceOptions};
pub use part::{Part, Side};

use crate::dataset::manifest::{Counts, Manifest, SourceEntry};
use crate::image::Limits;
use crate::{Error, Result, atomic, uri};
use gate::Gate;
use place::Place;
use shards::{Reject, Shards};
use work::{Done, Job};

/// Bytes of images that are read but not yet written.
const IN_FLIGHT: u64 = 256 << 20;

/// What is done with images whose very bytes were there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// Left out and listed among the rejects.
    Skip,
    /// Kept and counted.
    Keep,
}

/// What to ingest and how.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// Archives and folders, in order.
    pub sources: Vec<PathBuf>,
    /// Layout of all sources; recognized for each where absent.
    pub layout: Option<LayoutKind>,
    /// Address of the dataset.
    pub out: String,
    /// Name of the dataset; that of the first source where absent.
    pub name: Option<String>,
    /// Split; by the layout where absent.
    pub split: Option<String>,
    /// Labels of val images: a list, or the devkit of ImageNet (`imagenet-val`, `places365`).
    pub labels: Option<PathBuf>,
    /// List of the class names in the order of their labels.
    pub classes: Option<PathBuf>,
    /// Store copies whose shorter side has this many pixels, where the image is larger.
    pub short_side: Option<u32>,
    /// JPEG quality of those copies.
    pub quality: u8,
    /// Payload after which a shard is closed.
    pub shard_bytes: u64,
    /// Decoding threads; 0 takes all cores.
    pub workers: usize,
    /// Duplicates: kept for official archives and skipped elsewhere where absent.
    pub duplicates: Option<Duplicates>,
    /// Store one side only of a cut into training and held-out images.
    pub part: Option<Part>,
    /// Stop after this many stored images.
    pub limit: Option<u64>,
    /// Replace a finished dataset in the place.
    pub overwrite: bool,
}

impl IngestOptions {
    /// Shards of 256 MB and everything else by the layout.
    pub fn new(sources: Vec<PathBuf>, out: impl Into<String>) -> Self {
        Self {
            sources,
            layout: None,
            out: out.into(),
            name: None,
            split: None,
            labels: None,
            classes: None,
            short_side: None,
            quality: 95,
            shard_bytes: 256 << 20,
            workers: 0,
            duplicates: None,
            part: None,
            limit: None,
            overwrite: false,
        }
    }

    fn validate(&self) -> Result<()> {
        use crate::config::within;
        if self.sources.is_empty() {
            return Err(Error::config("SOURCE", "empty", "at least one archive or folder"));
        }
        if let Some(side) = self.short_side {
            within("--short-side", side, 8, 4096)?;
        }
        within("--quality", self.quality, 1, 100)?;
        within("--shard-bytes", self.shard_bytes, 1 << 16, 2 << 30)?;
        within("--workers", self.workers, 0, 1024)?;
        if let Some(part) = &self.part {
            part.validate()?;
        }
        within("--limit", self.limit.unwrap_or(1), 1, u64::MAX)?;
        for (what, name) in [("--name", &self.name), ("--split", &self.split)] {
            if let Some(name) = name {
                check_name(what, name)?;
            }
        }
        Ok(())
    }
}

/// Names become parts of file names.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(known) {
        return Ok(());
    }
    let allowed = "1 to 100 letters, digits, `_`, `-`, `.`, not beginning with a dot";
    Err(Error::config(what, format!("`{name}`"), allowed))
}

/// What is told while an ingest runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// What a source was taken for.
    Taken {
        /// The archive or folder.
        source: &'a std::path::Path,
        /// Its layout.
        layout: LayoutKind,
        /// In a few words what was found.
        found: String,
    },
    /// Something went forward.
    Progress {
        /// Image bytes that are written or refused.
        bytes: u64,
        /// Bytes of all sources.
        total: u64,
        /// Images stored.
        images: u64,
    },
}

/// Ingests; the manifest of the finished dataset is what it returns.
///
/// # Errors
/// For options that make no sense, a place that is taken, a source that cannot be read, a damaged
/// archive, a full disk. Images that are damaged are rejects, not errors.
pub fn ingest(options: &IngestOptions, tell: &dyn Fn(Event)) -> Result<Manifest> {
    options.validate()?;
    let folder = uri::local(&options.out)?;
    let (plan, layouts) = Plan::new(options, tell)?;
    let place = Place::claim(&folder, options.overwrite)?;
    let mut writer = Writer::new(&plan, &place, tell)?;
    let ended = stream(options, &plan, layouts, &mut writer)?;
    writer.finish(ended)
}

/// Everything that is settled before the first image is read.
struct Plan {
    name: String,
    split: String,
    classes: Vec<String>,
    /// For each source: its name, layout and where its classes stand among all.
    sources: Vec<PlannedSource>,
    total: u64,
    duplicates: Duplicates,
    part: Option<Part>,
    shard_bytes: u64,
    limit: u64,
    options: serde_json::Value,
}

struct PlannedSource {
    name: String,
    layout: LayoutKind,
    classes: Vec<i64>,
}

impl Plan {
    fn new(options: &IngestOptions, tell: &dyn Fn(Event)) -> Result<(Self, Vec<Box<dyn Layout>>)> {
        let about = SourceOptions {
            labels: options.labels.clone(),
            classes: options.classes.clone(),
            split: options.split.clone(),
            max_bytes: Limits::INGEST.bytes,
        };
        let mut kinds = Vec::new();
        let mut layouts: Vec<Box<dyn Layout>> = Vec::new();
        for source in &options.sources {
            let kind = match options.layout {
                Some(kind) => kind,
                None => LayoutKind::recognize(source)?,
            };
            let layout = layout::open(kind, source, &about)?;
            tell(Event::Taken { source, layout: kind, found: layout.found() });
            kinds.push(kind);
            layouts.push(layout);
        }
        if options.labels.is_some() && !kinds.iter().any(|kind| kind.takes_labels()) {
            let allowed = "only with the layouts imagenet-val and places365";
            return Err(Error::config("--labels", "given", allowed));
        }
        let classes = layout::union(layouts.iter().map(|layout| layout.classes()));
        let places: HashMap<&String, i64> = classes.iter().zip(0..).collect();
        let place_of = |name: &String| places.get(name).copied().unwrap_or(-1);
        let sources: Vec<_> = options
            .sources
            .iter()
            .zip(&kinds)
            .zip(&layouts)
            .map(|((path, &layout), opened)| PlannedSource {
                name: source_name(path),
                layout,
                classes: opened.classes().iter().map(place_of).collect(),
            })
            .collect();
        let official = layouts.iter().all(|layout| layout.is_official());
        let duplicates = options.duplicates.unwrap_or(match official {
            true => Duplicates::Keep,
            false => Duplicates::Skip,
        });
        let name = options.name.clone().unwrap_or_else(|| plain(&sources[0].name));
        let split = options.split.clone().unwrap_or_else(|| layouts[0].split().to_owned());
        let plan = Self {
            name,
            split,
            classes,
            total: layouts.iter().map(|layout| layout.bytes()).sum(),
            sources,
            duplicates,
            part: options.part,
            shard_bytes: options.shard_bytes,
            limit: options.limit.unwrap_or(u64::MAX),
            options: json!({
                "short_side": options.short_side,
                "quality": options.short_side.map(|_| options.quality),
                "shard_bytes": options.shard_bytes,
                "duplicates": match duplicates {
                    Duplicates::Keep => "keep",
                    Duplicates::Skip => "skip",
                },
                "part": options.part.map(|part| part.json()),
                "limit": options.limit,
                "labels": options.labels.as_deref().map(source_name),
            }),
        };
        Ok((plan, layouts))
    }
}

/// The last part of a path.
fn source_name(path: &std::path::Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    full.file_name().map_or_else(|| "root".into(), |name| name.to_string_lossy().into_owned())
}

/// A name that may stand in file names, from that of a source.
fn plain(source: &str) -> String {
    let stem = source.strip_suffix(".tar").unwrap_or(source);
    let plain: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '-' })
        .take(100)
        .collect();
    if plain.is_empty() { "images".into() } else { plain }
}

/// Runs reader and workers, and the writer on this thread.
fn stream(
    options: &IngestOptions,
    plan: &Plan,
    layouts: Vec<Box<dyn Layout>>,
    writer: &mut Writer,
) -> Result<Vec<layout::Ended>> {
    let workers = crate::loader::threads(options.workers);
    let gate = &Gate::new(IN_FLIGHT);
    let (jobs, todo) = crossbeam_channel::bounded::<Job>(4 * workers);
    let (done, results) = crossbeam_channel::bounded::<(u64, Done)>(4 * workers);
    let shrink = options.short_side.map(|side| (side, options.quality));
    thread::scope(|scope| {
        for _ in 0..workers {
            let (todo, done) = (todo.clone(), done.clone());
            scope.spawn(move || {
                for job in todo {
                    let number = job.number;
                    if done.send((number, work::work(job, shrink))).is_err() {
                        break;
                    }
                }
            });
        }
        drop((todo, done));
        let several = plan.sources.len() > 1;
        let reader = scope.spawn(move || {
            let mut number = 0;
            let mut ended = Vec::new();
            for (source, layout) in layouts.into_iter().enumerate() {
                let planned = &plan.sources[source];
                ended.push(layout.read(0, &mut |item| {
                    let job = Job::new(number, source, planned, several, item);
                    number += 1;
                    gate.enter(job.weight()) && jobs.send(job).is_ok()
                })?);
                if gate.is_closed() {
                    break;
                }
            }
            Ok(ended)
        });

        // Items come back in any order and are written in theirs.
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        let mut write = || -> Result<()> {
            for (number, done) in results.iter() {
                waiting.insert(number, done);
                while let Some(done) = waiting.remove(&next) {
                    next += 1;
                    gate.leave(done.weight);
                    if !writer.take(done)? {
                        return Ok(());
                    }
                }
            }
            Ok(())
        };
        let written = write();
        gate.close();
        drop(results);
        let read = reader.join().unwrap_or_else(|_| {
            Err(Error::source("reader", "the reading thread panicked; please report the archive"))
        });
        written?;
        read
    })
}

/// Takes items in order: counts, finds duplicates, fills shards.
struct Writer<'a> {
    plan: &'a Plan,
    place: &'a Place,
    tell: &'a dyn Fn(Event),
    shards: Shards<'a>,
    seen: HashSet<[u8; 16]>,
    rejects: Vec<Reject>,
    counts: Counts,
    bytes: u64,
    /// For each source: digest over its files, for those that are folders.
    digests: Vec<Sha256>,
}

impl<'a> Writer<'a> {
    fn new(plan: &'a Plan, place: &'a Place, tell: &'a dyn Fn(Event)) -> Result<Self> {
        Ok(Self {
            plan,
            place,
            tell,
            shards: Shards::new(place, &plan.split, &plan.classes, plan.shard_bytes),
            seen: HashSet::new(),
            rejects: Vec::new(),
            counts: Counts::default(),
            bytes: 0,
            digests: plan.sources.iter().map(|_| Sha256::new()).collect(),
        })
    }

    /// Takes the next item; false once the limit is reached.
    fn take(&mut self, done: Done) -> Result<bool> {
        let Done { source, key, digest, image, weight } = done;
        let name = &self.plan.sources[source].name;
        let digest_text = digest.map_or_else(|| "unread".into(), |digest| atomic::hex(&digest));
        self.digests[source].update(format!("{digest_text}  {key}\n"));
        self.bytes += weight;
        let mut reject = |reason: String| {
            self.rejects.push(Reject { key: key.clone(), source: name.clone(), reason });
        };
        let elsewhere = |part: Part| digest.is_some_and(|digest| !part.takes(&digest));
        match image {
            Ok(_) if self.plan.part.is_some_and(elsewhere) => self.counts.left_out += 1,
            Err(reason) => {
                self.counts.rejected += 1;
                reject(reason);
            }
            Ok(row) => {
                let short = digest.map(|digest| *digest.first_chunk().unwrap_or(&[0; 16]));
                let again = short.is_some_and(|short| !self.seen.insert(short));
                self.counts.duplicates += u64::from(again);
                if again && self.plan.duplicates == Duplicates::Skip {
                    self.counts.duplicates_skipped += 1;
                    reject(format!(
                        "duplicate: the bytes of an earlier image, sha256 {digest_text}"
                    ));
                } else {
                    self.counts.accepted += 1;
                    self.shards.push(row, key, name)?;
                }
            }
        }
        let images = self.counts.accepted;
        (self.tell)(Event::Progress { bytes: self.bytes, total: self.plan.total, images });
        Ok(images < self.plan.limit)
    }

    fn finish(self, ended: Vec<layout::Ended>) -> Result<Manifest> {
        let Self { plan, place, shards, rejects, counts, digests, .. } = self;
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
            .zip(digests)
            .map(|((source, ended), files)| SourceEntry {
                name: source.name.clone(),
                layout: source.layout.name().to_owned(),
                bytes: ended.bytes,
                sha256: match (limited, ended.sha256) {
                    (true, _) => None,
                    (false, Some(sha256)) => Some(sha256),
                    (false, None) => Some(atomic::hex(&files.finalize())),
                },
            })
            .collect();
        manifest.shards = shards.finish()?;
        shards::write_rejects(place, &rejects)?;
        place.publish(&manifest)?;
        Ok(manifest)
    }
}
