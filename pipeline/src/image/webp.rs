//! WebP, still. Profiles and EXIF are not compressed, so that the limit on the file bounds them.

use std::io::Cursor;

use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder, RgbImage};

use super::{Decoded, Limits, damaged, gate, rgb};
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
    check_frames(bytes, [width, height])?;
    gate::has_room(MEMORY * u64::from(width) * u64::from(height))?;
    let mut allocation = image::Limits::default();
    allocation.max_alloc = Some(limits.pixels.saturating_mul(9));
    decoder.set_limits(allocation).map_err(damaged)?;
    DynamicImage::from_decoder(decoder).map_err(damaged)
}

/// Bytes per pixel at the decoder's peak: its output, the canvas of an animation, a frame as YUV and as RGBA, and
/// the frame's alpha.
const MEMORY: u64 = 15;

/// Refuses lossy frames larger than the picture. The decoder compares the two sizes only after it has decoded the
/// frame.
fn check_frames(bytes: &[u8], [width, height]: [u32; 2]) -> Result<()> {
    let check = |body: &[u8]| match lossy_size(body) {
        Some([wide, high]) if wide > width || high > height => Err(damaged(format!(
            "a frame of {wide}x{high} pixels in a picture of {width}x{height}"
        ))),
        _ => Ok(()),
    };
    for (name, body) in cut_chunks(bytes, HEADER) {
        check(body)?;
        if name == *b"ANMF" {
            cut_chunks(body, FRAME_HEADER).try_for_each(|(_, body)| check(body))?;
        }
    }
    Ok(())
}

/// Width and height in the header of a lossy key frame (VP8); none for other bytes.
fn lossy_size(body: &[u8]) -> Option<[u32; 2]> {
    let sides: &[u8; 4] = body.get(3..)?.strip_prefix(b"\x9d\x01\x2a")?.first_chunk()?;
    let side = |at: usize| u32::from(u16::from_le_bytes([sides[at], sides[at + 1]]) & 0x3fff);
    Some([side(0), side(2)])
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
    let cut =
        chunks(within).any(|(name, body, _)| name == *b"ANMF" && !are_whole(body, FRAME_HEADER));
    cut.then(|| "a frame of its animation ends within a chunk".into())
}

/// Bytes before the first chunk of a file.
const HEADER: usize = 12;
/// Bytes of a frame of an animation, its place and time, before the first chunk in it.
const FRAME_HEADER: usize = 16;

/// Whether no chunk reaches beyond the end. Less than a chunk's header may follow them.
fn are_whole(bytes: &[u8], from: usize) -> bool {
    let end = chunks_from(bytes, from).last().map_or(from, |(_, body, at)| at + body.len());
    end + end % 2 + 8 > bytes.len()
}

/// The chunks of a RIFF file: name, body, and where the body begins.
pub(super) fn chunks(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8], usize)> {
    chunks_from(bytes, HEADER)
}

fn chunks_from(bytes: &[u8], at: usize) -> impl Iterator<Item = ([u8; 4], &[u8], usize)> {
    headers(bytes, at).map_while(|(name, begin, end)| Some((name, bytes.get(begin..end)?, begin)))
}

/// As [`chunks_from`], with as much as there is of a chunk that is cut off.
fn cut_chunks(bytes: &[u8], at: usize) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    headers(bytes, at).map(|(name, begin, end)| (name, &bytes[begin..end.min(bytes.len())]))
}

/// The headers of chunks: name, and where the body begins and should end.
fn headers(bytes: &[u8], mut at: usize) -> impl Iterator<Item = ([u8; 4], usize, usize)> {
    std::iter::from_fn(move || {
        let name = *bytes.get(at..)?.first_chunk()?;
        let length = u32::from_le_bytes(*bytes.get(at + 4..)?.first_chunk()?) as usize;
        let begin = at + 8;
        // Bodies are padded to an even length.
        at = begin + length + length % 2;
        Some((name, begin, begin + length))
    })
}
