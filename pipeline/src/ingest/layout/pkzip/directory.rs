//! What the end of a zip says of its directory, held against the directory itself (APPNOTE 4.3.12, 4.3.16).
//! A reader that believes the end alone passes over entries without a word: where a writer without zip64
//! counted beyond 65,535, and of two zips one behind the other.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::{Error, Result};

/// The end of the directory without its comment, and the longest comment.
const END: usize = 22;
const COMMENT: usize = 0xffff;
/// An entry of the directory without its name, extra field and comment.
const ENTRY: usize = 46;

/// An error where the directory has more entries than its end says, or another zip lies before it. What
/// cannot be made sense of here is left to the reader of the zip.
pub(super) fn check(path: &Path, zip: &mut (impl Read + Seek)) -> Result<()> {
    let unread = |error: io::Error| Error::source(path, format!("cannot be read: {error}"));
    match found(zip).map_err(unread)? {
        Found::Sound => Ok(()),
        Found::More { said, there } => Err(Error::source(
            path,
            format!(
                "says that it has {said} entries, and has {there} or more: its writer could not count \
                 them (no zip64); unpack it and ingest the folder"
            ),
        )),
        Found::Before(bytes) => Err(Error::source(
            path,
            format!(
                "has another zip of {bytes} bytes before it: they were joined one behind the other; split \
                 them, or unpack both and ingest the folder"
            ),
        )),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Sound,
    /// Entries behind the last one that is counted.
    More {
        said: u64,
        there: u64,
    },
    /// Bytes of a zip that the directory knows nothing of.
    Before(u64),
}

fn found(zip: &mut (impl Read + Seek)) -> io::Result<Found> {
    let length = zip.seek(SeekFrom::End(0))?;
    let tail_from = length.saturating_sub((END + COMMENT) as u64);
    zip.seek(SeekFrom::Start(tail_from))?;
    let mut tail = Vec::new();
    zip.take(length - tail_from).read_to_end(&mut tail)?;
    let is_end = |at: &usize| tail[*at..].starts_with(b"PK\x05\x06");
    let Some(at) = (0..tail.len().saturating_sub(END - 1)).rev().find(is_end) else {
        return Ok(Found::Sound);
    };
    let end = &tail[at..at + END];
    let (said, size, start) = (u64::from(short(end, 10)), word(end, 12), word(end, 16));
    if said == 0xffff || size == 0xffff_ffff || start == 0xffff_ffff {
        // Its numbers stand in a zip64 end, which has room for them.
        return Ok(Found::Sound);
    }
    let Some(first) = (tail_from + at as u64).checked_sub(size) else { return Ok(Found::Sound) };
    let before = first.saturating_sub(start);
    if before > 0 {
        let mut head = [0; 4];
        zip.seek(SeekFrom::Start(0))?;
        zip.read_exact(&mut head)?;
        // Other bytes before it are those of a program that unpacks it.
        if head == *b"PK\x03\x04" {
            return Ok(Found::Before(before));
        }
    }
    zip.seek(SeekFrom::Start(first))?;
    let mut directory = io::BufReader::new(zip.take(size));
    let mut there = 0;
    let mut entry = [0; ENTRY];
    while there <= said && directory.read_exact(&mut entry).is_ok() {
        if !entry.starts_with(b"PK\x01\x02") {
            return Ok(Found::Sound);
        }
        there += 1;
        let rest = [28, 30, 32].map(|at| u64::from(short(&entry, at))).iter().sum();
        io::copy(&mut (&mut directory).take(rest), &mut io::sink())?;
    }
    Ok(if there > said { Found::More { said, there } } else { Found::Sound })
}

fn short(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |two| u16::from_le_bytes([two[0], two[1]]))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from(short(bytes, at)) | u64::from(short(bytes, at + 2)) << 16
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn zip(entries: usize) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for number in 0..entries {
            writer.start_file(format!("a/{number}.png"), SimpleFileOptions::default()).unwrap();
            writer.write_all(b"image").unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn a_directory_that_has_more_than_its_end_says_is_found() {
        let of = |bytes: &[u8]| found(&mut Cursor::new(bytes)).unwrap();
        let mut whole = zip(12);
        assert_eq!(of(&whole), Found::Sound);
        let end = whole.len() - END;
        whole[end + 8] = 7;
        whole[end + 10] = 7;
        assert_eq!(of(&whole), Found::More { said: 7, there: 8 });
        let (one, two) = (zip(3), zip(4));
        assert_eq!(of(&[&one[..], &two].concat()), Found::Before(one.len() as u64));
        assert_eq!(of(&[b"#!/bin/sh\n", &two[..]].concat()), Found::Sound);
        for cut in [0, 10, END, two.len() / 2] {
            of(&two[..cut]);
        }
    }
}
