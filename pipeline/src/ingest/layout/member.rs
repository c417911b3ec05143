//! One file of a source, wherever its bytes are, and how files are visited.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use storage::FarFile;

use super::names;
use crate::{Error, Result};

/// Tells by its name whether an archive within the source is entered; else it is a file like others.
pub(super) type Enter = fn(&str) -> bool;

/// Enters no archive.
pub(super) const NONE: Enter = |_| false;

/// Looks at one file after another; false ends the visit.
pub(super) type Visit<'a> = dyn FnMut(Member) -> Result<bool> + 'a;

/// One file of a source.
pub(super) struct Member<'a> {
    /// Path below the source.
    pub(super) name: &'a str,
    pub(super) body: Body<'a>,
}

/// Where the bytes of a file are.
pub(super) enum Body<'a> {
    /// On disk.
    Disk(&'a Path),
    /// An object of its own.
    Far(&'a FarFile),
    /// At the place that the reading of an archive has come to.
    Entry { archive: &'a Path, size: u64, read: &'a mut dyn Read },
    /// An entry of a zip, whose bytes are read where they are asked for.
    Zipped { size: u64, read: &'a mut dyn FnMut() -> Result<Result<Vec<u8>, String>> },
    /// Under another name of the archive.
    Link(String),
    /// A folder; archives need not name theirs.
    Folder,
    /// Something that is there and cannot be read, with the reason.
    Skipped(String),
}

/// What is remarkable about the names of a source, each kind with how often it was met and the first.
#[derive(Default)]
pub(super) struct Notes(RefCell<BTreeMap<&'static str, (u64, String)>>);

impl Notes {
    pub(super) fn add(&self, what: &'static str, first: &str) {
        let mut notes = self.0.borrow_mut();
        notes.entry(what).or_insert_with(|| (0, first.to_owned())).0 += 1;
    }

    /// A name of an archive as text. Of one without `/`, backslashes are separators, as programs for
    /// Windows write them, but for names such as `caf\xE9.png`, in which they stand for bytes; bytes that are not
    /// UTF-8 are escaped, so that names stay different.
    pub(super) fn name(&self, raw: &[u8]) -> String {
        let text = std::str::from_utf8(raw);
        if let Ok(text) = text
            && text.contains('\\')
            && !text.contains('/')
            && !names::is_escaped(text)
        {
            let name = names::clean(&names::escaped(text.replace('\\', "/").as_bytes()));
            self.add("names have `\\` for `/`, and are read so", &name);
            return name;
        }
        let name = names::clean(&names::escaped(raw));
        if text.is_err() {
            self.add("names are not UTF-8; their bytes are written as \\xE9 and so on", &name);
        }
        name
    }

    /// One part of a name on disk as text.
    pub(super) fn part(&self, raw: &[u8]) -> String {
        let name = names::escaped(raw);
        if std::str::from_utf8(raw).is_err() {
            self.add("names are not UTF-8; their bytes are written as \\xE9 and so on", &name);
        }
        name
    }

    /// The notes as text.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines_beyond(&Self::default())
    }

    /// Those of kinds that the others have none of.
    pub(super) fn lines_beyond(&self, others: &Self) -> Vec<String> {
        let others = others.0.borrow();
        let notes = self.0.borrow();
        let new = notes.iter().filter(|(what, _)| !others.contains_key(*what));
        new.map(|(what, (count, first))| format!("{count} {what}, the first {first}")).collect()
    }
}

impl Member<'_> {
    /// Length in bytes; 0 where it cannot be told.
    pub(super) fn size(&self) -> u64 {
        match &self.body {
            Body::Disk(path) => fs::metadata(path).map_or(0, |meta| meta.len()),
            Body::Far(file) => file.length(),
            Body::Entry { size, .. } | Body::Zipped { size, .. } => *size,
            Body::Link(_) | Body::Folder | Body::Skipped(_) => 0,
        }
    }

    /// True for what is there and cannot be read.
    pub(super) fn is_skipped(&self) -> bool {
        matches!(self.body, Body::Skipped(_))
    }

    /// Why what is there cannot be read.
    pub(super) fn unreadable(&self) -> Option<&str> {
        match &self.body {
            Body::Skipped(reason) => Some(reason),
            _ => None,
        }
    }

    /// True for what may stand for a folder and cannot be entered: a link that leads nowhere, one of an
    /// archive, a folder without permission.
    pub(super) fn may_be_folder(&self) -> bool {
        let is_closed = matches!(self.body, Body::Skipped(_) | Body::Link(_));
        is_closed && !names::file_name(self.name).contains('.')
    }

    /// The bytes. An inner error says why this file cannot be had, the outer one that the archive
    /// cannot be read on.
    pub(super) fn content(self, max_bytes: u64) -> Result<Result<Vec<u8>, String>> {
        let too_long = |size: u64| Ok(Err(format!("too many bytes: {size}, at most {max_bytes}")));
        match self.body {
            Body::Disk(path) => {
                let unreadable = |error: std::io::Error| format!("unreadable: {error}");
                let open = || {
                    let file = fs::File::open(path)?;
                    let size = file.metadata()?.len();
                    Ok((file, size))
                };
                match open().map_err(unreadable) {
                    Ok((_, size)) if size > max_bytes => too_long(size),
                    Ok((file, size)) => {
                        let mut bytes = Vec::with_capacity(size as usize);
                        let read = file.take(max_bytes).read_to_end(&mut bytes);
                        Ok(read.map(|_| bytes).map_err(unreadable))
                    }
                    Err(error) => Ok(Err(error)),
                }
            }
            Body::Entry { size, .. } if size > max_bytes => too_long(size),
            Body::Entry { archive, size, read } => {
                let mut bytes = Vec::with_capacity(size as usize);
                read.read_to_end(&mut bytes).map_err(broken(archive))?;
                if bytes.len() as u64 != size {
                    let message = format!("ends within {}; download it again", self.name);
                    return Err(Error::source(archive, message));
                }
                Ok(Ok(bytes))
            }
            Body::Zipped { size, .. } if size > max_bytes => too_long(size),
            Body::Zipped { read, .. } => read(),
            Body::Far(file) if file.length() > max_bytes => too_long(file.length()),
            // Where the store does not answer, that says nothing of the file.
            Body::Far(file) => {
                Ok(Ok(file.read_all(max_bytes).map_err(broken(Path::new(file.name())))?))
            }
            Body::Skipped(reason) => Ok(Err(reason)),
            Body::Folder => Ok(Err("passed over: a folder".into())),
            Body::Link(target) => Ok(Err(format!(
                "a link to {target}; pack the archive with `tar --dereference --hard-dereference`"
            ))),
        }
    }
}

/// An archive that cannot be read on.
pub(super) fn broken(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| {
        let message = format!("cannot be read on ({error}); copy it again");
        Error::source(&path, message)
    }
}
