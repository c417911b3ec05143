//! Scores of one output against its reference, over the pixels that were to be generated: what was
//! given is right by construction and would only flatter the number.

use image::{GrayImage, RgbImage};

use crate::scores::Own;

/// Sums over the generated pixels of one image; sums of several images add up to those of the set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Generated values: pixels times three channels.
    pub values: u64,
    /// Σ |output − reference|, in levels of 0..255.
    pub absolute: u64,
    /// Σ (output − reference)², in levels.
    pub squared: u64,
}

impl Sums {
    /// Compares one output with its reference where `mask` is not 0; `None` where the three do not
    /// have the same size.
    pub fn of(output: &RgbImage, reference: &RgbImage, mask: &GrayImage) -> Option<Self> {
        let size = output.dimensions();
        if size != reference.dimensions() || size != mask.dimensions() {
            return None;
        }
        let mut sums = Self::default();
        for ((output, reference), mask) in
            output.pixels().zip(reference.pixels()).zip(mask.pixels())
        {
            if mask.0[0] == 0 {
                continue;
            }
            for (a, b) in output.0.iter().zip(reference.0) {
                let difference = u64::from(a.abs_diff(b));
                sums.absolute += difference;
                sums.squared += difference * difference;
            }
            sums.values += 3;
        }
        Some(sums)
    }

    /// Absolute differences, in levels.
    pub fn absolute(self) -> Own {
        Own { sum: self.absolute as f64, values: self.values as f64 }
    }

    /// Squared differences, in levels squared.
    pub fn squared(self) -> Own {
        Own { sum: self.squared as f64, values: self.values as f64 }
    }
}

#[cfg(test)]
mod tests {
    use image::{Luma, Rgb};

    use super::*;

    #[test]
    fn only_generated_pixels_count() {
        let reference = RgbImage::from_pixel(4, 2, Rgb([100, 100, 100]));
        let mut output = reference.clone();
        let mut mask = GrayImage::new(4, 2);
        output.put_pixel(0, 0, Rgb([0, 0, 0]));
        output.put_pixel(1, 0, Rgb([110, 90, 100]));
        mask.put_pixel(1, 0, Luma([1]));
        mask.put_pixel(2, 0, Luma([1]));
        let sums = Sums::of(&output, &reference, &mask).unwrap();
        assert_eq!(sums, Sums { values: 6, absolute: 20, squared: 200 });
        assert_eq!(sums.absolute().value(), Some(20.0 / 6.0));
        assert_eq!(sums.squared(), Own { sum: 200.0, values: 6.0 });
    }

    #[test]
    fn nothing_generated_has_no_score() {
        let image = RgbImage::new(2, 2);
        let sums = Sums::of(&image, &image, &GrayImage::new(2, 2)).unwrap();
        assert_eq!((sums.absolute().value(), sums.squared().value()), (None, None));
        assert_eq!(Sums::of(&image, &RgbImage::new(3, 2), &GrayImage::new(2, 2)), None);
    }
}
