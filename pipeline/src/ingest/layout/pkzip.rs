//! Zip archives: the entries in the order of the central directory, which is gone through anew in each
//! pass, so that memory does not grow with it; zip64, stored and deflated entries.

mod directory;
mod overlap;

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use storage::atomic;
use zip::CompressionMethod;
use zip::read::ZipFileEntry;
use zip::unstable::read::ZipIterable;

use super::archive::{self, Place};
use super::member::{Body, Enter, Member, Notes, Visit};
use super::names;
use crate::ingest::origin::{Bytes, Packed};
use crate::{Error, Result};

const BUFFER: usize = 1 << 16;
/// Archives within archives that are entered.
const DEPTH: usize = 3;

/// True for the first bytes of a zip.
pub(super) fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// The SHA-256 of the directory, which has the name, length and CRC-32 of every entry: that of another zip
/// is another one. None where it cannot be read, and for other files.
pub(in crate::ingest) fn directory_digest(file: &Packed) -> Result<Option<String>> {
    if !archive::is_zip(file)? {
        return Ok(None);
    }
    let open = || Ok::<_, Error>(BufReader::with_capacity(BUFFER, file.open()?));
    let Ok(mut zip) = ZipIterable::try_new(open()?, Default::default()) else { return Ok(None) };
    let first = zip.files().ok().and_then(|entries| entries.into_iter().next());
    let Some(Ok(first)) = first else { return Ok(None) };
    let mut directory = open()?;
    let mut digest = atomic::Hashing::new(io::sink());
    let hashed = directory
        .seek(SeekFrom::Start(first.central_header_start()))
        .and_then(|_| io::copy(&mut directory, &mut digest));
    hashed.map_err(Error::io("read", file.name()))?;
    Ok(Some(digest.finish().1))
}

/// Visits the entries; false where the visit was ended.
pub(super) fn visit(
    file: &Packed,
    below: &str,
    enter: Enter,
    notes: &Notes,
    visit: &mut Visit,
) -> Result<bool> {
    let path = file.name();
    file.check_ranges("a zip")?;
    let damaged = |error: &dyn std::fmt::Display| {
        let message = format!(
            "is a damaged zip archive, or one that ends early or is in several parts ({error}); \
             download it again, all parts joined"
        );
        Error::source(path, message)
    };
    let open = || Ok::<_, Error>(BufReader::with_capacity(BUFFER, file.open()?));
    let mut zip = ZipIterable::try_new(Nearby(open()?), Default::default())
        .map_err(|error| damaged(&error))?;
    directory::check(path, &mut open()?)?;
    let overlap = overlap::find(|take| {
        for entry in zip.files().map_err(|error| damaged(&error))? {
            let entry = entry.map_err(|error| damaged(&error))?;
            take(overlap::range(entry.header_start(), entry.compressed_size()));
        }
        Ok(())
    });
    if let Some(at) = overlap? {
        return Err(overlap::error(path, at));
    }
    let mut bodies = open()?;
    for entry in zip.files().map_err(|error| damaged(&error))? {
        let entry = entry.map_err(|error| damaged(&error))?;
        let raw = entry.name_raw();
        let name = names::join(below, &notes.name(raw));
        let method = entry.compression();
        let go_on = if entry.is_dir() || raw.ends_with(b"\\") {
            visit(Member { name: &name, body: Body::Folder })?
        } else if entry.is_symlink() {
            visit(Member { name: &name, body: Body::Link("another entry".into()) })?
        } else if entry.encrypted() {
            let why = "encrypted: zips with a password are not read; unpack it (`7z x FILE`)";
            visit(Member { name: &name, body: Body::Skipped(why.into()) })?
        } else if !matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated) {
            let why = format!("compressed by {method}, which is not read; pack it by deflate");
            visit(Member { name: &name, body: Body::Skipped(why) })?
        } else if let Some(stem) = names::tar_stem(&name).filter(|_| enter(&name)) {
            let content = entry.with_reader(&mut bodies, Default::default());
            let mut content =
                BufReader::with_capacity(BUFFER, content.map_err(|error| damaged(&error))?);
            let at = Place { path, inner: Some(&name) };
            archive::stream(&at, stem, DEPTH, &mut content, enter, notes, visit)?
        } else {
            let size = entry.size();
            let mut entry = Some(entry);
            let mut read = || {
                let Some(entry) = entry.take() else { return Ok(Err("was read already".into())) };
                match content(entry, size, &mut bodies) {
                    // It is not the entry that is damaged.
                    Err(error) if file.has_failed() => Err(Error::source(path, error.to_string())),
                    content => Ok(content.map_err(|error| format!("damaged: {error}"))),
                }
            };
            visit(Member { name: &name, body: Body::Zipped { size, read: &mut read } })?
        };
        if !go_on {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A reader that keeps what it has read ahead where the next place is near: the directory is asked for entry by entry,
/// each from its own place.
struct Nearby<R>(BufReader<R>);

impl<R: Read> Read for Nearby<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl<R: Read + Seek> Seek for Nearby<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(to) = to else { return self.0.seek(to) };
        let at = self.0.stream_position()?;
        match (i64::try_from(to), i64::try_from(at)) {
            (Ok(near), Ok(at)) => self.0.seek_relative(near - at).map(|()| to),
            _ => self.0.seek(SeekFrom::Start(to)),
        }
    }
}

/// The bytes of an entry, at most as many as it says; its checksum is compared.
fn content(
    entry: ZipFileEntry,
    size: u64,
    bodies: &mut BufReader<Box<dyn Bytes>>,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut bytes = Vec::with_capacity(size as usize);
    let file = entry.with_reader(bodies, Default::default())?;
    file.take(size + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err(format!("it has not the {size} bytes that the zip says").into()),
    }
}
