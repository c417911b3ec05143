//! EXIF orientation: which way up the camera was held, as its tag 1 to 8 says. Nothing but this tag is
//! read, and nothing is allocated; EXIF that makes no sense is passed over.

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::{Format, png, webp};

/// The EXIF orientation of an image file, 1 to 8 (JPEG APP1, PNG eXIf, WebP EXIF), stored as a whole
/// number of any length. 1 (upright) if it is absent or unreadable. Pixels are not decoded.
pub fn orientation(bytes: &[u8]) -> u8 {
    let exif = match Format::of(bytes) {
        Ok(Format::Jpeg) => in_jpeg(bytes),
        Ok(Format::Png) => {
            png::chunks(bytes).find(|(name, ..)| name == b"eXIf").map(|(_, body, _)| body)
        }
        Ok(Format::Webp) => {
            webp::chunks(bytes).find(|(name, ..)| name == b"EXIF").map(|(_, body, _)| body)
        }
        Err(_) => None,
    };
    // Some writers keep JPEG's prefix in the other formats.
    let exif = exif.map(|exif| exif.strip_prefix(PREFIX).unwrap_or(exif));
    exif.and_then(tag).unwrap_or(1)
}

/// What EXIF in a JPEG begins with.
const PREFIX: &[u8] = b"Exif\0\0";

/// The first EXIF segment before the pixels; stray bytes between segments are skipped, as libjpeg does.
fn in_jpeg(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(2..)?;
    loop {
        let mark = rest.iter().position(|&byte| byte == 0xff)?;
        let name = mark + rest[mark..].iter().position(|&byte| byte != 0xff)?;
        let kind = rest[name];
        rest = &rest[name + 1..];
        match kind {
            // Stuffed bytes and marks without a length.
            0 | 0x01 | 0xd0..=0xd8 => {}
            // Pixels begin, or the file ends.
            0xd9 | 0xda => return None,
            _ => {
                let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
                let body = rest.get(2..length)?;
                if kind == 0xe1 && body.starts_with(PREFIX) {
                    return Some(body);
                }
                rest = &rest[length..];
            }
        }
    }
}

/// The orientation in a TIFF file, which EXIF is: tag 0x0112 of the first folder.
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
        if long(at + 4)? == 0 {
            return None;
        }
        // Values of up to four bytes stand in the entry itself, from its first byte on.
        let value = match short(at + 2)? {
            // BYTE, SBYTE, UNDEFINED; SHORT, SSHORT; LONG, SLONG.
            1 | 6 | 7 => u32::from(*tiff.get(at + 8)?),
            3 | 8 => short(at + 8)?,
            4 | 9 => long(at + 8)?,
            _ => return None,
        };
        return u8::try_from(value).ok().filter(|value| (1..=8).contains(value));
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
