//! WebDataset: tar archives in which consecutive members that share their name up to the first dot of
//! the file's name are one sample, `000001.jpg` and `000001.cls`; also a folder of such archives, read
//! in the order of their names, and their unpacked folders. `.cls` is the label in decimal digits. The
//! key is the shared name with its folder; a shard in a folder is such a folder.

use std::collections::{BTreeSet, HashSet};

use super::classes::{self, Classes};
use super::files::Files;
use super::member::{Enter, Member};
use super::names;
use super::others::Others;
use super::{Ended, Item, Layout, Sink, SourceMetadata, SourceOptions, splits};
use crate::{Error, Result};

/// Longest label that is read.
const MAX_LABEL: u64 = 64;

/// Shards are entered where they lie in a folder.
const SHARDS: Enter = |name| names::tar_stem(name).is_some() && !names::is_hidden(name);

pub(super) struct WebDataset {
    files: Files,
    classes: Classes,
    metadata: SourceMetadata,
    max_bytes: u64,
}

/// What a member is to its sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Image,
    Label,
    Other,
}

/// The key of a member's sample and what it is to it.
fn split(name: &str) -> (&str, Role) {
    let file = names::file_name(name);
    let (stem, ending) = file.split_once('.').unwrap_or((file, ""));
    let role = match ending {
        _ if names::is_hidden(name) => Role::Other,
        ending if ending.eq_ignore_ascii_case("cls") => Role::Label,
        ending if crate::names::is_ending(ending) => Role::Image,
        _ => Role::Other,
    };
    (&name[..name.len() - file.len() + stem.len()], role)
}

/// True where names of a listing make up samples: an image with a label, or with notes beside it.
pub(super) fn are_names<'a>(names: impl Iterator<Item = &'a str> + Clone) -> bool {
    let of = |role| names.clone().map(split).filter(move |(_, of)| *of == role).map(|(key, _)| key);
    let labels: HashSet<&str> = of(Role::Label).collect();
    if of(Role::Image).any(|key| labels.contains(key)) {
        return true;
    }
    names.clone().zip(names.skip(1)).any(|(a, b)| {
        let ((key, one), (same, other)) = (split(a), split(b));
        let notes = |role, name: &str| role == Role::Other && names::has_ending(name, &["json"]);
        let image = |role| role == Role::Image;
        key == same && (image(one) && notes(other, b) || image(other) && notes(one, a))
    })
}

/// Bytes of a file, or why they cannot be had.
type Content = Result<Vec<u8>, String>;

/// Members of one sample, as far as they were read.
struct Sample {
    key: String,
    /// Name and content of the image; no content where the sample is passed over.
    image: Option<(String, Option<Content>)>,
    label: Option<Result<Option<usize>, String>>,
    /// Images of other endings, and what cannot be read.
    others: Vec<Item>,
}

impl Sample {
    fn new(key: &str) -> Self {
        Self { key: key.to_owned(), image: None, label: None, others: Vec::new() }
    }

    /// Takes a member in; of an image the content, up to `want` bytes, where it is wanted.
    fn take(&mut self, source: &Files, member: Member, want: Option<u64>) -> Result<()> {
        if member.is_skipped() {
            self.others.push(Item::passed_over(member)?);
            return Ok(());
        }
        match split(member.name).1 {
            Role::Image if self.image.is_some() => {
                let message = format!(
                    "sample {} has a second image, {}; pack them as samples of their own",
                    self.key,
                    names::file_name(member.name)
                );
                return Err(Error::source(source.path(), message));
            }
            Role::Image => {
                let file = names::file_name(member.name).to_owned();
                let content = want.map(|max_bytes| member.content(max_bytes)).transpose()?;
                self.image = Some((file, content));
            }
            Role::Label => {
                let label = label(member)?;
                let label = match self.label.take() {
                    Some(Ok(before)) if label.as_ref().is_ok_and(|label| *label != before) => {
                        Err("has two labels (.cls) that differ".into())
                    }
                    Some(Err(before)) => Err(before),
                    _ => label,
                };
                self.label = Some(label);
            }
            Role::Other => self.others.push(Item::passed_over(member)?),
        }
        Ok(())
    }

