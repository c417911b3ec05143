//! From the bytes of an image file to 8-bit RGB of the wanted size. Headers are read and limits
//! checked before anything is allocated by them; no input makes it panic. All pictures go through `gate`.

mod full;
mod gate;
pub mod jpeg;
mod orientation;
mod png;
pub(crate) mod quad;
mod resize;
mod webp;

use image::{DynamicImage, RgbImage, RgbaImage};

pub use full::{Full, decode_full};
pub use gate::{Limits, read};
pub use orientation::{apply_orientation, orientation};
use resize::Cut;
pub(crate) use resize::resample;
pub use resize::{Window, cover, fit, scaled, shrink};

use crate::{Error, ImageSize, Result};

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
    gate::enter(bytes, limits, |format| {
        let decoded = match format {
            Format::Jpeg => jpeg::examine(bytes, limits)?,
            Format::Png => png::examine(bytes, limits)?,
            Format::Webp => webp::examine(bytes, limits)?,
        };
        Ok((decoded, format))
    })
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
    let cut = |(width, height)| Cut::new((width, height), size, window);
    gate::enter(bytes, limits, |format| {
        let image = match format {
            Format::Jpeg => {
                return jpeg::decode_region(bytes, limits, cut, fraction.then(|| size.long()));
            }
            Format::Png => png::decode(bytes, limits)?,
            Format::Webp => webp::decode(bytes, limits)?,
        };
        Ok(Region { cut: cut(image.dimensions()), image, corner: [0, 0], scale: 1.0 })
    })
}

/// To RGB; transparency is laid over white.
fn rgb(image: DynamicImage) -> RgbImage {
    match image.color().has_alpha() {
        false => image.into_rgb8(),
        true => over_white(&image.into_rgba8()),
    }
}

/// [`rgb`] of a picture that is kept.
fn rgb_of(image: &DynamicImage) -> RgbImage {
    match image.color().has_alpha() {
        false => image.to_rgb8(),
        true => over_white(&image.to_rgba8()),
    }
}

fn over_white(image: &RgbaImage) -> RgbImage {
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
