//! WebP, still. Profiles and EXIF are not compressed, so that the limit on the file bounds them.

use std::io::Cursor;

use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder, RgbImage};

use super::{Decoded, Limits, damaged, rgb};
use crate::Result;

/// The pixels.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage> {
    decode_full(bytes, limits).map(rgb)
}

/// The pixels as the file has them: with transparency.
pub(super) fn decode_full(bytes: &[u8], limits: &Limits) -> Result<DynamicImage> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    limits.check(width, height)?;
    let mut allocation = image::Limits::default();
    allocation.max_alloc = Some(limits.pixels.saturating_mul(9));
    decoder.set_limits(allocation).map_err(damaged)?;
    DynamicImage::from_decoder(decoder).map_err(damaged)
}

/// The pixels, and whether libwebp, which looks at the length in the RIFF header, refuses the file.
pub(super) fn examine(bytes: &[u8], limits: &Limits) -> Result<Decoded> {
    let image = decode(bytes, limits)?;
    Ok(Decoded { refused_elsewhere: wrong_length(bytes), ..Decoded::sound(image) })
}

/// What is wrong with the length in the RIFF header: it reaches beyond the file, or ends within a chunk.
fn wrong_length(bytes: &[u8]) -> Option<String> {
    let said = u64::from(u32::from_le_bytes(*bytes.get(4..8)?.first_chunk()?)) + 8;
    let length = bytes.len() as u64;
    if said > length {
        return Some(format!("the RIFF header announces {said} bytes, the file has {length}"));
    }
    // Chunks that begin behind the announced end are no part of the picture.
    let within = bytes.get(..said as usize)?;
    if !are_whole(within, HEADER) {
        return Some(format!("the RIFF header announces {said} bytes and ends within a chunk"));
    }
    // A frame of an animation holds its place and time, then chunks.
    let cut = chunks(within).any(|(name, body, _)| name == *b"ANMF" && !are_whole(body, 16));
    cut.then(|| "a frame of its animation ends within a chunk".into())
}

/// Bytes before the first chunk of a file.
const HEADER: usize = 12;

/// Whether no chunk reaches beyond the end. Less than a chunk's header may follow them.
fn are_whole(bytes: &[u8], from: usize) -> bool {
    let end = chunks_from(bytes, from).last().map_or(from, |(_, body, at)| at + body.len());
    end + end % 2 + 8 > bytes.len()
}

/// The chunks of a RIFF file: name, body, and where the body begins.
pub(super) fn chunks(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8], usize)> {
    chunks_from(bytes, HEADER)
}

fn chunks_from(bytes: &[u8], mut at: usize) -> impl Iterator<Item = ([u8; 4], &[u8], usize)> {
    std::iter::from_fn(move || {
        let name = *bytes.get(at..)?.first_chunk()?;
        let length = u32::from_le_bytes(*bytes.get(at + 4..)?.first_chunk()?) as usize;
        let begin = at + 8;
        let body = bytes.get(begin..begin.checked_add(length)?)?;
        // Bodies are padded to an even length.
        at = begin + length + length % 2;
        Some((name, body, begin))
    })
}
