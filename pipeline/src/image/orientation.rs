//! EXIF orientation: which way up the camera was held, as its tag 1 to 8 says. Nothing but this tag is
//! read; EXIF that makes no sense is passed over. Where EXIF has no such tag, XMP may (as in Pillow's
//! `getexif`).

use std::borrow::Cow;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::{Format, jpeg, png, webp};

/// The orientation of an image file, 1 to 8: EXIF of JPEG (APP1), PNG (eXIf, or the text `Raw profile type
/// exif` of ImageMagick) and WebP, stored as a number of any type; else what XMP says. 1 (upright) if it is
/// absent or unreadable. Pixels are not decoded.
pub fn orientation(bytes: &[u8]) -> u8 {
    let Ok(format) = Format::of(bytes) else { return 1 };
    let exif = match format {
        Format::Jpeg => segment(bytes, EXIF_SEGMENT, PREFIX).map(Cow::Borrowed),
        Format::Png => {
            let chunk = png::chunks(bytes).find(|(name, ..)| name == b"eXIf");
            chunk
                .map(|(_, body, _)| Cow::Borrowed(body))
                .or_else(|| png::raw_exif(bytes).map(Cow::Owned))
        }
        Format::Webp => webp_chunk(bytes, b"EXIF").map(Cow::Borrowed),
    };
    // Some writers keep JPEG's prefix in the other formats.
    let in_exif = exif.and_then(|exif| tag(exif.strip_prefix(PREFIX).unwrap_or(&exif)));
    let value = in_exif.or_else(|| {
        let xmp = match format {
            Format::Jpeg => segment(bytes, EXIF_SEGMENT, XMP),
            Format::Png => png::chunks(bytes)
                .filter(|(name, ..)| name == b"iTXt")
                .find_map(|(_, body, _)| body.strip_prefix(b"XML:com.adobe.xmp\0")),
            Format::Webp => webp_chunk(bytes, b"XMP "),
        };
        xmp.and_then(in_xmp)
    });
    value.filter(|value| (1..=8).contains(value)).unwrap_or(1)
}

fn segment<'a>(bytes: &'a [u8], kind: u8, prefix: &'static [u8]) -> Option<&'a [u8]> {
    jpeg::segments(bytes, kind, prefix).next()
}

fn webp_chunk<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    webp::chunks(bytes).find(|(other, ..)| other == name).map(|(_, body, _)| body)
}

/// APP1.
const EXIF_SEGMENT: u8 = 0xe1;

/// What EXIF and XMP in a JPEG begin with.
const PREFIX: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// `tiff:Orientation="6"` or `<tiff:Orientation>6<` in an XMP packet.
fn in_xmp(packet: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    packet.windows(NAME.len()).enumerate().filter(|(_, text)| *text == NAME).find_map(|(at, _)| {
        let rest = packet.get(at + NAME.len()..)?;
        let value = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?;
        value.first().filter(|digit| digit.is_ascii_digit()).map(|digit| digit - b'0')
    })
}

/// The orientation in a TIFF file, which EXIF is: tag 0x0112 of the first folder. None where there is no
/// such tag; 0 where its value makes no sense.
fn tag(tiff: &[u8]) -> Option<u8> {
    let big = match tiff.first_chunk()? {
        b"II*\0" => false,
        b"MM\0*" => true,
        _ => return None,
    };
    let short = |at: usize| -> Option<u32> {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(u32::from(if big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }))
    };
    let long = |at: usize| -> Option<u32> {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let folder = long(4)? as usize;
    let entries = (0..short(folder)? as usize).map(|entry| folder + 2 + 12 * entry);
    for at in entries {
        if short(at)? != 0x0112 {
            continue;
        }
        // Values of up to four bytes stand in the entry itself, from its first byte on; else where it says.
        let value = |kind: u32| -> Option<f64> {
            let there = long(at + 8)? as usize;
            Some(match kind {
                // BYTE, SBYTE, UNDEFINED; SHORT, SSHORT; LONG, SLONG.
                1 | 6 | 7 => f64::from(*tiff.get(at + 8)?),
                3 | 8 => f64::from(short(at + 8)?),
                4 | 9 => f64::from(long(at + 8)?),
                // RATIONAL, SRATIONAL; FLOAT; DOUBLE.
                5 | 10 => f64::from(long(there)?) / f64::from(long(there.checked_add(4)?)?),
                11 => f64::from(f32::from_bits(long(at + 8)?)),
                12 => {
                    let (one, two) = (long(there)?, long(there.checked_add(4)?)?);
                    let (high, low) = if big { (one, two) } else { (two, one) };
                    f64::from_bits(u64::from(high) << 32 | u64::from(low))
                }
                _ => return None,
            })
        };
        let value = value(short(at + 2)?).filter(|_| long(at + 4).is_some_and(|count| count > 0));
        let whole = value.filter(|value| (1.0..=8.0).contains(value) && value.fract() == 0.0);
        return Some(whole.map_or(0, |value| value as u8));
    }
    None
}

/// The image turned and mirrored to stand upright; one that is no orientation changes nothing.
pub fn apply_orientation(image: RgbImage, orientation: u8) -> RgbImage {
    match Orientation::from_exif(orientation) {
        None | Some(Orientation::NoTransforms) => image,
        Some(orientation) => {
            let mut image = DynamicImage::from(image);
            image.apply_orientation(orientation);
            image.into_rgb8()
        }
    }
}
