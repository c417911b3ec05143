//! The container of torch ≥ 1.6: a zip archive with `<prefix>/data.pkl`, `<prefix>/byteorder` and
//! the storages `<prefix>/data/<key>`.
//!
//! Only what torch and the usual zip programs write is read: one part, nothing before or after the
//! archive, no encryption. The directory is small and is kept; a storage is read when it is asked
//! for. Written out here, and not left to a zip library, because those reserve memory for as many
//! entries as a file claims, and go on looking for other directories where the first is damaged.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::{LARGEST_PICKLE, PthError, Result, Storages, read_at, reserve, shown, unreadable};

/// An entry takes some 80 bytes, so this is enough for half a million.
const LARGEST_DIRECTORY: u64 = 40 << 20;
/// Deflate does not shrink anything further than this.
const MOST_DEFLATED: u64 = 1032;
const END: u64 = 22;
const LOCATOR: u64 = 20;
const END_64: u64 = 56;
const HEADER: usize = 46;
const LOCAL_HEADER: u64 = 30;

pub(super) struct Archive<R> {
    reader: R,
    length: u64,
    entries: BTreeMap<String, Entry>,
    /// With its slash, or empty.
    prefix: String,
}

#[derive(Clone, Copy)]
struct Entry {
    encrypted: bool,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    header: u64,
}

impl<R: Read + Seek> Archive<R> {
    /// Reads the directory and refuses what is no state dict.
    pub(super) fn open(mut reader: R, length: u64) -> Result<Self> {
        let entries = directory(&mut reader, length)?;
        let mut prefixes =
            entries.keys().filter_map(|name| name.strip_suffix("data.pkl")).filter(|prefix| {
                prefix.is_empty() || prefix.find('/').is_some_and(|at| at + 1 == prefix.len())
            });
        let prefix = match (prefixes.next(), prefixes.next()) {
            (Some(prefix), None) => prefix.to_owned(),
            (None, _) => {
                return Err(PthError::new(
                    "is a zip archive, but none of torch.save: it has no `data.pkl`",
                ));
            }
            _ => return Err(PthError::new("has more than one `data.pkl`")),
        };
        let code = format!("{prefix}code/");
        if entries.contains_key(&format!("{prefix}constants.pkl"))
            || entries.keys().any(|name| name.starts_with(&code))
        {
            return Err(PthError::new(
                "is a TorchScript program, not a state dict; load it with torch.jit.load and save \
                 its state_dict() with torch.save",
            ));
        }
        let mut archive = Self { reader, length, entries, prefix };
        if let Ok(entry) = archive.entry("byteorder") {
            let order = archive.contents(entry, 16)?;
            if order != b"little" {
                return Err(PthError::new(format!(
                    "was written `{}` endian; only little endian is read: load and save it again \
                     on such a machine",
                    shown(&String::from_utf8_lossy(&order))
                )));
            }
        }
        Ok(archive)
    }

    /// The pickle that says what the storages are.
    pub(super) fn pickle(&mut self) -> Result<Vec<u8>> {
        let entry = self.entry("data.pkl")?;
        self.contents(entry, LARGEST_PICKLE)
    }

    fn entry(&self, name: &str) -> Result<Entry> {
        self.entries
            .get(&format!("{}{name}", self.prefix))
            .copied()
            .ok_or_else(|| PthError::new(format!("the archive lacks `{}`", shown(name))))
    }

    fn contents(&mut self, entry: Entry, most: u64) -> Result<Vec<u8>> {
        if entry.size > most {
            return Err(PthError::new(format!(
                "an entry of {} bytes is larger than the {most} allowed",
                entry.size
            )));
        }
        // The name and the extra field are repeated before the data; their lengths may differ.
        let header = read_at(&mut self.reader, entry.header, LOCAL_HEADER)?;
        if header.get(..4) != Some(b"PK\x03\x04") {
            return Err(damaged());
        }
        let start = entry.header
            + LOCAL_HEADER
            + u64::from(u16_at(&header, 26)?)
            + u64::from(u16_at(&header, 28)?);
        if start > self.length || entry.packed > self.length - start {
            return Err(damaged());
        }
        let bytes = match entry.method {
            0 => read_at(&mut self.reader, start, entry.packed)?,
            _ => {
                self.reader.seek(SeekFrom::Start(start)).map_err(unreadable)?;
                let mut bytes = reserve(entry.size)?;
                DeflateDecoder::new((&mut self.reader).take(entry.packed))
                    .take(entry.size.saturating_add(1))
                    .read_to_end(&mut bytes)
                    .map_err(unreadable)?;
                bytes
            }
        };
        // torch leaves the checksum 0 when told not to compute it.
        let mut crc = Crc::new();
        crc.update(&bytes);
        if bytes.len() as u64 != entry.size || (entry.crc != 0 && entry.crc != crc.sum()) {
            return Err(PthError::new(
                "a checksum does not fit: the file is damaged; fetch it again",
            ));
        }
        Ok(bytes)
    }
}

