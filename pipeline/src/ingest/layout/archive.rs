//! Archives as streams: tars, gzipped or packed by zstd or not, and zips; their members, the archives
//! within them, the digest of the whole. An archive that lacks its end mark was cut off, and is an
//! error wherever it was cut. What is something else is named by what it is.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use storage::atomic;

use super::formats::{self, HEAD};
use super::gzip::Gzip;
use super::member::{Body, Enter, Member, Notes, Visit};
use super::tape::{self, Fault, Forward, Kind, Seeking, Skip, Tape};
use super::zst::{self, Zst};
use super::{names, pkzip};
use crate::ingest::origin::Packed;
use crate::{Error, Result};

/// Buffer of a reading from front to end, and of one that seeks.
const BUFFER: usize = 1 << 18;
const SMALL_BUFFER: usize = 4096;
/// Archives within archives that are entered.
const DEPTH: usize = 4;

const GZIP: &[u8] = b"\x1f\x8b";

/// Visits the members of an archive, seeking over contents where it is not compressed. Names begin
/// with `below`. False where the visit was ended.
pub(super) fn scan(
    file: &Packed,
    below: &str,
    enter: Enter,
    notes: &Notes,
    visit: &mut Visit,
) -> Result<bool> {
    let head = head(file)?;
    if pkzip::is_zip(&head) {
        return pkzip::visit(file, below, enter, notes, visit);
    }
    if !tape::checksum(&head) {
        return read(file, below, enter, notes, visit);
    }
    let at = Place { path: file.name(), inner: None };
    let reader = BufReader::with_capacity(SMALL_BUFFER, file.open()?);
    members(&at, below, DEPTH, Tape::new(Seeking(reader)), enter, notes, visit)
}

/// Visits the members of an archive from front to end; else as [`scan`].
pub(super) fn read(
    file: &Packed,
    below: &str,
    enter: Enter,
    notes: &Notes,
    visit: &mut Visit,
) -> Result<bool> {
    if pkzip::is_zip(&head(file)?) {
        return pkzip::visit(file, below, enter, notes, visit);
    }
    let mut raw = BufReader::with_capacity(BUFFER, file.open()?);
    stream(&Place { path: file.name(), inner: None }, below, DEPTH, &mut raw, enter, notes, visit)
}

/// Visits the members of an archive and gives the SHA-256 of the whole file; none where the visit
/// was ended, and none for a zip, which is not read from front to end.
pub(super) fn digest(
    file: &Packed,
    enter: Enter,
    notes: &Notes,
    visit: &mut Visit,
) -> Result<Option<String>> {
    if pkzip::is_zip(&head(file)?) {
        pkzip::visit(file, "", enter, notes, visit)?;
        return Ok(None);
    }
    let mut raw = atomic::Hashing::new(file.open()?);
    let mut reader = BufReader::with_capacity(BUFFER, &mut raw);
    let at = Place { path: file.name(), inner: None };
    if !stream(&at, "", DEPTH, &mut reader, enter, notes, visit)? {
        return Ok(None);
    }
    io::copy(&mut reader, &mut io::sink()).map_err(Error::io("read", file.name()))?;
    Ok(Some(raw.finish().1))
}

/// True for zips.
pub(super) fn is_zip(file: &Packed) -> Result<bool> {
    Ok(pkzip::is_zip(&head(file)?))
}

/// The first bytes of a file.
fn head(file: &Packed) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut start = file.open()?.take(HEAD as u64);
    start.read_to_end(&mut head).map_err(Error::io("read", file.name()))?;
    Ok(head)
}

/// The archive that messages are about.
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    /// Its name within the file at `path`, where it is not that file itself.
    pub(super) inner: Option<&'a str>,
}

impl Place<'_> {
    fn error(&self, message: impl std::fmt::Display) -> Error {
        let of_inner = self.inner.map(|name| format!("its {name} ")).unwrap_or_default();
        Error::source(self.path, format!("{of_inner}{message}"))
    }

    fn fault(&self, fault: Fault, head: &[u8]) -> Error {
        match fault {
            Fault::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.error(format!("is damaged ({error})"))
            }
            Fault::Io(error) if error.kind() == io::ErrorKind::Unsupported => self.error(error),
            Fault::Io(error) => self.error(format!("cannot be read ({error})")),
            Fault::Early => self.error(
                "ends early: it lacks its end mark; download it again, or pack it again (the first of \
                 several volumes of `tar -M` ends so: unpack them with tar, and name the folder)",
            ),
            Fault::Damaged(what) => self.error(format!(
                "is a damaged tar archive ({what}); download it again, or pack it again"
            )),
            Fault::NoTar if head.get(257..262) == Some(b"ustar") => self.error(
                "is a damaged tar archive (the checksum of its first header is wrong); download it again, \
                 or pack it again",
            ),
            Fault::NoTar => {
                let name = self.inner.map_or(self.path, Path::new);
                let found = formats::of(head, name);
                let (is, remedy) = (found.name, found.remedy);
                self.error(format!("is no tar archive but {is}, which is not read here; {remedy}"))
            }
            Fault::Unread(message) => self.error(message),
        }
    }
}

