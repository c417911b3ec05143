//! How far a picture is from another.

use image::{Rgb, RgbImage};

use crate::{Error, Result};

/// Levels of a channel's difference that are shown as white.
pub const FULL: u8 = 64;

/// What is between two pictures.
#[derive(Clone, Debug)]
pub struct Difference {
    /// |a − b| of each channel, black where they are equal and white from [`FULL`] levels on.
    pub map: RgbImage,
    /// Peak signal-to-noise ratio in dB, 10·log₁₀(255² / mean squared difference); infinite where they are equal.
    pub psnr: f64,
}

/// Compares two pictures of one size.
///
/// # Errors
/// For pictures of two sizes.
pub fn difference(a: &RgbImage, b: &RgbImage) -> Result<Difference> {
    if a.dimensions() != b.dimensions() {
        let ((w, h), (x, y)) = (a.dimensions(), b.dimensions());
        return Err(Error::Sizes { first: format!("{w}x{h}"), second: format!("{x}x{y}") });
    }
    let mut map = RgbImage::new(a.width(), a.height());
    let mut squares = 0u64;
    for ((Rgb(a), Rgb(b)), Rgb(out)) in a.pixels().zip(b.pixels()).zip(map.pixels_mut()) {
        for ((a, b), out) in a.iter().zip(b).zip(out) {
            let between = a.abs_diff(*b);
            squares += u64::from(between) * u64::from(between);
            *out = (u16::from(between) * 255 / u16::from(FULL)).min(255) as u8;
        }
    }
    let mean = squares as f64 / (map.len().max(1)) as f64;
    Ok(Difference { map, psnr: 10.0 * (255.0 * 255.0 / mean).log10() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_measured_channel_by_channel() {
        let a = RgbImage::from_pixel(4, 2, Rgb([10, 200, 255]));
        let b = RgbImage::from_pixel(4, 2, Rgb([10, 190, 0]));
        let between = difference(&a, &b).unwrap();
        assert_eq!(between.map.get_pixel(0, 0), &Rgb([0, 39, 255]));
        let mean = f64::from(100 + 255 * 255) / 3.0;
        assert!((between.psnr - 10.0 * (65025.0 / mean).log10()).abs() < 1e-9);
        assert_eq!(difference(&a, &a).unwrap().psnr, f64::INFINITY);
        let other = RgbImage::new(2, 4);
        assert!(difference(&a, &other).unwrap_err().to_string().contains("4x2 and 2x4"));
    }
}
