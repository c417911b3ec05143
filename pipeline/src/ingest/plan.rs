//! What is settled before the first image is read. An ingest that goes on where another was killed
//! must have the same plan, to the byte.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use storage::{Far, Source, atomic};

use super::holdout::Holdout;
use super::layout::{self, ClassList, Layout, LayoutKind, SourceOptions};
use super::options::{Duplicates, IngestOptions, OnDamage};
use super::origin::Origin;
use super::{Event, identity};
use crate::dataset::{Dataset, Manifest, SourceEntry};
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
    /// What tells the lists of labels and classes from others at the same paths.
    lists: Value,
}

pub(super) struct PlannedSource {
    pub(super) name: String,
    pub(super) layout: LayoutKind,
    pub(super) bytes: u64,
    pub(super) published: Option<u64>,
    source: Source,
    pub(super) origin: Origin,
    /// What tells it from another one at the same path.
    identity: Value,
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
        let mut origins = Vec::new();
        for source in &options.sources {
            let origin = Origin::open(source, &options.reach)?;
            if let Some(Far::File(file)) = origin.far() {
                tell(Event::Found { source, bytes: file.length() });
            }
            let kind = match options.layout {
                Some(kind) => kind,
                None => layout::recognize(&origin, options.split_folder.as_deref())?,
            };
            let layout = layout::open(kind, &origin, &about)?;
            tell(Event::Taken { source, layout: kind, found: layout.found() });
            for note in not_utf8(source).into_iter().chain(layout.notes()) {
                tell(Event::Note { source, note });
            }
            origins.push(origin);
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
        let identities = origins.iter().map(identity::of).collect::<Result<Vec<_>>>()?;
        let list = |path: &Option<PathBuf>| path.as_deref().map(identity::of_list).transpose();
        let lists = json!({ "labels": list(&options.labels)?, "classes": list(&options.classes)? });
        let sources: Vec<_> = source_names(&options.sources)
            .into_iter()
            .zip(options.sources.iter().zip(origins))
            .zip(identities)
            .zip(&kinds)
            .zip(&layouts)
            .map(|((((name, (source, origin)), identity), &layout), opened)| PlannedSource {
                name,
                layout,
                bytes: opened.bytes(),
                published: opened.published(),
                source: source.clone(),
                origin,
                identity,
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
            lists,
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
        if options.on_damage == OnDamage::Keep {
            plan.options["on_damage"] = "keep".into();
        }
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

    /// What the shards depend on.
    pub(super) fn json(&self) -> Value {
        let sources: Vec<_> = self
            .sources
            .iter()
            .map(|source| {
                let mut json = source.identity.clone();
                json["name"] = source.name.clone().into();
                json["layout"] = source.layout.name().into();
                json
            })
            .collect();
        json!({
            "name": self.name,
            "split": self.split,
            "classes": self.classes,
            "options": self.options,
            "lists": self.lists,
            "sources": sources,
        })
    }

    /// What a finished dataset differs in from what this plan makes; nothing where it is the same. `made` is
    /// the plan that it was made by. An archive that changed by its time alone is read and compared with its
    /// digest.
    pub(super) fn differences(
        &self,
        made: Option<&Value>,
        manifest: &Manifest,
        tell: &dyn Fn(Event),
    ) -> Result<Vec<String>> {
        let Some(made) = made else { return self.differences_from(manifest, tell) };
        let mut now = identity::settled(made, self.json());
        for (at, (source, entry)) in self.sources.iter().zip(&manifest.sources).enumerate() {
            let then = &made["sources"][at];
            let found = &now["sources"][at];
            let touched = ["modified", "etag"].iter().any(|&key| then[key] != found[key]);
            let same_size = then["bytes"] == found["bytes"];
            if touched && same_size && source.is_whole_archive(entry, tell)? {
                for key in ["modified", "etag"] {
                    if let Some(value) = then.get(key) {
                        now["sources"][at][key] = value.clone();
                    }
                }
            }
        }
        Ok(identity::differences(made, &now))
    }

    /// [`Self::differences`] where it is not known what a dataset was made by: it was made by an earlier
    /// version.
    fn differences_from(&self, manifest: &Manifest, tell: &dyn Fn(Event)) -> Result<Vec<String>> {
        let brief = |sources: Vec<Value>,
                     name: &str,
                     split: &str,
                     classes: &[String],
                     options: &Value| {
            json!({ "name": name, "split": split, "classes": classes, "options": options, "sources": sources })
        };
        let source = |name: &str, layout: &str, bytes: u64| json!({ "name": name, "layout": layout, "bytes": bytes });
        let then = manifest.sources.iter().map(|made| source(&made.name, &made.layout, made.bytes));
        let now = self.sources.iter().map(|now| source(&now.name, now.layout.name(), now.bytes));
        let Manifest { name, split, classes, options, .. } = manifest;
        let then = brief(then.collect(), name, split, classes, options);
        let now = brief(now.collect(), &self.name, &self.split, &self.classes, &self.options);
        let mut all = identity::differences(&then, &now);
        if !all.is_empty() {
            return Ok(all);
        }
        for (source, entry) in self.sources.iter().zip(&manifest.sources) {
            if !source.is_whole_archive(entry, tell)? {
                all.push(format!(
                    "source {}: an earlier version did not record what tells whether it changed",
                    source.name
                ));
            }
        }
        if !self.lists.as_object().is_none_or(|lists| lists.values().all(Value::is_null)) {
            all.push(
                "an earlier version did not record what tells whether the lists changed".into(),
            );
        }
        Ok(all)
    }
}

impl PlannedSource {
    /// Whether this is an archive whose content is that of an entry. Reads it.
    fn is_whole_archive(&self, entry: &SourceEntry, tell: &dyn Fn(Event)) -> Result<bool> {
        let is_file = match self.origin.path() {
            Some(path) => path.is_file(),
            None => self.origin.folder().is_none(),
        };
        match &entry.sha256 {
            Some(sha256) if is_file && self.layout != LayoutKind::Parquet => {
                tell(Event::Compared { source: &self.source });
                let mut content = atomic::Hashing::new(self.origin.packed().open()?);
                let read = std::io::copy(&mut content, &mut std::io::sink());
                self.origin.told(read.map_err(Error::io("read", self.origin.name())))?;
                Ok(content.finish().1 == *sha256)
            }
            _ => Ok(false),
        }
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

/// What is said of a source whose path is not UTF-8: how it is recorded.
fn not_utf8(source: &Source) -> Option<String> {
    let path = source.local().filter(|path| path.to_str().is_none())?;
    let written = layout::escaped(path.as_os_str().as_encoded_bytes());
    Some(format!("the path is not UTF-8; its bytes are written as \\xE9 and so on, {written}"))
}

/// The last part of a path.
fn source_name(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    full.file_name().map_or_else(|| "root".into(), |name| layout::escaped(name.as_encoded_bytes()))
}

/// The last part of a source's path or address.
fn name_of(source: &Source) -> String {
    match source.local() {
        Some(path) => source_name(path),
        None => source.name(),
    }
}

/// Names of sources, those that are called alike numbered: `data`, `data-2`.
fn source_names(sources: &[Source]) -> Vec<String> {
    let mut names = Vec::new();
    for source in sources {
        let name = name_of(source);
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
