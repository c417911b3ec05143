//! Tar archives as streams, gzipped or not: their members, the archives within them, the digest of
//! the whole. An archive that lacks its end mark was cut off, and is an error wherever it was cut.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use storage::atomic;

use super::member::{Body, Enter, Member, Visit, broken};
use super::names;
use crate::{Error, Result};

/// Buffer of a reading from front to end, and of one that seeks.
const BUFFER: usize = 1 << 18;
const SMALL_BUFFER: usize = 4096;
/// Archives within archives that are entered.
const DEPTH: usize = 4;

/// Visits the members of an archive, seeking over contents where it is not compressed. Names begin
/// with `below`. False where the visit was ended.
pub(super) fn scan(path: &Path, below: &str, enter: Enter, visit: &mut Visit) -> Result<bool> {
    let (file, gzip) = open(path)?;
    if gzip {
        return read(path, below, enter, visit);
    }
    let mut archive = tar::Archive::new(Marked::new(BufReader::with_capacity(SMALL_BUFFER, file)));
    let entries = archive.entries_with_seek().map_err(broken(path))?;
    let whole = members(path, below, DEPTH, entries, enter, visit)?;
    archive.into_inner().check(path, whole)?;
    Ok(whole)
}

/// Visits the members of an archive from front to end; else as [`scan`].
pub(super) fn read(path: &Path, below: &str, enter: Enter, visit: &mut Visit) -> Result<bool> {
    let (file, gzip) = open(path)?;
    let raw = BufReader::with_capacity(BUFFER, file);
    Ok(stream(path, below, raw, gzip, enter, visit)?.is_some())
}

/// Visits the members of an archive and gives the SHA-256 of the whole file; none where the visit
/// was ended.
pub(super) fn digest(path: &Path, enter: Enter, visit: &mut Visit) -> Result<Option<String>> {
    let (file, gzip) = open(path)?;
    let raw = atomic::Hashing::new(BufReader::with_capacity(BUFFER, file));
    let Some(mut rest) = stream(path, "", raw, gzip, enter, visit)? else { return Ok(None) };
    io::copy(&mut rest, &mut io::sink()).map_err(Error::io("read", path))?;
    let (_, sha256, _) = rest.finish();
    Ok(Some(sha256))
}

/// Opens an archive and tells whether it is gzipped.
fn open(path: &Path) -> Result<(File, bool)> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut magic = Vec::new();
    (&mut file).take(2).read_to_end(&mut magic).map_err(Error::io("read", path))?;
    file.seek(SeekFrom::Start(0)).map_err(Error::io("read", path))?;
    Ok((file, magic == [0x1f, 0x8b]))
}

/// Goes through an archive and gives its reader back; none where the visit was ended.
fn stream<R: Read>(
    path: &Path,
    below: &str,
    raw: R,
    gzip: bool,
    enter: Enter,
    visit: &mut Visit,
) -> Result<Option<R>> {
    if !gzip {
        return plain(path, below, DEPTH, raw, enter, visit);
    }
    match plain(path, below, DEPTH, MultiGzDecoder::new(raw), enter, visit)? {
        Some(mut rest) => {
            io::copy(&mut rest, &mut io::sink()).map_err(broken(path))?;
            Ok(Some(rest.into_inner()))
        }
        None => Ok(None),
    }
}

/// Goes through an archive that is not compressed, or no more.
fn plain<R: Read>(
    path: &Path,
    below: &str,
    depth: usize,
    reader: R,
    enter: Enter,
    visit: &mut Visit,
) -> Result<Option<R>> {
    let mut archive = tar::Archive::new(Marked::new(reader));
    let entries = archive.entries().map_err(broken(path))?;
    let whole = members(path, below, depth, entries, enter, visit)?;
    let reader = archive.into_inner().check(path, whole)?;
    Ok(whole.then_some(reader))
}

fn members<R: Read>(
    path: &Path,
    below: &str,
    depth: usize,
    entries: tar::Entries<'_, R>,
    enter: Enter,
    visit: &mut Visit,
) -> Result<bool> {
    for entry in entries {
        let mut entry = entry.map_err(broken(path))?;
        let name = names::clean(&String::from_utf8_lossy(&entry.path_bytes()));
        let name = names::join(below, &name);
        let kind = entry.header().entry_type();
        let go_on = if kind.is_hard_link() || kind.is_symlink() {
            let target = entry.link_name_bytes().unwrap_or_default();
            let target = String::from_utf8_lossy(&target).into_owned();
            visit(Member { name: &name, body: Body::Link(target) })?
        } else if !(kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse()) {
            true
        } else if let Some(stem) = names::tar_stem(&name).filter(|_| depth > 0 && enter(&name)) {
            // An inner archive that is gzipped is none of any layout; it fails as no tar.
            let inner: &mut dyn Read = &mut entry;
            plain(path, stem, depth - 1, inner, enter, visit)?.is_some()
        } else {
            let size = entry.size();
            let body = Body::Entry { archive: path, size, read: &mut entry };
            visit(Member { name: &name, body })?
        };
        if !go_on {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A reader that remembers whether its end was met: a whole archive ends in a block of zeros, behind
/// which nothing is read.
struct Marked<R> {
    inner: R,
    ended: bool,
}

impl<R> Marked<R> {
    fn new(inner: R) -> Self {
        Self { inner, ended: false }
    }

    /// The reader again, of an archive that was gone through to its end or not.
    fn check(self, path: &Path, whole: bool) -> Result<R> {
        if whole && self.ended {
            let message = "is no tar archive or ends early; download it again";
            return Err(Error::source(path, message));
        }
        Ok(self.inner)
    }
}

impl<R: Read> Read for Marked<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.ended |= count == 0 && !bytes.is_empty();
        Ok(count)
    }
}

impl<R: Seek> Seek for Marked<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
