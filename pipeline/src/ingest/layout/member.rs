//! One file of a source, wherever its bytes are, and how files are visited.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

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

/// An archive that cannot be read on.
pub(super) fn broken(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| {
        let message = format!("is no tar archive or a damaged one ({error}); download it again");
        Error::source(&path, message)
    }
}
