//! What the archive layouts share: reading tar files as a stream, with limits and a digest.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::{Ended, is_hidden, too_long};
use crate::{Error, Result, atomic};

/// A tar that is read once and digested on the way.
pub(super) type Stream = tar::Archive<atomic::Hashing<BufReader<File>>>;

/// Names that [`first_names`] looks at.
const LOOK_AT: usize = 64;

/// Opens an archive for one reading.
pub(super) fn open(path: &Path) -> Result<Stream> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    Ok(tar::Archive::new(atomic::Hashing::new(BufReader::with_capacity(1 << 18, file))))
}

/// Reads an archive to its very end and gives its length and digest.
pub(super) fn finish(path: &Path, archive: Stream, whole: bool) -> Result<Ended> {
    let mut rest = archive.into_inner();
    if !whole {
        let bytes = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
        return Ok(Ended { bytes, sha256: None });
    }
    io::copy(&mut rest, &mut io::sink()).map_err(Error::io("read", path))?;
    let (_, sha256, bytes) = rest.finish();
    Ok(Ended { bytes, sha256: Some(sha256) })
}

/// Calls `visit` with name and length of every file of an archive, hidden ones left out, without
/// reading contents; false ends the visit.
pub(super) fn scan(path: &Path, mut visit: impl FnMut(&str, u64) -> bool) -> Result<u64> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut magic = [0; 2];
    if file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b] {
        return Err(Error::source(path, "is compressed; unpack it with `gzip -d` first"));
    }
    file.seek(SeekFrom::Start(0)).map_err(Error::io("read", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let mut archive = tar::Archive::new(BufReader::with_capacity(4096, file));
    for entry in archive.entries_with_seek().map_err(broken(path))? {
        let entry = entry.map_err(broken(path))?;
        let name = name(&entry);
        if entry.header().entry_type().is_file() && !is_hidden(&name) && !visit(&name, entry.size())
        {
            break;
        }
    }
    Ok(length)
}

/// The first names of an archive.
pub(super) fn first_names(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    scan(path, |name, _| {
        names.push(name.to_owned());
        names.len() < LOOK_AT
    })?;
    if names.is_empty() {
        return Err(Error::source(path, "is no tar archive, or an empty one"));
    }
    Ok(names)
}

/// The name of an entry, `./` taken away.
pub(super) fn name(entry: &tar::Entry<'_, impl Read>) -> String {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    name.strip_prefix("./").map(str::to_owned).unwrap_or(name)
}

/// The contents of an entry: an inner error says why they are passed over, the outer one that the
/// archive is damaged.
pub(super) fn content(
    path: &Path,
    entry: &mut tar::Entry<'_, impl Read>,
    max_bytes: u64,
) -> Result<Result<Vec<u8>, String>> {
    let size = entry.size();
    if size > max_bytes {
        return Ok(Err(too_long(size, max_bytes)));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    entry.read_to_end(&mut bytes).map_err(broken(path))?;
    if bytes.len() as u64 != size {
        return Err(ends_early(path, &name(entry)));
    }
    Ok(Ok(bytes))
}

pub(super) fn ends_early(path: &Path, name: &str) -> Error {
    Error::source(path, format!("ends within {name}; download it again"))
}

/// An archive that cannot be read on.
pub(super) fn broken(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| {
        Error::source(
            &path,
            format!("is no tar archive or a damaged one ({error}); download it again"),
        )
    }
}