/// Goes through an archive, packed or not. False where the visit was ended.
pub(super) fn stream(
    at: &Place,
    below: &str,
    depth: usize,
    raw: &mut dyn BufRead,
    enter: Enter,
    notes: &Notes,
    visit: &mut Visit,
) -> Result<bool> {
    let (head, raw) = peek(raw).map_err(|error| at.fault(error.into(), &[]))?;
    let early = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Fault::Early,
        _ => Fault::Io(error),
    };
    let unpacked: Box<dyn Read + '_> = if head.starts_with(GZIP) {
        Box::new(Gzip::new(raw))
    } else if zst::is_zstd(&head) {
        Box::new(Zst::new(raw).map_err(|error| at.fault(early(error), &head))?)
    } else if tape::checksum(&head) {
        return members(at, below, depth, Tape::new(Forward(raw)), enter, notes, visit);
    } else {
        // A block of zeros is the end mark of an empty archive, or a lone one before it.
        let zeros = head.len() == HEAD && head.iter().all(|&byte| byte == 0);
        return match zeros {
            true => members(at, below, depth, Tape::new(Forward(raw)), enter, notes, visit),
            false => Err(at.fault(Fault::NoTar, &head)),
        };
    };
    let mut unpacked = BufReader::with_capacity(BUFFER, unpacked);
    let (head, raw) = peek(&mut unpacked).map_err(|error| at.fault(early(error), &[]))?;
    match tape::checksum(&head) {
        true => members(at, below, depth, Tape::new(Forward(raw)), enter, notes, visit),
        false => {
            let found = formats::of(&head, at.path);
            let (is, remedy) = (found.name, found.remedy);
            Err(at.error(format!("is compressed and holds no tar archive but {is}; {remedy}")))
        }
    }
}

/// A reader with bytes before it that were read already.
type Peeked<R> = io::Chain<io::Cursor<Vec<u8>>, R>;

/// The first bytes of a reader, and the reader with these before it.
fn peek<R: BufRead>(mut reader: R) -> io::Result<(Vec<u8>, Peeked<R>)> {
    let mut head = vec![0; HEAD];
    let count = tape::fill(&mut reader, &mut head)?;
    head.truncate(count);
    Ok((head.clone(), io::Cursor::new(head).chain(reader)))
}

/// Goes through the members of a tar. False where the visit was ended.
fn members<R: Skip>(
    at: &Place,
    below: &str,
    depth: usize,
    mut tape: Tape<R>,
    enter: Enter,
    notes: &Notes,
    visit: &mut Visit,
) -> Result<bool> {
    while let Some(head) = tape.next().map_err(|fault| at.fault(fault, &[]))? {
        let name = names::join(below, &notes.name(&head.name));
        let go_on = match &head.kind {
            Kind::Folder => visit(Member { name: &name, body: Body::Folder })?,
            Kind::Link(target) => {
                let body = Body::Link(names::escaped(target));
                visit(Member { name: &name, body })?
            }
            Kind::Other(what) => {
                let body = Body::Skipped(format!("passed over: {what}"));
                visit(Member { name: &name, body })?
            }
            Kind::File => {
                let inner = names::tar_stem(&name).filter(|_| depth > 0 && enter(&name));
                let mut content = tape.content(&head);
                match inner {
                    Some(stem) => {
                        let within = at.inner.map(|outer| format!("{outer}/{name}"));
                        let within = within.as_deref().unwrap_or(&name);
                        let at = Place { path: at.path, inner: Some(within) };
                        let mut content = BufReader::with_capacity(SMALL_BUFFER, content);
                        stream(&at, stem, depth - 1, &mut content, enter, notes, visit)?
                    }
                    None => {
                        let size = head.size;
                        let body = Body::Entry { archive: at.path, size, read: &mut content };
                        visit(Member { name: &name, body })?
                    }
                }
            }
        };
        if !go_on {
            return Ok(false);
        }
    }
    if tape.is_blank() {
        return Err(at.fault(Fault::NoTar, &[0; HEAD]));
    }
    if tape.archives() > 1 {
        let name = at.inner.map_or_else(|| at.path.display().to_string(), str::to_owned);
        notes.add("archives hold further ones behind their end mark, which are read too", &name);
    }
    Ok(true)
}