    /// The items: of the image, then of what is passed over.
    fn items(mut self) -> impl Iterator<Item = Item> {
        let others = std::mem::take(&mut self.others);
        let is_sample = self.image.is_some() || self.label.is_some();
        is_sample.then(|| self.item()).into_iter().chain(others)
    }

    fn item(self) -> Item {
        let missing = || Err("has a label, but no image before or behind it".into());
        let (path, content) = match self.image {
            Some((path, content)) => (path, content.unwrap_or_else(missing)),
            None => (names::file_name(&self.key).to_owned(), missing()),
        };
        match self.label.transpose() {
            Ok(class) => Item { key: self.key, path, class: class.flatten(), content },
            Err(error) => Item { key: self.key, path, class: None, content: Err(error) },
        }
    }
}

/// The label that a `.cls` holds; a negative one is none, as in parquet.
fn label(member: Member) -> Result<Result<Option<usize>, String>> {
    let parse = |text: Vec<u8>| {
        let text = String::from_utf8_lossy(&text).into_owned();
        let number = text.trim_start_matches('\u{feff}').trim().parse::<i64>();
        let wrong = |_| format!("its .cls is {text:?}, no label such as 281");
        number.map(|number| usize::try_from(number).ok()).map_err(wrong)
    };
    Ok(member.content(MAX_LABEL)?.and_then(parse))
}

/// Labels that have no image beside them.
#[derive(Default)]
struct Alone {
    labels: BTreeSet<String>,
    /// The sample that is gone through, and whether it has a label and an image.
    run: (String, bool, bool),
}

impl Alone {
    fn add(&mut self, key: &str, role: Role) {
        if role == Role::Other {
            return;
        }
        if self.run.0 != key {
            self.end();
            self.run = (key.to_owned(), false, false);
        }
        self.run.1 |= role == Role::Label;
        self.run.2 |= role == Role::Image;
    }

    /// The sample that was gone through ends.
    fn end(&mut self) {
        if let (key, true, false) = std::mem::take(&mut self.run) {
            self.labels.insert(key);
        }
    }

    /// A label whose image is elsewhere, or any where none has an image beside it, `labels` in all.
    fn apart(self, files: &Files, labels: u64) -> Result<Option<String>> {
        let mut found = None;
        if self.labels.is_empty() {
            return Ok(found);
        }
        files.scan(SHARDS, &mut |member| {
            let (key, role) = split(member.name);
            let is_its = role == Role::Image && !member.is_skipped() && self.labels.contains(key);
            found = is_its.then(|| key.to_owned());
            Ok(found.is_none())
        })?;
        let none_beside = labels > 1 && self.labels.len() as u64 == labels;
        Ok(found.or_else(|| self.labels.into_iter().next().filter(|_| none_beside)))
    }
}

/// True for members that are no part of a sample but have to be listed: images of endings that are not
/// read, and what cannot be read.
fn is_listed(member: &Member) -> bool {
    let plain = names::file_name(member.name).matches('.').count() == 1;
    member.is_skipped() && !names::is_hidden(member.name) || plain && names::is_image(member.name)
}

