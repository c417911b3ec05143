//! What is settled before the first image is read. An ingest that goes on where another was killed
//! must have the same plan, to the byte.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Event;
use super::holdout::Holdout;
use super::layout::{self, ClassList, Layout, LayoutKind, SourceOptions};
use super::options::{Duplicates, IngestOptions};
use crate::dataset::{Dataset, Manifest};
use crate::image::Limits;
use crate::{Error, Result};

/// Everything that is settled before the first image is read.
pub(super) struct IngestPlan {
    pub(super) name: String,
    pub(super) split: String,
    pub(super) classes: Vec<String>,
    pub(super) sources: Vec<PlannedSource>,
    /// Bytes of all sources.
    pub(super) total: u64,
    pub(super) duplicates: Duplicates,
    pub(super) holdout: Option<Holdout>,
    pub(super) shard_bytes: u64,
    pub(super) limit: u64,
    pub(super) options: Value,
}

pub(super) struct PlannedSource {
    pub(super) name: String,
    pub(super) layout: LayoutKind,
    pub(super) bytes: u64,
    pub(super) published: Option<u64>,
    /// Seconds of the last change of an archive, which is not read again to be told apart.
    modified: Option<u64>,
    /// Where its classes stand among all.
    pub(super) classes: Vec<i64>,
}

impl IngestPlan {
    pub(super) fn new(
        options: &IngestOptions,
        tell: &dyn Fn(Event),
    ) -> Result<(Self, Vec<Box<dyn Layout>>)> {
        let about = SourceOptions {
            labels: options.labels.clone(),
            classes: class_list(options)?,
            split: options.split.clone(),
            label_column: options.label_column.clone(),
            split_folder: options.split_folder.clone(),
            max_bytes: Limits::INGEST.bytes,
        };
        let mut kinds = Vec::new();
        let mut layouts: Vec<Box<dyn Layout>> = Vec::new();
        for source in &options.sources {
            let kind = match options.layout {
                Some(kind) => kind,
                None => layout::recognize(source, options.split_folder.as_deref())?,
            };
            let layout = layout::open(kind, source, &about)?;
            tell(Event::Taken { source, layout: kind, found: layout.found() });
            for note in layout.notes() {
                tell(Event::Note { source, note });
            }
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
        let sources: Vec<_> = source_names(&options.sources)
            .into_iter()
            .zip(&options.sources)
            .zip(&kinds)
            .zip(&layouts)
            .map(|(((name, path), &layout), opened)| PlannedSource {
                name,
                layout,
                bytes: opened.bytes(),
                published: opened.published(),
                modified: modified(path),
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
        let copies = options.upright || options.short_side.is_some();
        let mut plan = Self {
            name,
            split,
            classes,
            total: layouts.iter().map(|layout| layout.bytes()).sum(),
            sources,
            duplicates,
            holdout: options.holdout,
            shard_bytes: options.shard_bytes,
            limit: options.limit.unwrap_or(u64::MAX),
            options: json!({
                "short_side": options.short_side,
                "upright": options.upright,
                "quality": copies.then_some(options.quality),
                "shard_bytes": options.shard_bytes,
                "duplicates": match duplicates {
                    Duplicates::Keep => "keep",
                    Duplicates::Skip => "skip",
                },
                "part": options.holdout.map(|holdout| holdout.json()),
                "limit": options.limit,
                "labels": options.labels.as_deref().map(source_name),
            }),
        };
        // Only where they are given: datasets of before have none of these keys.
        for (key, value) in
            [("label_column", &options.label_column), ("split_folder", &options.split_folder)]
        {
            if let Some(value) = value {
                plan.options[key] = json!(value);
            }
        }
        Ok((plan, layouts))
    }

    /// What the shards depend on, as text.
    pub(super) fn text(&self) -> Vec<u8> {
        let sources: Vec<_> = self
            .sources
            .iter()
            .map(|source| {
                json!({
                    "name": source.name,
                    "layout": source.layout.name(),
                    "bytes": source.bytes,
                    "modified": source.modified,
                })
            })
            .collect();
        json!({
            "name": self.name,
            "split": self.split,
            "classes": self.classes,
            "options": self.options,
            "sources": sources,
        })
        .to_string()
        .into_bytes()
    }

    /// Whether a finished dataset is what this plan makes, as far as its manifest tells.
    pub(super) fn made(&self, manifest: &Manifest) -> bool {
        let same_sources = manifest.sources.len() == self.sources.len()
            && manifest.sources.iter().zip(&self.sources).all(|(made, planned)| {
                made.name == planned.name
                    && made.layout == planned.layout.name()
                    && made.bytes == planned.bytes
            });
        same_sources
            && manifest.name == self.name
            && manifest.split == self.split
            && manifest.classes == self.classes
            && manifest.options == self.options
    }
}

/// The list of classes that the user names: a file, or those of another dataset.
fn class_list(options: &IngestOptions) -> Result<Option<ClassList>> {
    if let Some(place) = &options.classes_from {
        let names = Dataset::open(place)?.manifest().classes.clone();
        if names.is_empty() {
            return Err(Error::dataset(place, "has no classes to take (--classes-from)"));
        }
        return Ok(Some(ClassList { names, origin: place.to_string() }));
    }
    options.classes.as_deref().map(ClassList::read).transpose()
}

/// Seconds from 1970 to the last change of a file; none for a folder.
fn modified(path: &Path) -> Option<u64> {
    let meta = std::fs::metadata(path).ok().filter(|meta| meta.is_file())?;
    let since = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

/// The last part of a path.
fn source_name(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    full.file_name().map_or_else(|| "root".into(), |name| name.to_string_lossy().into_owned())
}

/// Names of sources, those that are called alike numbered: `data`, `data-2`.
fn source_names(sources: &[PathBuf]) -> Vec<String> {
    let mut names = Vec::new();
    for path in sources {
        let name = source_name(path);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !names.contains(name));
        names.push(free.unwrap_or(name));
    }
    names
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
