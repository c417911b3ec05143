//! Scores of one output against its reference, over the pixels that were to be generated: what was
//! given is right by construction and would only flatter the number.

use image::{GrayImage, RgbImage};

/// Sums over the generated pixels of one image, from which every score here follows; sums of
/// several images add up to the scores of the set.
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

    /// Adds another image's sums.
    pub fn add(&mut self, other: Self) {
        self.values += other.values;
        self.absolute += other.absolute;
        self.squared += other.squared;
    }

    /// Mean absolute error in levels of 0..255; `None` where nothing was generated.
    pub fn mean_absolute_error(&self) -> Option<f64> {
        (self.values > 0).then(|| self.absolute as f64 / self.values as f64)
    }

    /// Peak signal-to-noise ratio in dB with peak 255; `None` where nothing was generated or
    /// everything is equal.
    pub fn psnr(&self) -> Option<f64> {
        (self.values > 0 && self.squared > 0)
            .then(|| 10.0 * (255.0 * 255.0 * self.values as f64 / self.squared as f64).log10())
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
        assert_eq!(sums.mean_absolute_error(), Some(20.0 / 6.0));
        let psnr = 10.0 * (255.0_f64 * 255.0 * 6.0 / 200.0).log10();
        assert!((sums.psnr().unwrap() - psnr).abs() < 1e-12);
    }

    #[test]
    fn nothing_generated_has_no_score() {
        let image = RgbImage::new(2, 2);
        let sums = Sums::of(&image, &image, &GrayImage::new(2, 2)).unwrap();
        assert_eq!((sums.mean_absolute_error(), sums.psnr()), (None, None));
        assert_eq!(Sums::of(&image, &RgbImage::new(3, 2), &GrayImage::new(2, 2)), None);
    }
}
