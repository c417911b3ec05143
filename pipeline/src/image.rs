//! From the bytes of an image file to 8-bit RGB of the wanted size. Headers are read and limits
//! checked before anything is allocated by them; no input makes it panic.

use std::cell::RefCell;
use std::io::Cursor;

use fast_image_resize as resize;
use image::{DynamicImage, ImageDecoder, RgbImage};
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::{Error, ImageSize, Result};

/// What is accepted as an image, checked on the header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes: u64,
    /// Pixels of the image.
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

    fn check(&self, width: u32, height: u32) -> Result<()> {
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

/// File formats that are read, told by their first bytes and never by a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG, baseline or progressive; grey, YCbCr, RGB, CMYK, YCCK.
    Jpeg,
    /// PNG of any depth, palette, alpha.
    Png,
    /// WebP, still.
    Webp,
}

impl Format {
    /// The format that the first bytes announce.
    ///
    /// # Errors
    /// For an empty file and for bytes that announce none of the formats.
    pub fn of(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [] => Err(Error::Image("empty: no bytes".into())),
            [0xff, 0xd8, 0xff, ..] => Ok(Self::Jpeg),
            [0x89, b'P', b'N', b'G', ..] => Ok(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Self::Webp),
            _ => Err(Error::Image("unknown format: neither JPEG nor PNG nor WebP".into())),
        }
    }

    /// The name as in the column `format`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }
}

/// Decodes an image file to RGB within [`Limits::DECODE`]. CMYK is converted, grey repeated, 16 bits
/// rounded to 8, transparency laid over white; EXIF orientation is not applied.
///
/// # Errors
/// [`Error::Image`] with the reason: a limit, an unknown format, damage.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    Ok(decode_within(bytes, &Limits::DECODE)?.0)
}

/// [`decode`] with the given limits; also tells the format.
///
/// # Errors
/// [`Error::Image`] with the reason: a limit, an unknown format, damage.
pub fn decode_within(bytes: &[u8], limits: &Limits) -> Result<(RgbImage, Format)> {
    if bytes.len() as u64 > limits.bytes {
        let message = format!("too many bytes: {}, at most {}", bytes.len(), limits.bytes);
        return Err(Error::Image(message));
    }
    let format = Format::of(bytes)?;
    let image = match format {
        Format::Jpeg => jpeg(bytes, limits)?,
        Format::Png => {
            let decoder =
                image::codecs::png::PngDecoder::with_limits(Cursor::new(bytes), allocation(limits))
                    .map_err(damaged)?;
            other(decoder, limits)?
        }
        Format::Webp => {
            let decoder =
                image::codecs::webp::WebPDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
            other(decoder, limits)?
        }
    };
    Ok((image, format))
}

/// Decodes a JPEG that we encoded ourselves.
pub(crate) fn decode_jpeg(bytes: &[u8]) -> Result<RgbImage> {
    jpeg(bytes, &Limits { bytes: u64::MAX, pixels: u64::MAX, side: 1, aspect: f64::INFINITY })
}

fn jpeg(bytes: &[u8], limits: &Limits) -> Result<RgbImage> {
    let options = DecoderOptions::new_fast()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_strict_mode(true)
        .set_max_width(65_535)
        .set_max_height(65_535);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) =
        decoder.dimensions().ok_or_else(|| Error::Image("damaged: no frame".into()))?;
    let (width, height) = (width as u32, height as u32);
    limits.check(width, height)?;
    let pixels = decoder.decode().map_err(damaged)?;
    RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| Error::Image("damaged: fewer pixels than announced".into()))
}

fn other(mut decoder: impl ImageDecoder, limits: &Limits) -> Result<RgbImage> {
    let (width, height) = decoder.dimensions();
    limits.check(width, height)?;
    decoder.set_limits(allocation(limits)).map_err(damaged)?;
    Ok(rgb(DynamicImage::from_decoder(decoder).map_err(damaged)?))
}

fn allocation(limits: &Limits) -> image::Limits {
    let mut allocation = image::Limits::default();
    allocation.max_alloc = Some(limits.pixels.saturating_mul(9));
    allocation
}

/// To RGB; transparency is laid over white.
fn rgb(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    let mut flat = RgbImage::new(image.width(), image.height());
    for (to, [r, g, b, a]) in flat.as_chunks_mut::<3>().0.iter_mut().zip(image.as_chunks::<4>().0) {
        let a = u32::from(*a);
        let over = |value: &u8| ((u32::from(*value) * a + 255 * (255 - a) + 127) / 255) as u8;
        *to = [over(r), over(g), over(b)];
    }
    flat
}

fn damaged(error: impl std::fmt::Display) -> Error {
    let text = error.to_string();
    Error::Image(format!("damaged: {}", text.lines().next().unwrap_or_default()))
}

/// Where the cut lies, each from 0 (left, top) to 1 (right, bottom).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// From left to right.
    pub x: f64,
    /// From top to bottom.
    pub y: f64,
}

