//! Pictures of what is not one yet, and their PNG files.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{GrayImage, Rgb, RgbImage};

use crate::{Error, Result};

/// Encodes as PNG, fast and lossless.
///
/// # Errors
/// Never for a picture that fits into memory.
pub fn png(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive);
    picture.write_with_encoder(encoder).map_err(|error| Error::Encoding(error.to_string()))?;
    Ok(bytes)
}

/// The picture with this index, from 0, of `[B,H,W,3]`, as batches hold them.
pub fn from_batch(images: &[u8], index: usize, (height, width): (usize, usize)) -> RgbImage {
    let bytes = 3 * height * width;
    let mut picture = RgbImage::new(width as u32, height as u32);
    picture.copy_from_slice(&images[bytes * index..bytes * (index + 1)]);
    picture
}

/// A mask of 0 and 1 as a picture, white where pixels are to be generated.
pub fn from_mask(mask: &GrayImage) -> RgbImage {
    RgbImage::from_fn(mask.width(), mask.height(), |x, y| {
        Rgb([mask.get_pixel(x, y).0[0].min(1) * 255; 3])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_a_batch_and_masks_become_pictures() {
        let images: Vec<u8> = (0..2 * 3 * 2).collect();
        let second = from_batch(&images, 1, (1, 2));
        assert_eq!(second.as_raw(), &[6, 7, 8, 9, 10, 11]);
        let mask = GrayImage::from_raw(2, 1, vec![0, 1]).unwrap();
        assert_eq!(from_mask(&mask).as_raw(), &[0, 0, 0, 255, 255, 255]);
    }

    #[test]
    fn a_png_holds_every_pixel() {
        let picture = RgbImage::from_fn(5, 3, |x, y| Rgb([x as u8, y as u8, 77]));
        let read = image::load_from_memory(&png(&picture).unwrap()).unwrap();
        assert_eq!(read.into_rgb8(), picture);
    }
}
