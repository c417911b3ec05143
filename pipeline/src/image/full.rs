//! A picture with all that its file has: transparency, 16 bits, colour profile. For what comes back as it
//! was given; training and evaluation see [`super::decode`]'s 8 bits alone.

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, RgbImage};

use super::{Format, Limits, decode, gate, jpeg, orientation, png, rgb, rgb_of, webp};
use crate::Result;

/// Longest colour profile that is kept, in bytes.
const MAX_PROFILE: u64 = 4 << 20;

/// A picture, upright as its EXIF says.
#[derive(Clone, Debug)]
pub struct Full {
    /// What [`decode`] gives: 8 bits, transparency laid over white.
    pub flat: RgbImage,
    /// RGB with alpha, or in 16 bits, or both, where the file has them; grey is repeated.
    pub more: Option<DynamicImage>,
    /// The colour profile (ICC) of its RGB values.
    pub profile: Option<Vec<u8>>,
    /// What of the file cannot be kept, a line each.
    pub lost: Vec<String>,
}

/// Decodes an image file within [`Limits::DECODE`].
///
/// # Errors
/// As [`decode`].
pub fn decode_full(bytes: &[u8]) -> Result<Full> {
    let limits = &Limits::DECODE;
    gate::enter(bytes, limits, |format| full(bytes, limits, format))
}

fn full(bytes: &[u8], limits: &Limits, format: Format) -> Result<Full> {
    let mut image = match format {
        Format::Jpeg => DynamicImage::ImageRgb8(decode(bytes)?),
        Format::Png => png::decode_full(bytes, limits)?,
        Format::Webp => webp::decode_full(bytes, limits)?,
    };
    if let Some(turn) = Orientation::from_exif(orientation(bytes)) {
        image.apply_orientation(turn);
    }
    let mut lost = Vec::new();
    let profile = profile(bytes, format, &mut lost);
    // What is not needed is gone before the next copy is made: a picture of 16 bits has 8 bytes a pixel.
    let (flat, more) = match more(image) {
        Kept::Flat(image) => (rgb(image), None),
        Kept::More(image) => (rgb_of(&image), Some(image)),
    };
    Ok(Full { flat, more, profile, lost })
}

/// Pixels of 8 bits of RGB or grey, or such with more.
enum Kept {
    Flat(DynamicImage),
    More(DynamicImage),
}

/// The picture as it is kept: RGB with alpha, in 16 bits or both where it has more than 8 bits of RGB.
fn more(image: DynamicImage) -> Kept {
    let alpha = image.color().has_alpha();
    let is_clear = || match &image {
        DynamicImage::ImageLumaA8(image) => image.pixels().any(|pixel| pixel.0[1] < u8::MAX),
        DynamicImage::ImageRgba8(image) => image.pixels().any(|pixel| pixel.0[3] < u8::MAX),
        DynamicImage::ImageLumaA16(image) => image.pixels().any(|pixel| pixel.0[1] < u16::MAX),
        DynamicImage::ImageRgba16(image) => image.pixels().any(|pixel| pixel.0[3] < u16::MAX),
        _ => false,
    };
    let alpha = alpha && is_clear();
    let deep = matches!(
        image.color(),
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16
    );
    match (deep, alpha) {
        (false, false) => Kept::Flat(image),
        (false, true) => Kept::More(DynamicImage::ImageRgba8(image.into_rgba8())),
        (true, false) => Kept::More(DynamicImage::ImageRgb16(image.into_rgb16())),
        (true, true) => Kept::More(DynamicImage::ImageRgba16(image.into_rgba16())),
    }
}

/// The profile of a file where it is one of RGB; else why it is not kept.
fn profile(bytes: &[u8], format: Format, lost: &mut Vec<String>) -> Option<Vec<u8>> {
    let profile = match format {
        Format::Jpeg => in_jpeg(bytes)?,
        Format::Png => match png::profile(bytes, MAX_PROFILE) {
            Some(profile) => profile,
            None => {
                lost.extend(gamma(bytes));
                return None;
            }
        },
        Format::Webp => webp::chunks(bytes).find(|(name, ..)| name == b"ICCP")?.1.to_vec(),
    };
    let why = match profile.get(16..20) {
        _ if profile.len() as u64 > MAX_PROFILE => format!("it has over {MAX_PROFILE} bytes"),
        Some(b"RGB ") if profile.get(36..40) == Some(b"acsp") => return Some(profile),
        Some(space @ (b"GRAY" | b"CMYK")) => {
            format!("it is one of {} values", String::from_utf8_lossy(space).trim().to_lowercase())
        }
        _ => "it makes no sense".to_owned(),
    };
    lost.push(format!("its colour profile, because {why}"));
    None
}

/// A profile is in parts, each with its number and how many there are.
fn in_jpeg(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<(u8, &[u8])> = jpeg::segments(bytes, 0xe2, b"ICC_PROFILE\0")
        .filter_map(|part| match part {
            [number, _, rest @ ..] => Some((*number, rest)),
            _ => None,
        })
        .collect();
    parts.sort_by_key(|(number, _)| *number);
    (!parts.is_empty()).then(|| parts.iter().flat_map(|(_, part)| part.iter().copied()).collect())
}

/// What a PNG without profile says of its values, where that is not sRGB.
fn gamma(bytes: &[u8]) -> Option<String> {
    const SRGB: u32 = 45_455;
    let chunk = |wanted: &[u8; 4]| png::chunks(bytes).find(|(name, ..)| name == wanted);
    if chunk(b"sRGB").is_some() {
        return None;
    }
    let (_, body, _) = chunk(b"gAMA")?;
    let gamma = u32::from_be_bytes(*body.first_chunk()?);
    (gamma != SRGB).then(|| format!("its gamma of {:.4}", f64::from(gamma) / 100_000.0))
}
