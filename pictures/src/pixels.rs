//! Pictures of what is not one yet, and their PNG files.

use std::borrow::Cow;
use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{self as png_codec, CompressionType, PngEncoder};
use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, Rgb, RgbImage};
use png::{BitDepth, ColorType, Compression, Encoder, EncodingError, Info};

use crate::{Error, Result};

/// Encodes as PNG, fast and lossless.
///
/// # Errors
/// Never for a picture that fits into memory.
pub fn png(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(
        &mut bytes,
        CompressionType::Fast,
        png_codec::FilterType::Adaptive,
    );
    picture.write_with_encoder(encoder).map_err(|error| Error::Encoding(error.to_string()))?;
    Ok(bytes)
}

/// What a PNG file says of its pixels.
#[derive(Clone, Debug, Default)]
pub struct PngMeta {
    /// The colour profile (ICC) of its values; sRGB without.
    pub profile: Option<Vec<u8>>,
    /// Keywords, of up to 79 Latin letters, and texts.
    pub text: Vec<(String, String)>,
}

/// Encodes RGB or RGBA of 8 or 16 bits as PNG, fast and lossless.
///
/// # Errors
/// For other pixels, and for keywords that PNG has no place for.
pub fn png_with(picture: &DynamicImage, meta: PngMeta) -> Result<Vec<u8>> {
    let wrong = |error: &dyn std::fmt::Display| Error::Encoding(error.to_string());
    let (color, depth) = match picture {
        DynamicImage::ImageRgb8(_) => (ColorType::Rgb, BitDepth::Eight),
        DynamicImage::ImageRgba8(_) => (ColorType::Rgba, BitDepth::Eight),
        DynamicImage::ImageRgb16(_) => (ColorType::Rgb, BitDepth::Sixteen),
        DynamicImage::ImageRgba16(_) => (ColorType::Rgba, BitDepth::Sixteen),
        other => return Err(wrong(&format!("pixels of {:?}", other.color()))),
    };
    let mut info = Info::with_size(picture.width(), picture.height());
    (info.color_type, info.bit_depth) = (color, depth);
    info.icc_profile = meta.profile.map(Cow::Owned);
    // PNG has the higher byte first.
    let bytes: Cow<[u8]> = match depth {
        BitDepth::Sixteen => {
            let words = picture.as_bytes().as_chunks::<2>().0.iter();
            words
                .flat_map(|word| u16::from_ne_bytes(*word).to_be_bytes())
                .collect::<Vec<u8>>()
                .into()
        }
        _ => picture.as_bytes().into(),
    };
    let encode = || -> Result<Vec<u8>, EncodingError> {
        let mut file = Vec::new();
        let mut encoder = Encoder::with_info(&mut file, info)?;
        encoder.set_compression(Compression::Fast);
        encoder.set_filter(png::Filter::Adaptive);
        for (keyword, text) in meta.text {
            encoder.add_itxt_chunk(keyword, text)?;
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&bytes)?;
        writer.finish()?;
        Ok(file)
    };
    encode().map_err(|error| wrong(&error))
}

/// The text of a PNG file under a keyword, as [`png_with`] writes it; none in other files. Reads no pixels.
pub fn png_text(file: &[u8], keyword: &str) -> Option<String> {
    let reader = png::Decoder::new(Cursor::new(file)).read_info().ok()?;
    let found = reader.info().utf8_text.iter().find(|text| text.keyword == keyword);
    found.and_then(|text| text.get_text().ok())
}

/// Most pixels of a side of a [`thumbnail`].
pub const THUMBNAIL_SIDE: u32 = 96;

/// A small copy as JPEG, of at most [`THUMBNAIL_SIDE`] pixels a side and `most` bytes; a picture that is small already
/// is not made larger.
///
/// # Errors
/// Where not even the coarsest copy fits.
pub fn thumbnail(picture: &RgbImage, most: usize) -> Result<Vec<u8>> {
    let longest = picture.width().max(picture.height()).max(1);
    let scaled = |side: u32| ((side * THUMBNAIL_SIDE).div_ceil(longest)).clamp(1, THUMBNAIL_SIDE);
    let small = match longest > THUMBNAIL_SIDE {
        true => Cow::Owned(imageops::resize(
            picture,
            scaled(picture.width()),
            scaled(picture.height()),
            FilterType::Triangle,
        )),
        false => Cow::Borrowed(picture),
    };
    for quality in [85, 60, 30, 5] {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, quality)
            .encode_image(small.as_ref())
            .map_err(|error| Error::Encoding(error.to_string()))?;
        if bytes.len() <= most {
            return Ok(bytes);
        }
    }
    Err(Error::Encoding(format!("no thumbnail fits into {most} bytes")))
}

/// The picture with this index, from 0, of images `[B,H,W,3]`, as batches hold them.
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
    fn images_and_masks_become_pictures() {
        let images: Vec<u8> = (0..2 * 3 * 2).collect();
        let second = from_batch(&images, 1, (1, 2));
        assert_eq!(second.as_raw(), &[6, 7, 8, 9, 10, 11]);
        let mask = GrayImage::from_raw(2, 1, vec![0, 1]).unwrap();
        assert_eq!(from_mask(&mask).as_raw(), &[0, 0, 0, 255, 255, 255]);
    }

    #[test]
    fn thumbnails_are_small_and_keep_their_shape() {
        let noise = |width, height| {
            RgbImage::from_fn(width, height, |x, y| {
                let one = x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503);
                Rgb([one as u8, (one >> 8) as u8, (one >> 16) as u8])
            })
        };
        for (width, height, small) in
            [(96, 96, (96, 96)), (512, 256, (96, 48)), (3000, 2, (96, 1)), (5, 7, (5, 7))]
        {
            let bytes = thumbnail(&noise(width, height), 8192).unwrap();
            assert!(bytes.len() <= 8192);
            let read = image::load_from_memory(&bytes).unwrap();
            assert_eq!((read.width(), read.height()), small);
        }
        assert!(thumbnail(&noise(96, 96), 100).is_err());
    }

    #[test]
    fn a_file_says_what_it_is_told_to() {
        let picture =
            image::ImageBuffer::from_fn(5, 3, |x, y| Rgb([x as u16 * 9999, y as u16, 777]));
        let picture = DynamicImage::ImageRgb16(picture);
        let text = vec![("palette".to_owned(), "{\"key\":\"caf\u{e9} \u{4e2d}\"}".to_owned())];
        let profile = Some(vec![7; 500]);
        let file =
            png_with(&picture, PngMeta { profile: profile.clone(), text: text.clone() }).unwrap();
        assert_eq!(image::load_from_memory(&file).unwrap(), picture);
        assert_eq!(png_text(&file, "palette"), Some(text[0].1.clone()));
        assert_eq!(png_text(&file, "other"), None);
        assert_eq!(png_text(b"no file", "palette"), None);
        let reader = png::Decoder::new(Cursor::new(&file)).read_info().unwrap();
        assert_eq!(reader.info().icc_profile.as_deref(), profile.as_deref());
    }

    #[test]
    fn a_png_holds_every_pixel() {
        let picture = RgbImage::from_fn(5, 3, |x, y| Rgb([x as u8, y as u8, 77]));
        let read = image::load_from_memory(&png(&picture).unwrap()).unwrap();
        assert_eq!(read.into_rgb8(), picture);
    }
}