impl<R: Read + Seek> Storages for Archive<R> {
    fn size(&self, key: &str) -> Result<u64> {
        Ok(self.entry(&format!("data/{key}"))?.size)
    }

    fn read(&mut self, key: &str) -> Result<Vec<u8>> {
        let entry = self.entry(&format!("data/{key}"))?;
        self.contents(entry, u64::MAX)
    }
}

/// Finds the directory from the end of the file and reads it.
fn directory<R: Read + Seek>(reader: &mut R, length: u64) -> Result<BTreeMap<String, Entry>> {
    let tail = read_at(reader, length.saturating_sub(END + LOCATOR), length.min(END + LOCATOR))?;
    let end = tail.len().checked_sub(END as usize).and_then(|at| tail.get(at..));
    let end = end.filter(|end| end.starts_with(b"PK\x05\x06")).ok_or_else(|| {
        PthError::new(
            "is a zip archive whose end is missing: the file is cut off, or something follows it; \
             fetch it again",
        )
    })?;
    let mut count = u64::from(u16_at(end, 10)?);
    let mut size = u64::from(u32_at(end, 12)?);
    let mut start = u64::from(u32_at(end, 16)?);
    if tail.len() as u64 == END + LOCATOR && tail.starts_with(b"PK\x06\x07") {
        // The record that counts in 64 bits; torch always writes it.
        let at = u64_at(&tail, 8)?;
        if at > length || length - at < END_64 {
            return Err(damaged());
        }
        let end = read_at(reader, at, END_64)?;
        if !end.starts_with(b"PK\x06\x06") {
            return Err(damaged());
        }
        let long = (u64_at(&end, 32)?, u64_at(&end, 40)?, u64_at(&end, 48)?);
        let same = |short: u64, long, all_ones| short == all_ones || short == long;
        if !same(count, long.0, u64::from(u16::MAX))
            || !same(size, long.1, u64::from(u32::MAX))
            || !same(start, long.2, u64::from(u32::MAX))
        {
            return Err(damaged());
        }
        (count, size, start) = long;
    }
    if size > LARGEST_DIRECTORY {
        return Err(PthError::new("the archive has too many entries"));
    }
    if start > length || size > length - start {
        return Err(damaged());
    }
    let bytes = read_at(reader, start, size)?;
    let mut rest = bytes.as_slice();
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let (name, entry) = take_entry(&mut rest)?;
        let sizes_fit = match entry.method {
            0 => entry.size == entry.packed,
            8 => entry.size / MOST_DEFLATED <= entry.packed,
            _ => return Err(PthError::new("the archive is compressed in a way torch never does")),
        };
        let inside = entry.packed <= length
            && length.checked_sub(LOCAL_HEADER).is_some_and(|last| entry.header <= last);
        if !sizes_fit || !inside {
            return Err(damaged());
        }
        if entry.encrypted {
            return Err(PthError::new("the archive is encrypted; decrypt it first"));
        }
        if entries.insert(name, entry).is_some() {
            return Err(PthError::new("the archive has two entries of one name"));
        }
    }
    Ok(entries)
}

fn take_entry(rest: &mut &[u8]) -> Result<(String, Entry)> {
    let (header, after) = rest.split_at_checked(HEADER).ok_or_else(damaged)?;
    if !header.starts_with(b"PK\x01\x02") {
        return Err(damaged());
    }
    let (name, after) =
        after.split_at_checked(usize::from(u16_at(header, 28)?)).ok_or_else(damaged)?;
    let (extra, after) =
        after.split_at_checked(usize::from(u16_at(header, 30)?)).ok_or_else(damaged)?;
    let (_comment, after) =
        after.split_at_checked(usize::from(u16_at(header, 32)?)).ok_or_else(damaged)?;
    *rest = after;

    let mut long = long_sizes(extra);
    // A field of all ones stands in the extra field, in 64 bits; these follow in this order.
    let mut long_or = |short: u32| -> Result<u64> {
        if short != u32::MAX {
            return Ok(u64::from(short));
        }
        let value = u64_at(long, 0)?;
        long = long.get(8..).unwrap_or_default();
        Ok(value)
    };
    let size = long_or(u32_at(header, 24)?)?;
    let packed = long_or(u32_at(header, 20)?)?;
    let header_at = long_or(u32_at(header, 42)?)?;
    let entry = Entry {
        encrypted: u16_at(header, 8)? & 1 != 0,
        method: u16_at(header, 10)?,
        crc: u32_at(header, 16)?,
        packed,
        size,
        header: header_at,
    };
    Ok((String::from_utf8_lossy(name).into_owned(), entry))
}

/// What the extra field of an entry holds under the number of the 64 bit sizes.
fn long_sizes(mut extra: &[u8]) -> &[u8] {
    while let (Ok(number), Ok(count)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some((field, after)) =
            extra.get(4..).and_then(|extra| extra.split_at_checked(usize::from(count)))
        else {
            break;
        };
        if number == 1 {
            return field;
        }
        extra = after;
    }
    &[]
}

fn damaged() -> PthError {
    PthError::new("the zip archive is damaged; fetch it again")
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().ok_or_else(damaged)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}