impl WebDataset {
    pub(super) fn open(files: Files, options: &SourceOptions) -> Result<Self> {
        let (mut images, mut labels, mut bytes) = (0_u64, 0_u64, 0);
        let mut largest = None;
        let mut alone = Alone::default();
        let mut others = Others::default();
        let mut archives = BTreeSet::new();
        files.scan(SHARDS, &mut |member| {
            let name = member.name;
            let (key, role) = split(name);
            if !member.is_skipped() {
                alone.add(key, role);
            }
            bytes += member.size();
            match role {
                _ if member.is_skipped() => others.add(&member),
                Role::Image => {
                    images += 1;
                    let archive = names::parent(name);
                    if !archives.contains(archive) {
                        archives.insert(archive.to_owned());
                    }
                }
                Role::Other => others.add(&member),
                Role::Label => {
                    labels += 1;
                    let label = label(member)?.ok().flatten();
                    if label.is_some_and(|label| largest.as_ref().is_none_or(|(l, _)| label > *l)) {
                        largest = label.map(|label| (label, name.to_owned()));
                    }
                }
            }
            Ok(true)
        })?;
        if images == 0 {
            return Err(Error::source(files.path(), format!("holds no images{others}")));
        }
        splits::check_archives(files.path(), &archives)?;
        let wrong = |message: String| Error::source(files.path(), message);
        alone.end();
        if let Some(apart) = alone.apart(&files, labels)? {
            return Err(wrong(format!(
                "has labels (.cls) that are not beside their images, such as {apart}; pack it in the \
                 order of names: tar --sort=name -cf NEW FOLDER"
            )));
        }
        if labels == 0 && options.classes.is_some() {
            return Err(classes::unlabelled(files.path()));
        }
        let count = largest.as_ref().map_or(0, |(label, _)| label.saturating_add(1));
        let classes = match &options.classes {
            Some(list) => Classes::of(list)?,
            None => Classes::numbers(count).map_err(wrong)?,
        };
        if let Some((label, name)) = largest.filter(|_| count > classes.names().len()) {
            let last = classes.names().len() - 1;
            return Err(wrong(format!(
                "{name} is {label}, the list of classes ends with {last}; give the right --classes"
            )));
        }
        let noun = files.noun();
        let found = format!("a WebDataset {noun} of {images} images with {labels} labels{others}");
        let bytes = files.length().unwrap_or(bytes);
        let metadata =
            SourceMetadata { bytes, found, split: "train", published: None, official: false };
        Ok(Self { files, classes, metadata, max_bytes: options.max_bytes })
    }
}

impl Layout for WebDataset {
    fn classes(&self) -> &[String] {
        self.classes.names()
    }

    fn metadata(&self) -> &SourceMetadata {
        &self.metadata
    }

    fn notes(&self) -> Vec<String> {
        self.files.notes()
    }

    fn read(self: Box<Self>, from: u64, sink: &mut Sink) -> Result<Ended> {
        let mut number = 0;
        let mut go_on = true;
        let mut hand_over = |sample: Sample, number: &mut u64| {
            sample.items().all(|item| {
                *number += 1;
                *number <= from || sink(item)
            })
        };
        let mut open: Option<Sample> = None;
        let sha256 = self.files.read(SHARDS, &mut |member| {
            let (key, role) = split(member.name);
            if role == Role::Other && !is_listed(&member) {
                return Ok(true);
            }
            if let Some(sample) = open.take_if(|sample| sample.key != key) {
                go_on = hand_over(sample, &mut number);
            }
            if go_on {
                let sample = open.get_or_insert_with(|| Sample::new(key));
                sample.take(&self.files, member, (number >= from).then_some(self.max_bytes))?;
            }
            Ok(go_on)
        })?;
        if let Some(sample) = open.filter(|_| go_on) {
            hand_over(sample, &mut number);
        }
        Ok(Ended { bytes: self.metadata.bytes, sha256, notes: self.files.later_notes() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_split_at_the_first_dot_of_the_file() {
        assert_eq!(split("a.b/000001.jpg"), ("a.b/000001", Role::Image));
        assert_eq!(split("000001.JPEG"), ("000001", Role::Image));
        assert_eq!(split("x/7.CLS"), ("x/7", Role::Label));
        assert_eq!(split("x/7.cls"), ("x/7", Role::Label));
        assert_eq!(split("7.seg.png"), ("7", Role::Other));
        assert_eq!(split("._7.png").1, Role::Other);
        assert_eq!(split("README"), ("README", Role::Other));
    }

    #[test]
    fn samples_are_recognized_by_what_lies_beside_images() {
        let are = |names: &[&str]| are_names(names.iter().copied());
        assert!(are(&["0.jpg", "0.cls"]) && are(&["0.cls", "0.jpg"]) && are(&["0.jpg", "0.json"]));
        assert!(are(&["0.jpg", "1.jpg", "0.CLS", "1.CLS"]));
        assert!(!are(&["0.jpg", "1.cls"]) && !are(&["0.jpg", "manifest.json"]) && !are(&["0.jpg"]));
    }
}
