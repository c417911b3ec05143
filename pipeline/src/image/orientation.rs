//! EXIF orientation: which way up the camera was held, as its tag 1 to 8 says.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, RgbImage};

use super::Format;

/// The EXIF orientation of an image file, 1 to 8 (JPEG APP1, PNG eXIf, WebP EXIF); 1, upright, where
/// there is none and where the file cannot be read. Pixels are not decoded.
pub fn orientation(bytes: &[u8]) -> u8 {
    use image::codecs::{jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder};
    let told = match Format::of(bytes) {
        Ok(Format::Jpeg) => of(JpegDecoder::new(Cursor::new(bytes))),
        Ok(Format::Png) => of(PngDecoder::new(Cursor::new(bytes))),
        Ok(Format::Webp) => of(WebPDecoder::new(Cursor::new(bytes))),
        Err(_) => None,
    };
    told.unwrap_or(Orientation::NoTransforms).to_exif()
}

fn of<D: ImageDecoder>(decoder: image::ImageResult<D>) -> Option<Orientation> {
    decoder.ok()?.orientation().ok()
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
