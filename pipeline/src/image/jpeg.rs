//! JPEG in and out, by libjpeg-turbo's own code (as it lives on in mozjpeg, all of whose own inventions
//! are off): its pixels are those that other systems train and evaluate with, and its warnings are what
//! ingest finds damage by. jpeg-encoder and zune-jpeg only serve a degradation that is made without any C.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::RgbImage;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};
use jpeg_ext::{Header, Kind, Rectangle, Warning};
use mozjpeg::qtable::{AnnexK_Chroma, AnnexK_Luma};
use mozjpeg::{ColorSpace, Compress};
use serde::{Deserialize, Serialize};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace as ZuneColor;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Cut, Decoded, Limits, Region, damaged};
use crate::{Error, Result};

/// Who makes the JPEG of a degradation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// libjpeg-turbo in both directions.
    #[default]
    LibjpegTurbo,
    /// jpeg-encoder and zune-jpeg, without any C: from libjpeg's pixels 1.4 levels away at quality 5,
    /// 0.4 at 29, and three times as slow.
    JpegEncoder,
}

impl Codec {
    fn name(self) -> &'static str {
        match self {
            Self::JpegEncoder => "jpeg-encoder",
            Self::LibjpegTurbo => "libjpeg-turbo",
        }
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Codec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::JpegEncoder, Self::LibjpegTurbo]
            .into_iter()
            .find(|codec| codec.name() == text)
            .ok_or_else(|| {
                Error::config("codec", format!("`{text}`"), "jpeg-encoder or libjpeg-turbo")
            })
    }
}

/// The image after JPEG at `quality` (1 to 100) and back: 4:2:0, averaged chroma, standard tables.
///
/// # Errors
/// When a side is longer than JPEG can say (65535).
pub fn round_trip(image: &RgbImage, quality: u8, codec: Codec) -> Result<RgbImage> {
    let bytes = encode(image, quality, codec)?;
    match codec {
        Codec::LibjpegTurbo => Ok(examine(&bytes, &OURS)?.image),
        Codec::JpegEncoder => decode_rust(&bytes),
    }
}

/// The image as JPEG at `quality` (1 to 100): 4:2:0, averaged chroma, standard tables.
///
/// # Errors
/// When a side is longer than JPEG can say (65535).
pub fn encode(image: &RgbImage, quality: u8, codec: Codec) -> Result<Vec<u8>> {
    match codec {
        Codec::LibjpegTurbo => encode_libjpeg(image, quality),
        Codec::JpegEncoder => encode_rust(image, quality),
    }
}

/// By libjpeg-turbo's code, as `cjpeg -baseline` does it.
fn encode_libjpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>> {
    let (width, height) = sides(image)?;
    let quality = quality.clamp(1, 100);
    guarded("not encodable", || {
        let mut compress = Compress::new(ColorSpace::JCS_RGB);
        // Resets everything, so that it comes first.
        compress.set_fastest_defaults();
        compress.set_size(usize::from(width), usize::from(height));
        set_tables(&mut compress, quality);
        compress.set_chroma_sampling_pixel_sizes((2, 2), (2, 2));
        let mut started = compress.start_compress(Vec::new())?;
        started.write_scanlines(image.as_raw())?;
        started.finish()
    })
}

/// libjpeg's tables of a quality: (step · scale + 50) / 100 in whole numbers, from 1 to 255.
fn set_tables(compress: &mut Compress, quality: u8) {
    compress.set_quality(f32::from(quality));
    if quality < 25 {
        // Some steps are over 255 here, which is not baseline: libjpeg-turbo's users cut them, mozjpeg's
        // wrapper does not. Its tables are scaled in f32, where halves may fall to either side: 10 · 5.55
        // to 55. They are hundredths before they are rounded, so that a hundred-thousandth more, at most
        // 0.003 of what is not cut, lifts halves and nothing else.
        let scale = f32::from(5000 / u16::from(quality)) * 1.000_01;
        let as_quality = 5000.0 / scale;
        compress.set_luma_qtable(&AnnexK_Luma.scaled(as_quality, as_quality));
        compress.set_chroma_qtable(&AnnexK_Chroma.scaled(as_quality, as_quality));
    }
}

/// By jpeg-encoder.
fn encode_rust(image: &RgbImage, quality: u8) -> Result<Vec<u8>> {
    let (width, height) = sides(image)?;
    let mut bytes = Vec::with_capacity(image.as_raw().len() / 8 + 1024);
    let mut encoder = Encoder::new(&mut bytes, quality.clamp(1, 100));
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    encoder
        .encode(image.as_raw(), width, height, ColorType::Rgb)
        .map_err(|error| Error::Image(format!("not encodable: {error}")))?;
    Ok(bytes)
}

fn sides(image: &RgbImage) -> Result<(u16, u16)> {
    let long = |_| Error::Image(format!("too large: {:?} for a JPEG", image.dimensions()));
    Ok((u16::try_from(image.width()).map_err(long)?, u16::try_from(image.height()).map_err(long)?))
}

/// For what we encoded ourselves.
const OURS: Limits = Limits { bytes: u64::MAX, pixels: u64::MAX, side: 1, aspect: f64::INFINITY };

