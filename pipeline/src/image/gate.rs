//! The limits on what one picture may cost, checked before a decoder runs. All decoding of pictures goes through
//! here.
//!
//! The limits bound time as well: bytes and pixels bound the work of one pass, `jpeg_ext` bounds the number of
//! passes (scans). No clock is involved.

use std::io::Read;
use std::path::Path;

use super::{Format, damaged};
use crate::{Error, Result};

/// What is accepted as an image, checked on the header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes: u64,
    /// Pixels of the image. Decoding takes at most 16 bytes of memory for each, whatever the format.
    pub pixels: u64,
    /// Pixels of the shorter side, at least.
    pub side: u32,
    /// Longer side over shorter side, at most.
    pub aspect: f64,
}

impl Limits {
    /// 64 MiB, 100 megapixels, any side, any shape.
    pub const DECODE: Self = Self { bytes: 64 << 20, pixels: 100_000_000, side: 1, aspect: 1e9 };
    /// As [`Self::DECODE`], with at least 8 pixels a side and no longer than 20:1.
    pub const INGEST: Self = Self { side: 8, aspect: 20.0, ..Self::DECODE };

    pub(super) fn check_bytes(&self, bytes: u64) -> Result<()> {
        if bytes > self.bytes {
            let message = format!("too many bytes: {bytes}, at most {}", self.bytes);
            return Err(Error::Image(message));
        }
        Ok(())
    }

    pub(super) fn check(&self, width: u32, height: u32) -> Result<()> {
        let (long, short) = (width.max(height), width.min(height));
        let refuse = |what: &str, allowed: String| {
            Err(Error::Image(format!("{what}: {width}x{height} pixels, {allowed}")))
        };
        if u64::from(width) * u64::from(height) > self.pixels {
            let megapixels = self.pixels / 1_000_000;
            return refuse("too many pixels", format!("at most {megapixels} million"));
        }
        if short < self.side {
            return refuse("too small", format!("at least {} a side", self.side));
        }
        if f64::from(long) > self.aspect * f64::from(short) {
            return refuse("too narrow", format!("at most {}:1", self.aspect));
        }
        Ok(())
    }
}

/// Reads a picture file within the limits. A longer file is refused unread; of one that grows, at most one byte
/// more than the limit is read.
///
/// # Errors
/// [`Error::Image`] with the reason, without the file's name, if the file cannot be read, is not a regular file, or
/// is too long.
pub fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| Error::Image(format!("cannot be read: {error}"));
    let (file, length) = storage::regular::open(path).map_err(unreadable)?;
    limits.check_bytes(length)?;
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(limits.bytes + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    limits.check_bytes(bytes.len() as u64)?;
    Ok(bytes)
}

/// Runs a decoder on bytes whose length and format are checked. A panic of the decoder counts as damage.
pub(super) fn enter<T>(
    bytes: &[u8],
    limits: &Limits,
    decode: impl FnOnce(Format) -> Result<T>,
) -> Result<T> {
    limits.check_bytes(bytes.len() as u64)?;
    let format = Format::of(bytes)?;
    // The text of the panic (an index out of range) does not help the user.
    caught::panics(|| decode(format))
        .unwrap_or_else(|_| Err(damaged(format!("the {} decoder failed", format.name()))))
}

/// Smaller amounts are not checked: the check costs time, and a process that lacks so little cannot go on anyway.
const ASKED: u64 = 16 << 20;

/// An error if this process cannot allocate that much: a failed allocation within a decoder would abort the
/// process.
pub(super) fn has_room(bytes: u64) -> Result<()> {
    let fits = || {
        let mut room = Vec::<u8>::new();
        let fits = room.try_reserve_exact(usize::try_from(bytes).ok()?);
        // Without it the compiler may drop the unused allocation.
        std::hint::black_box(room);
        fits.ok()
    };
    if bytes > ASKED && fits().is_none() {
        let megabytes = bytes / 1_000_000;
        return Err(Error::Image(format!(
            "decoding needs {megabytes} MB of memory, more than this process can get"
        )));
    }
    Ok(())
}
