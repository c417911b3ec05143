//! PNG. Text and colour profiles are skipped and never inflated into memory: 880 kB of them can hold
//! 860 MB.

use std::io::{Cursor, Read};

use ::png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Transformations};
use flate2::Crc;
use flate2::read::ZlibDecoder;
use image::{DynamicImage, GrayAlphaImage, GrayImage, ImageBuffer, RgbImage, RgbaImage};

use super::{Decoded, Limits, damaged, gate, rgb};
use crate::{Error, Result};

/// Memory of the decoder besides the pixels: rows, and ancillary chunks such as EXIF.
const MEMORY: usize = 64 << 20;

/// The chunk that ends a file.
const END: &[u8; 12] = b"\0\0\0\0IEND\xae\x42\x60\x82";

/// The pixels.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage> {
    decode_full(bytes, limits).map(rgb)
}

/// The pixels as the file has them: with transparency, in 16 bits.
pub(super) fn decode_full(bytes: &[u8], limits: &Limits) -> Result<DynamicImage> {
    match ended(bytes) {
        None => read(bytes, limits, false)?.map_err(damaged),
        Some(ended) => read(&ended, limits, false)?.map_err(damaged),
    }
}

/// The pixels, and whether Pillow refuses the file for what is not pixels.
pub(super) fn examine(bytes: &[u8], limits: &Limits) -> Result<Decoded> {
    if ended(bytes).is_some() {
        let remark = Some("it ends behind its pixels, without the chunk IEND".into());
        let refused_elsewhere = refused_for_ancillary(bytes);
        return Ok(Decoded { remark, refused_elsewhere, ..Decoded::sound(decode(bytes, limits)?) });
    }
    let (image, checksum) = match read(bytes, limits, true)? {
        Ok(image) => (image, None),
        // The checksum of the pixels comes last, when all of them are there.
        Err(error) => (read(bytes, limits, false)?.map_err(damaged)?, Some(format!("{error}"))),
    };
    let refused_elsewhere = checksum.or_else(|| refused_for_ancillary(bytes));
    Ok(Decoded { refused_elsewhere, ..Decoded::sound(rgb(image)) })
}

/// A file that was cut off before its last chunk, ended: the decoder wants that chunk where all pixels are
/// there, as other programs do not. None for other files.
fn ended(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.ends_with(END) {
        return None;
    }
    let (mut end, mut pixels) = (8, false);
    for (name, body, _) in chunks(bytes) {
        if name == *b"IEND" {
            return None;
        }
        pixels |= name == *b"IDAT";
        end += 12 + body.len();
    }
    let mut file = bytes.get(..end)?.to_vec();
    let cut = bytes.get(end..).and_then(|rest| {
        let (length, rest) = rest.split_first_chunk()?;
        let body = rest.strip_prefix(b"IDAT")?;
        body.get(..body.len().min(u32::from_be_bytes(*length) as usize))
    });
    if let Some(cut) = cut {
        pixels = true;
        // The checksum of all pixels may be what is missing; it is not looked at.
        let body = [b"IDAT", cut, &[0; 4]].concat();
        let mut crc = Crc::new();
        crc.update(&body);
        file.extend((body.len() as u32 - 4).to_be_bytes());
        file.extend(body);
        file.extend(crc.sum().to_be_bytes());
    }
    file.extend(END);
    pixels.then_some(file)
}

/// Values of pixels as a file has them.
enum Values {
    Eight(Vec<u8>),
    Sixteen(Vec<u16>),
}

/// Decodes; the outer error is a limit, the inner one damage.
fn read(
    bytes: &[u8],
    limits: &Limits,
    checksum: bool,
) -> Result<std::result::Result<DynamicImage, DecodingError>> {
    let mut options = DecodeOptions::default();
    options.set_ignore_adler32(!checksum);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_limits(::png::Limits { bytes: MEMORY });
    match decoder.read_header_info() {
        Ok(info) => limits.check(info.width, info.height)?,
        Err(error) => return Ok(Err(error)),
    }
    decoder.set_transformations(Transformations::EXPAND);
    let pixels = || {
        let mut reader = decoder.read_info()?;
        let length = reader.output_buffer_size().ok_or(DecodingError::LimitsExceeded)?;
        // The conversion to 8 bits takes as much again at most.
        if let Err(error) = gate::has_room(2 * length as u64) {
            return Ok(Err(error));
        }
        Ok(Ok(match reader.output_color_type() {
            (_, BitDepth::Sixteen) => {
                let mut words = vec![0u16; length / 2];
                let frame = reader.next_frame(bytemuck::cast_slice_mut(&mut words))?;
                // PNG has the higher byte first.
                words.iter_mut().for_each(|word| *word = u16::from_be(*word));
                (frame, Values::Sixteen(words))
            }
            _ => {
                let mut bytes = vec![0; length];
                let frame = reader.next_frame(&mut bytes)?;
                (frame, Values::Eight(bytes))
            }
        }))
    };
    let (frame, values) = match pixels() {
        Ok(read) => read?,
        Err(error) => return Ok(Err(error)),
    };
    let (width, height) = (frame.width, frame.height);
    use ColorType::{Grayscale, GrayscaleAlpha, Rgb, Rgba};
    let image: Option<DynamicImage> = match (frame.color_type, values) {
        (Grayscale, Values::Eight(v)) => GrayImage::from_raw(width, height, v).map(Into::into),
        (GrayscaleAlpha, Values::Eight(v)) => {
            GrayAlphaImage::from_raw(width, height, v).map(Into::into)
        }
        (Rgb, Values::Eight(v)) => RgbImage::from_raw(width, height, v).map(Into::into),
        (Rgba, Values::Eight(v)) => RgbaImage::from_raw(width, height, v).map(Into::into),
        (Grayscale, Values::Sixteen(v)) => {
            ImageBuffer::from_raw(width, height, v).map(DynamicImage::ImageLuma16)
        }
        (GrayscaleAlpha, Values::Sixteen(v)) => {
            ImageBuffer::from_raw(width, height, v).map(DynamicImage::ImageLumaA16)
        }
        (Rgb, Values::Sixteen(v)) => {
            ImageBuffer::from_raw(width, height, v).map(DynamicImage::ImageRgb16)
        }
        (Rgba, Values::Sixteen(v)) => {
            ImageBuffer::from_raw(width, height, v).map(DynamicImage::ImageRgba16)
        }
        (ColorType::Indexed, _) => None,
    };
    let unexpected = || Error::Image("damaged: pixels of no known kind".into());
    Ok(Ok(image.ok_or_else(unexpected)?))
}