/// By zune-jpeg, what [`encode_rust`] made. It is no decoder for other files: valid ones that are not
/// interleaved, or subsampled oddly, come out wrong (decision 36).
fn decode_rust(bytes: &[u8]) -> Result<RgbImage> {
    let options = DecoderOptions::new_fast()
        .jpeg_set_out_colorspace(ZuneColor::RGB)
        .set_strict_mode(true)
        .set_max_width(65_535)
        .set_max_height(65_535);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().map_err(damaged)?;
    let (width, height) =
        decoder.dimensions().ok_or_else(|| Error::Image("damaged: no frame".into()))?;
    image(width as u32, height as u32, pixels)
}

/// The whole image, with what libjpeg has to say of the file up to its end mark.
pub(super) fn examine(bytes: &[u8], limits: &Limits) -> Result<Decoded> {
    let pixels = header(bytes, limits)?.whole().map_err(refused)?;
    let said = |kinds: &[Kind]| -> Option<String> {
        let of = |warning: &&Warning| kinds.contains(&warning.kind);
        let texts: Vec<_> =
            pixels.warnings.iter().filter(of).map(|warning| warning.text.as_str()).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    };
    let damage = said(&[Kind::Damage]);
    let no_end = said(&[Kind::NoEnd]).map(|_| "the end mark is missing".to_owned());
    let remark = said(&[Kind::Remark]);
    let image = image(pixels.part.width, pixels.part.height, pixels.rgb)?;
    Ok(Decoded { image, damage, refused_elsewhere: no_end, remark })
}

/// How many times the wanted side the shorter side of a reduced image must have at least. Against a
/// cut of the whole image the mean absolute difference is then 0.3 levels, for no cut above 1.4 (50
/// photographs; the test `scaled_decoding_changes_nothing_that_matters` prints it).
pub const MARGIN: u32 = 3;

/// [`super::decode_region`] for a JPEG: at a fraction of its size where its shorter side keeps
/// [`MARGIN`] times `short` pixels; at its own size where none are given.
pub(super) fn decode_region(
    bytes: &[u8],
    limits: &Limits,
    cut: impl Fn((u32, u32)) -> Cut,
    short: Option<u32>,
) -> Result<Region> {
    let mut header = header(bytes, limits)?;
    let (width, height) = header.size();
    let cut = cut((width, height));
    let kept = |eighths: &u8| {
        let side = u64::from(width.min(height)) * u64::from(*eighths) / 8;
        short.is_some_and(|short| side >= u64::from(short) * u64::from(MARGIN))
    };
    let eighths = [1, 2, 4].into_iter().find(kept);
    let pixels = match eighths {
        Some(eighths) => {
            header.scale(eighths);
            header.rgb(Rectangle::whole)
        }
        None => {
            let [left, top, right, bottom] = cut.needs();
            let (width, height) = (right - left, bottom - top);
            header.rgb(|_, _| Rectangle { left, top, width, height })
        }
    };
    let pixels = pixels.map_err(refused)?;
    let image = image(pixels.part.width, pixels.part.height, pixels.rgb)?;
    let scale = f64::from(eighths.unwrap_or(8)) / 8.0;
    Ok(Region { image, cut, corner: [pixels.part.left, pixels.part.top], scale })
}

/// The header of a file, within the limits.
fn header<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Header<'a>> {
    let header = Header::read(bytes).map_err(refused)?;
    let (width, height) = header.size();
    limits.check(width, height)?;
    Ok(header)
}

fn refused(error: jpeg_ext::Error) -> Error {
    match error.is_unsupported() {
        true => Error::Image(format!("not supported: {error}")),
        false => damaged(error),
    }
}

fn image(width: u32, height: u32, pixels: Vec<u8>) -> Result<RgbImage> {
    RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| Error::Image("damaged: fewer pixels than announced".into()))
}

/// Runs code of libjpeg, whose way to tell an error is to unwind.
fn guarded<T>(what: &str, run: impl FnOnce() -> io::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| Error::Image(format!("{what}: {error}"))),
        Err(cause) => {
            let text = cause.downcast_ref::<String>().map_or("libjpeg failed", String::as_str);
            Err(Error::Image(format!("{what}: {text}")))
        }
    }
}

/// The segments of this kind before the pixels that begin with this prefix: what follows it. Stray bytes
/// between segments are skipped, as libjpeg does.
pub(super) fn segments<'a>(
    bytes: &'a [u8],
    wanted: u8,
    prefix: &'static [u8],
) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        loop {
            let mark = rest.iter().position(|&byte| byte == 0xff)?;
            let name = mark + rest[mark..].iter().position(|&byte| byte != 0xff)?;
            let kind = rest[name];
            rest = &rest[name + 1..];
            match kind {
                // Stuffed bytes and marks without a length.
                0 | 0x01 | 0xd0..=0xd8 => {}
                // Pixels begin, or the file ends.
                0xd9 | 0xda => {
                    rest = &[];
                    return None;
                }
                _ => {
                    let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
                    let body = rest.get(2..length)?;
                    rest = &rest[length..];
                    if let Some(found) = body.strip_prefix(prefix).filter(|_| kind == wanted) {
                        return Some(found);
                    }
                }
            }
        }
    })
}
