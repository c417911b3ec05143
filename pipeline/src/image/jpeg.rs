//! JPEG in and out. Photographs are decoded by zune-jpeg, strictly. Two encoders: jpeg-encoder, fast
//! and near libjpeg's pixels; and libjpeg-turbo's own code (as it lives on in mozjpeg, all of whose
//! own inventions are off), which gives libjpeg-turbo's pixels and also decodes at fractions of the
//! size.

use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::RgbImage;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};
use mozjpeg::qtable::{AnnexK_Chroma, AnnexK_Luma};
use mozjpeg::{ColorSpace, Compress, Decompress};
use serde::{Deserialize, Serialize};
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace as ZuneColor;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Limits, Reduced, damaged};
use crate::{Error, Result};

/// Who makes the JPEG of a degradation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// jpeg-encoder and zune-jpeg: from libjpeg's pixels 1.4 levels away at quality 5, 0.4 at 29.
    #[default]
    JpegEncoder,
    /// libjpeg-turbo in both directions.
    LibjpegTurbo,
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
    match codec {
        Codec::JpegEncoder => decode(&encode(image, quality)?, &OURS),
        Codec::LibjpegTurbo => libjpeg(&encode_libjpeg(image, quality)?, 8),
    }
}

/// The image as JPEG at `quality` (1 to 100) by libjpeg-turbo's code, as `cjpeg -baseline` gives it.
fn encode_libjpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>> {
    let (width, height) = sides(image)?;
    let quality = quality.clamp(1, 100);
    guarded("not encodable", || {
        let mut compress = Compress::new(ColorSpace::JCS_RGB);
        // Resets everything, so that it comes first.
        compress.set_fastest_defaults();
        compress.set_size(usize::from(width), usize::from(height));
        compress.set_quality(f32::from(quality));
        if quality < 25 {
            // Steps over 255, which are not baseline: libjpeg-turbo's users cut them, mozjpeg's
            // wrapper does not. libjpeg's scale in percent is a whole number.
            let exact = 5000.0 / f32::from(5000 / u16::from(quality));
            compress.set_luma_qtable(&AnnexK_Luma.scaled(exact, exact));
            compress.set_chroma_qtable(&AnnexK_Chroma.scaled(exact, exact));
        }
        compress.set_chroma_sampling_pixel_sizes((2, 2), (2, 2));
        let mut started = compress.start_compress(Vec::new())?;
        started.write_scanlines(image.as_raw())?;
        started.finish()
    })
}

/// The image as JPEG at `quality` (1 to 100) by jpeg-encoder: 4:2:0, averaged chroma, standard
/// tables.
///
/// # Errors
/// When a side is longer than JPEG can say (65535).
pub fn encode(image: &RgbImage, quality: u8) -> Result<Vec<u8>> {
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

type Zune<'a> = zune_jpeg::JpegDecoder<ZCursor<&'a [u8]>>;

/// A decoder that has read the header, and the image's width and height.
fn open<'a>(bytes: &'a [u8], limits: &Limits) -> Result<(Zune<'a>, u32, u32)> {
    let options = DecoderOptions::new_fast()
        .jpeg_set_out_colorspace(ZuneColor::RGB)
        .set_strict_mode(true)
        .set_max_width(65_535)
        .set_max_height(65_535);
    let mut decoder = Zune::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) =
        decoder.dimensions().ok_or_else(|| Error::Image("damaged: no frame".into()))?;
    let (width, height) = (width as u32, height as u32);
    limits.check(width, height)?;
    Ok((decoder, width, height))
}

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage> {
    let (decoder, width, height) = open(bytes, limits)?;
    pixels(decoder, width, height)
}

fn pixels(mut decoder: Zune, width: u32, height: u32) -> Result<RgbImage> {
    let pixels = decoder.decode().map_err(damaged)?;
    RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| Error::Image("damaged: fewer pixels than announced".into()))
}

/// How many times the wanted side the shorter side of a reduced image must have at least. Measured
/// on 200 ImageNet photographs against decoding whole, after [`super::fit`]: at 3 the mean absolute
/// difference is 0.46 levels at 1/4 and 0.56 at 1/8; at 2 it is 0.87 and 0.97, at 1 it is 2.8 and 3.1.
pub const MARGIN: u32 = 3;

/// [`super::decode_at_least`] for a JPEG. libjpeg, built without its assembly, takes as long at 1/2
/// as zune-jpeg for the whole, 0.7 times as long at 1/4 and half as long at 1/8 (the same
/// photographs, one thread), so that 1/2 is not used.
pub(super) fn decode_at_least(bytes: &[u8], short: u32, limits: &Limits) -> Result<Reduced> {
    let (decoder, width, height) = open(bytes, limits)?;
    let original = (width, height);
    let enough = u64::from(short) * u64::from(MARGIN);
    let eighths = [1, 2]
        .into_iter()
        .find(|&part| u64::from(width.min(height)) * u64::from(part) / 8 >= enough);
    match (eighths, decoder.input_colorspace()) {
        (Some(eighths), Some(ZuneColor::YCbCr | ZuneColor::Luma)) => {
            let image = libjpeg(bytes, eighths)?;
            Ok(Reduced { image, original, scale: f64::from(eighths) / 8.0 })
        }
        _ => Ok(Reduced { image: pixels(decoder, width, height)?, original, scale: 1.0 }),
    }
}

/// Decodes a JPEG by libjpeg at `eighths`/8 of its size (rounded up). The header must have been
/// checked. A file that ends before its image does is damaged.
fn libjpeg(bytes: &[u8], eighths: u8) -> Result<RgbImage> {
    guarded("damaged", || {
        let mut header = Decompress::new_reader(Whole(bytes))?;
        header.scale(eighths);
        let mut started = header.rgb()?;
        let (width, height) = (started.width() as u32, started.height() as u32);
        let pixels = started.read_scanlines::<u8>()?;
        started.finish()?;
        RgbImage::from_raw(width, height, pixels).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    })
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

/// Bytes whose end is an error: libjpeg would go on with grey where a file was cut.
struct Whole<'a>(&'a [u8]);

impl Read for Whole<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.0.read(to)
    }
}

impl BufRead for Whole<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.0.is_empty() { Err(io::Error::other("the file ends early")) } else { Ok(self.0) }
    }

    fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }
}
