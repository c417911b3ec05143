//! A source of named files: a tar archive, gzipped or not, or a folder on disk. An archive and its
//! unpacked folder give the same names, and so does an archive within either: where it is entered,
//! `x.tar` is the folder `x`. Files come in the archive's order, in a folder in that of their names;
//! the order is a function of the source alone. Memory holds the names of one folder at a time.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::archive::{self, broken};
use super::names;
use crate::{Error, Place, Result};

/// Deepest nesting of folders that is entered.
const DEPTH: usize = 64;

/// Tells by its name whether an archive within the source is entered; else it is a file like others.
pub(super) type Enter = fn(&str) -> bool;

/// Enters no archive.
pub(super) const NONE: Enter = |_| false;

/// Looks at one file after another; false ends the visit.
pub(super) type Visit<'a> = dyn FnMut(Member) -> Result<bool> + 'a;

/// A source that is there.
pub(super) struct Files {
    path: PathBuf,
    /// Length of the archive; none for a folder.
    length: Option<u64>,
}

impl Files {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let is_local = |text: &str| text.parse::<Place>().is_ok_and(|place| place.is_local());
        if path.to_str().is_some_and(|text| !is_local(text)) {
            let message = "sources are archives and folders of this machine; download it first";
            return Err(Error::source(path, message));
        }
        let meta = fs::metadata(path).map_err(Error::io("open", path))?;
        if !meta.is_dir() && !meta.is_file() {
            let message = "is neither a file nor a folder; an archive is gone through twice, so \
                           that it cannot come through a pipe: save it first";
            return Err(Error::source(path, message));
        }
        Ok(Self { path: path.to_owned(), length: (!meta.is_dir()).then_some(meta.len()) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the archive; none for a folder.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// `tar` or `folder`.
    pub(super) fn noun(&self) -> &'static str {
        if self.length.is_some() { "tar" } else { "folder" }
    }

    /// Visits all files, hidden ones too; contents that are not asked for are not read where the
    /// archive allows to seek.
    pub(super) fn scan(&self, enter: Enter, visit: &mut Visit) -> Result<()> {
        match self.length {
            Some(_) => archive::scan(&self.path, "", enter, visit)?,
            None => folder(&self.path, "", DEPTH, archive::scan, enter, visit)?,
        };
        Ok(())
    }

    /// Visits all files and reads an archive to its very end; gives its SHA-256, and none for a
    /// folder and where the visit was ended.
    pub(super) fn read(&self, enter: Enter, visit: &mut Visit) -> Result<Option<String>> {
        match self.length {
            Some(_) => archive::digest(&self.path, enter, visit),
            None => {
                folder(&self.path, "", DEPTH, archive::read, enter, visit)?;
                Ok(None)
            }
        }
    }
}

/// How an archive on disk is gone through: path, name of the folder that it stands for, …
type Pass = fn(&Path, &str, Enter, &mut Visit) -> Result<bool>;

/// Visits a folder; linked folders are not entered. False where the visit was ended.
fn folder(
    at: &Path,
    below: &str,
    depth: usize,
    pass: Pass,
    enter: Enter,
    visit: &mut Visit,
) -> Result<bool> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(at).map_err(Error::io("read folder", at))? {
        let entry = entry.map_err(Error::io("read folder", at))?;
        let kind = entry.file_type().map_err(Error::io("read folder", at))?;
        entries.push((entry.file_name(), kind));
    }
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in entries {
        let path = at.join(&name);
        let name = names::join(below, &name.to_string_lossy());
        let is_file = kind.is_file() || kind.is_symlink() && !path.is_dir();
        let go_on = match names::tar_stem(&name) {
            _ if kind.is_dir() && depth == 0 => {
                return Err(Error::source(&path, format!("lies deeper than {DEPTH} folders")));
            }
            _ if kind.is_dir() => folder(&path, &name, depth - 1, pass, enter, visit)?,
            Some(stem) if is_file && enter(&name) => pass(&path, stem, enter, visit)?,
            _ if is_file => visit(Member { name: &name, body: Body::Disk(&path) })?,
            _ => true,
        };
        if !go_on {
            return Ok(false);
        }
    }
    Ok(true)
}

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
    /// At the place that the reading of an archive has come to.
    Entry { archive: &'a Path, size: u64, read: &'a mut dyn Read },
    /// Under another name of the archive.
    Link(String),
}

impl Member<'_> {
    /// Length in bytes; 0 where it cannot be told.
    pub(super) fn size(&self) -> u64 {
        match &self.body {
            Body::Disk(path) => fs::metadata(path).map_or(0, |meta| meta.len()),
            Body::Entry { size, .. } => *size,
            Body::Link(_) => 0,
        }
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
            Body::Link(target) => Ok(Err(format!(
                "a link to {target}; pack the archive with `tar --dereference --hard-dereference`"
            ))),
        }
    }
}