impl Window {
    /// The middle.
    pub const CENTER: Self = Self { x: 0.5, y: 0.5 };
}

/// Width and height once the shorter side has `short` pixels.
pub fn scaled(width: u32, height: u32, short: u32) -> (u32, u32) {
    let long =
        |long: u32, side: u32| (u64::from(short) * u64::from(long) / u64::from(side.max(1))) as u32;
    if width <= height {
        (short, long(height, width).max(short))
    } else {
        (long(width, height).max(short), short)
    }
}

/// Scales the shorter side to `size` with an antialiased bicubic filter and cuts a square of `size`:
/// RGB of size×size. Only the pixels of the square are computed.
///
/// # Errors
/// For an image without pixels.
pub fn fit(image: &RgbImage, size: u32, window: Window) -> Result<RgbImage> {
    cover(image, ImageSize::square(size), window)
}

/// Scales the image until it just covers `size`, with an antialiased bicubic filter, and cuts that
/// size out of it: RGB of height×width. Only the pixels of the cut are computed.
///
/// # Errors
/// For an image without pixels.
pub fn cover(image: &RgbImage, size: ImageSize, window: Window) -> Result<RgbImage> {
    let (width, height) = covering(image.width(), image.height(), size);
    let cut = |length: u32, at: f64| (f64::from(length) * at).round_ties_even();
    let (left, top) = (cut(width - size.width, window.x), cut(height - size.height, window.y));
    let (sx, sy) = (
        f64::from(image.width()) / f64::from(width),
        f64::from(image.height()) / f64::from(height),
    );
    // fast_image_resize 6.1 reads outside of the image where it enlarges a cut whose first pixel
    // falls on a pixel of the source, so that the cut comes after the scaling there.
    if sx > 1.0 && sy > 1.0 {
        let (left, span) = inside(left * sx, f64::from(size.width) * sx, image.width());
        let (top, rows) = inside(top * sy, f64::from(size.height) * sy, image.height());
        return resample(image, size.width, size.height, Some([left, top, span, rows]));
    }
    let whole = resample(image, width, height, None)?;
    let (left, top) = (left as u32, top as u32);
    Ok(image::imageops::crop_imm(&whole, left, top, size.width, size.height).to_image())
}

/// Width and height once an image of this width and height just covers `size`.
fn covering(width: u32, height: u32, size: ImageSize) -> (u32, u32) {
    let (w, h) = (u64::from(width.max(1)), u64::from(height.max(1)));
    let (to_width, to_height) = (u64::from(size.width), u64::from(size.height));
    if w * to_height <= h * to_width {
        (size.width, ((to_width * h / w) as u32).max(size.height))
    } else {
        (((to_height * w / h) as u32).max(size.width), size.height)
    }
}

/// A span within 0..side in spite of rounding.
fn inside(from: f64, length: f64, side: u32) -> (f64, f64) {
    let side = f64::from(side);
    let length = length.min(side);
    let mut from = from.clamp(0.0, side - length);
    while from + length > side {
        from = from.next_down();
    }
    (from, length)
}

/// Scales the whole image so that the shorter side has `short` pixels (antialiased bicubic).
///
/// # Errors
/// For an image without pixels.
pub fn shrink(image: &RgbImage, short: u32) -> Result<RgbImage> {
    let (width, height) = scaled(image.width(), image.height(), short);
    resample(image, width, height, None)
}

fn resample(image: &RgbImage, width: u32, height: u32, cut: Option<[f64; 4]>) -> Result<RgbImage> {
    thread_local! {
        static RESIZER: RefCell<resize::Resizer> = RefCell::new(resize::Resizer::new());
    }
    let failed = |error: &dyn std::fmt::Display| Error::Image(format!("not resizable: {error}"));
    let source = resize::images::ImageRef::new(
        image.width(),
        image.height(),
        image.as_raw(),
        resize::PixelType::U8x3,
    )
    .map_err(|error| failed(&error))?;
    let mut target = resize::images::Image::new(width, height, resize::PixelType::U8x3);
    let filter = resize::ResizeAlg::Convolution(resize::FilterType::CatmullRom);
    let mut options = resize::ResizeOptions::new().resize_alg(filter);
    if let Some([left, top, width, height]) = cut {
        options = options.crop(left, top, width, height);
    }
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options))
        .map_err(|error| failed(&error))?;
    RgbImage::from_raw(width, height, target.into_vec())
        .ok_or_else(|| Error::Image("not resizable: no pixels".into()))
}

/// Encodes as PNG, fast and lossless.
///
/// # Errors
/// Never for an image that fits into memory.
pub fn png(image: &DynamicImage) -> Result<Vec<u8>> {
    use image::codecs::png::{CompressionType, FilterType, PngEncoder};
    let mut bytes = Vec::new();
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive);
    image
        .write_with_encoder(encoder)
        .map_err(|error| Error::Image(format!("not encodable: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
