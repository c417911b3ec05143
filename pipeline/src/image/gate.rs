//! What a picture may cost, looked at before anything is paid: whatever leads bytes to a decoder goes through
//! here, whoever named them.
//!
//! Time follows from these limits too: pixels and bytes bound what a decoder does, and `jpeg_ext` bounds how
//! often it does it (scans). Nothing is measured by a clock.

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

/// The bytes of a picture file, within the limits. Of a longer file nothing is read; of one that grows, no more
/// than the limit.
///
/// # Errors
/// [`Error::Image`] with the reason, without the file's name: where it cannot be read, is no regular file, or is
/// too long.
pub fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| Error::Image(format!("cannot be read: {error}"));
    let (file, length) = storage::regular::open(path).map_err(unreadable)?;
    limits.check_bytes(length)?;
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(limits.bytes + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    limits.check_bytes(bytes.len() as u64)?;
    Ok(bytes)
}

/// Leads bytes of a known format and length to a decoder. One that panics has met damage.
pub(super) fn enter<T>(
    bytes: &[u8],
    limits: &Limits,
    decode: impl FnOnce(Format) -> Result<T>,
) -> Result<T> {
    limits.check_bytes(bytes.len() as u64)?;
    let format = Format::of(bytes)?;
    // The decoder's words, of an index or a length, say nothing to people.
    caught::panics(|| decode(format))
        .unwrap_or_else(|_| Err(damaged(format!("the decoder of {} fails on it", format.name()))))
}

/// Below this nothing is asked: asking costs a little, and a process that lacks so little is lost anyway.
const ASKED: u64 = 16 << 20;

/// An error where this process cannot have so much more memory: decoders that others wrote end the process
/// then.
pub(super) fn has_room(bytes: u64) -> Result<()> {
    let fits = || {
        let mut room = Vec::<u8>::new();
        let fits = room.try_reserve_exact(usize::try_from(bytes).ok()?);
        // Else the compiler leaves memory out that nobody uses.
        std::hint::black_box(room);
        fits.ok()
    };
    if bytes > ASKED && fits().is_none() {
        let megabytes = bytes / 1_000_000;
        return Err(Error::Image(format!("decoding takes {megabytes} MB, which is not there")));
    }
    Ok(())
}
