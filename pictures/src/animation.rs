//! Animated PNG files that repeat.

use image::RgbImage;
use png::{BitDepth, ColorType, Encoder, EncodingError};

use crate::{Error, Result};

/// Encodes pictures of one size as an animation: each is shown for 80 ms, the last for two seconds.
///
/// # Errors
/// Without a picture, and for pictures of several sizes or without pixels.
pub fn animation(frames: &[RgbImage]) -> Result<Vec<u8>> {
    let Some(last) = frames.last() else { return Err(Error::Empty) };
    let (width, height) = last.dimensions();
    if frames.iter().any(|frame| frame.dimensions() != (width, height)) {
        return Err(Error::Encoding("frames of an animation differ in size".into()));
    }
    encode(frames, width, height).map_err(|error| Error::Encoding(error.to_string()))
}

fn encode(frames: &[RgbImage], width: u32, height: u32) -> Result<Vec<u8>, EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_animated(frames.len() as u32, 0)?;
    encoder.set_frame_delay(80, 1000)?;
    let mut writer = encoder.write_header()?;
    for (index, frame) in frames.iter().enumerate() {
        if index + 1 == frames.len() {
            writer.set_frame_delay(2000, 1000)?;
        }
        writer.write_image_data(frame.as_raw())?;
    }
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn an_animation_has_all_its_frames() {
        let frames: Vec<RgbImage> =
            (0..5).map(|n| RgbImage::from_pixel(6, 4, image::Rgb([n * 50, 0, 9]))).collect();
        let bytes = animation(&frames).unwrap();
        let mut reader = png::Decoder::new(Cursor::new(&bytes)).read_info().unwrap();
        assert_eq!(reader.info().animation_control().unwrap().num_frames, 5);
        let mut buffer = vec![0; reader.output_buffer_size().unwrap()];
        for frame in &frames {
            reader.next_frame(&mut buffer).unwrap();
            assert_eq!(&buffer, frame.as_raw());
        }
    }

    #[test]
    fn frames_of_several_sizes_are_an_error() {
        assert!(animation(&[RgbImage::new(6, 4), RgbImage::new(4, 6)]).is_err());
        assert!(animation(&[]).is_err());
    }
}
