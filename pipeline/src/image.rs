//! From the bytes of an image file to 8-bit RGB of the wanted size. Headers are read and limits
//! checked before anything is allocated by them; no input makes it panic.

mod full;
pub mod jpeg;
mod orientation;
mod png;
pub(crate) mod quad;
mod resize;
mod webp;

use image::{DynamicImage, RgbImage};

pub use full::{Full, decode_full};
pub use orientation::{apply_orientation, orientation};
use resize::Cut;
pub(crate) use resize::resample;
pub use resize::{Window, cover, fit, scaled, shrink};

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

    fn check_bytes(&self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 > self.bytes {
            let message = format!("too many bytes: {}, at most {}", bytes.len(), self.bytes);
            return Err(Error::Image(message));
        }
        Ok(())
    }

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
/// rounded to 8, transparency laid over white; EXIF orientation is not applied. Of a JPEG it gives
/// libjpeg-turbo's pixels, which are those of Pillow, OpenCV and torchvision.
///
/// # Errors
/// [`Error::Image`] with the reason: a limit, an unknown format, damage, also such as can be decoded.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    let (decoded, _) = examine(bytes, &Limits::DECODE)?;
    match decoded.damage {
        None => Ok(decoded.image),
        Some(damage) => Err(damaged(damage)),
    }
}

/// A whole image, and what is wrong with its file. The words are those of whoever noticed.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The pixels, as [`decode`] gives them.
    pub image: RgbImage,
    /// Pixels are missing or wrong: damage that could be decoded.
    pub damage: Option<String>,
    /// The pixels are whole, and other programs (Pillow, and with it Hugging Face `datasets`) refuse the
    /// file all the same.
    pub refused_elsewhere: Option<String>,
    /// The pixels are whole, and the file is odd in a way that others pass over as well.
    pub remark: Option<String>,
}

impl Decoded {
    fn sound(image: RgbImage) -> Self {
        Self { image, damage: None, refused_elsewhere: None, remark: None }
    }
}

/// Decodes an image file to RGB within the given limits, all of it, and tells what is wrong with the
/// file: what ingest does. Also tells the format.
///
/// # Errors
/// [`Error::Image`] with the reason: a limit, an unknown or unsupported format, damage that cannot be
/// decoded.
pub fn examine(bytes: &[u8], limits: &Limits) -> Result<(Decoded, Format)> {
    limits.check_bytes(bytes)?;
    let format = Format::of(bytes)?;
    let decoded = match format {
        Format::Jpeg => jpeg::examine(bytes, limits)?,
        Format::Png => png::examine(bytes, limits)?,
        Format::Webp => webp::examine(bytes, limits)?,
    };
    Ok((decoded, format))
}

/// As much of an image as a cut needs, decoded.
#[derive(Clone, Debug)]
pub struct Region {
    image: RgbImage,
    cut: Cut,
    /// Column and row of `image`'s first pixel, in pixels of the image at `scale`.
    corner: [u32; 2],
    scale: f64,
}

impl Region {
    /// The cut: the pixels that [`cover`] takes out of the whole image.
    ///
    /// # Errors
    /// For an image without pixels.
    pub fn cut(&self) -> Result<RgbImage> {
        self.cut.take(&self.image, self.corner, self.scale)
    }
}

/// [`decode`] of what [`cover`] needs for a cut of `size` at `window`, and no more where the format allows.
///
/// With `fraction` a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where its shorter side keeps at
/// least [`jpeg::MARGIN`] times that of the cut: for training from large originals, never for
/// evaluation.
///
/// Damage that can be decoded is decoded: a [`crate::Dataset`] compares the whole file with its digest, and
/// ingest decided whether it is taken (`--on-damage`).
///
/// # Errors
/// [`Error::Image`] with the reason: a limit, an unknown format, damage that cannot be decoded.
pub fn decode_region(
    bytes: &[u8],
    size: ImageSize,
    window: Window,
    fraction: bool,
) -> Result<Region> {
    let limits = &Limits::DECODE;
    limits.check_bytes(bytes)?;
    let cut = |(width, height)| Cut::new((width, height), size, window);
    let image = match Format::of(bytes)? {
        Format::Jpeg => {
            return jpeg::decode_region(bytes, limits, cut, fraction.then(|| size.long()));
        }
        Format::Png => png::decode(bytes, limits)?,
        Format::Webp => webp::decode(bytes, limits)?,
    };
    Ok(Region { cut: cut(image.dimensions()), image, corner: [0, 0], scale: 1.0 })
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

#[cfg(test)]
mod tests;