/// Bytes that Pillow inflates a chunk to (`MAX_TEXT_CHUNK`), and all of them (`MAX_TEXT_MEMORY`).
const MAX_CHUNK: u64 = 1 << 20;
const MAX_ALL: u64 = 64 << 20;

/// Why Pillow refuses a file whose pixels are whole: an ancillary chunk with a wrong checksum, or one that
/// inflates to more than it allows. Nothing is kept of what is inflated.
fn refused_for_ancillary(bytes: &[u8]) -> Option<String> {
    let mut all = 0;
    let mut pixels = false;
    for (name, body, checksum) in chunks(bytes) {
        let shown = name.escape_ascii();
        pixels |= name == *b"IDAT";
        let mut crc = Crc::new();
        crc.update(&name);
        crc.update(body);
        // Behind the pixels Pillow does not look.
        if name[0].is_ascii_lowercase() && !pixels && crc.sum() != checksum {
            return Some(format!("the checksum of the chunk {shown} is wrong"));
        }
        let text = match &name {
            b"iCCP" | b"zTXt" => body.iter().position(|&byte| byte == 0).map(|end| end + 2),
            // Keyword, compressed or not, method, language, translated keyword.
            b"iTXt" => compressed_text(body),
            _ => None,
        };
        let Some(deflated) = text.and_then(|begin| body.get(begin..)) else { continue };
        let mut inflated = ZlibDecoder::new(deflated).take(MAX_CHUNK + 1);
        let length = std::io::copy(&mut inflated, &mut std::io::sink()).unwrap_or(0);
        all += length;
        if length > MAX_CHUNK || all > MAX_ALL {
            let limit = if length > MAX_CHUNK { MAX_CHUNK } else { MAX_ALL };
            return Some(format!("the chunk {shown} inflates to more than {limit} bytes"));
        }
    }
    None
}

/// The colour profile of an iCCP chunk, inflated up to `limit` bytes and one more.
pub(super) fn profile(bytes: &[u8], limit: u64) -> Option<Vec<u8>> {
    let (_, body, _) = chunks(bytes).find(|(name, ..)| name == b"iCCP")?;
    let begin = body.iter().position(|&byte| byte == 0)? + 2;
    let mut profile = Vec::new();
    ZlibDecoder::new(body.get(begin..)?).take(limit + 1).read_to_end(&mut profile).ok()?;
    Some(profile)
}

/// EXIF as ImageMagick keeps it in a text: after a keyword and three lines, hexadecimal digits in lines.
pub(super) fn raw_exif(bytes: &[u8]) -> Option<Vec<u8>> {
    const KEYWORD: &[u8] = b"Raw profile type exif\0";
    let text = chunks(bytes).find_map(|(name, body, _)| {
        let body = body.strip_prefix(KEYWORD)?;
        match &name {
            b"tEXt" => Some(body.to_vec()),
            b"zTXt" => {
                let mut text = Vec::new();
                ZlibDecoder::new(body.get(1..)?).take(MAX_CHUNK).read_to_end(&mut text).ok()?;
                Some(text)
            }
            _ => None,
        }
    })?;
    let digits =
        text.splitn(4, |&byte| byte == b'\n').nth(3)?.iter().filter(|&&byte| byte != b'\n');
    let digits: Vec<u8> = digits
        .map(|&byte| (byte as char).to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    Some(digits.as_chunks().0.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Where the deflated text of an iTXt chunk begins, if it is deflated.
fn compressed_text(body: &[u8]) -> Option<usize> {
    let end = |from: usize| Some(from + body.get(from..)?.iter().position(|&byte| byte == 0)?);
    let keyword = end(0)?;
    if *body.get(keyword + 1)? != 1 {
        return None;
    }
    Some(end(end(keyword + 3)? + 1)? + 1)
}

/// The chunks of a PNG, as far as they are whole: name, body, checksum.
pub(super) fn chunks(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8], u32)> {
    let mut at = 8;
    std::iter::from_fn(move || {
        let length = u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?) as usize;
        let name: [u8; 4] = *bytes.get(at + 4..)?.first_chunk()?;
        let begin = at + 8;
        let end = begin.checked_add(length)?;
        let body = bytes.get(begin..end)?;
        let checksum = u32::from_be_bytes(*bytes.get(end..)?.first_chunk()?);
        at = end + 4;
        Some((name, body, checksum))
    })
}
