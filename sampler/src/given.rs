//! What of a picture comes back as it was given: known pixels in all their bits, transparency, colour profile.

use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage, Rgba};
use pictures::PngMeta;
use pipeline::image::Full;
use pipeline::{Result, Task};

/// What the outputs of a picture keep of it.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// RGB with alpha, or in 16 bits, or both; none of plain 8 bits.
    more: Option<DynamicImage>,
    profile: Option<Vec<u8>>,
}

impl Given {
    /// Of a picture that is restored in its own size.
    pub fn of(full: &Full) -> Self {
        Self { more: full.more.clone(), profile: full.profile.clone() }
    }

    /// Of a picture that is scaled or cut first: of more than 8 bits of RGB the transparency is left, scaled
    /// and cut as the picture is.
    ///
    /// # Errors
    /// Those of the scaling.
    pub fn framed(
        full: &Full,
        framed: &RgbImage,
        frame: impl FnOnce(&RgbImage) -> Result<RgbImage>,
    ) -> Result<Self> {
        let profile = full.profile.clone();
        let Some(more) = full.more.as_ref().filter(|more| more.color().has_alpha()) else {
            return Ok(Self { more: None, profile });
        };
        let own = more.to_rgba8();
        let alpha = frame(&RgbImage::from_fn(own.width(), own.height(), |x, y| {
            Rgb([own.get_pixel(x, y).0[3]; 3])
        }))?;
        let mut layered = DynamicImage::ImageRgb8(framed.clone()).into_rgba8();
        for (pixel, alpha) in layered.pixels_mut().zip(alpha.pixels()) {
            pixel.0[3] = alpha.0[0];
        }
        Ok(Self { more: Some(layered.into()), profile })
    }

    /// The hole of a picture out of which it was erased: 255 where it is transparent.
    pub fn erased(&self) -> Option<GrayImage> {
        let more = self.more.as_ref().filter(|more| more.color().has_alpha())?;
        Some(pipeline::masks::erased(more))
    }

    /// Keeps nothing but RGB in 8 bits; true where there was more.
    pub fn flatten(&mut self) -> bool {
        self.more.take().is_some()
    }

    /// Leaves the colour profile out; true where there was one.
    pub fn drop_profile(&mut self) -> bool {
        self.profile.take().is_some()
    }

    /// The output as a PNG file: what was made where `mask` is 1, else what was given. What was made of a hole
    /// is opaque; what was made of a whole picture is as transparent as it was.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn png(
        self,
        made: RgbImage,
        mask: &GrayImage,
        task: Task,
        text: Vec<(String, String)>,
    ) -> pictures::Result<Vec<u8>> {
        let hole = task.has_hole();
        let joined = match self.more {
            None => made.into(),
            Some(DynamicImage::ImageRgba8(mut own)) => {
                for ((own, made), mask) in own.pixels_mut().zip(made.pixels()).zip(mask.pixels()) {
                    if mask == &Luma([1]) {
                        let [r, g, b] = made.0;
                        *own = Rgba([r, g, b, if hole { u8::MAX } else { own.0[3] }]);
                    }
                }
                own.into()
            }
            Some(DynamicImage::ImageRgb16(mut own)) => {
                for ((own, made), mask) in own.pixels_mut().zip(made.pixels()).zip(mask.pixels()) {
                    if mask == &Luma([1]) {
                        *own = Rgb(made.0.map(deep));
                    }
                }
                own.into()
            }
            Some(more) => {
                let mut own = more.into_rgba16();
                for ((own, made), mask) in own.pixels_mut().zip(made.pixels()).zip(mask.pixels()) {
                    if mask == &Luma([1]) {
                        let [r, g, b] = made.0.map(deep);
                        *own = Rgba([r, g, b, if hole { u16::MAX } else { own.0[3] }]);
                    }
                }
                own.into()
            }
        };
        pictures::png_with(&joined, PngMeta { profile: self.profile, text })
    }
}

/// A value of 8 bits in 16.
fn deep(value: u8) -> u16 {
    u16::from(value) * 257
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> DynamicImage {
        image::load_from_memory(bytes).unwrap()
    }

    #[test]
    fn known_pixels_keep_their_bits_and_their_transparency() {
        let mask = GrayImage::from_fn(4, 2, |x, _| Luma([u8::from(x == 3)]));
        let made = RgbImage::from_pixel(4, 2, Rgb([1, 2, 3]));
        let deep = image::ImageBuffer::from_fn(4, 2, |x, y| {
            Rgba([x as u16 * 9999, 12_345, 3, if y == 0 { 777 } else { 65_535 }])
        });
        let given = Given { more: Some(DynamicImage::ImageRgba16(deep.clone())), profile: None };
        let file = given.clone().png(made.clone(), &mask, Task::Inpainting, Vec::new()).unwrap();
        let DynamicImage::ImageRgba16(output) = decoded(&file) else { panic!("16 bits, alpha") };
        for (x, y, pixel) in output.enumerate_pixels() {
            let expected = match x {
                3 => Rgba([257, 514, 771, 65_535]),
                _ => *deep.get_pixel(x, y),
            };
            assert_eq!(*pixel, expected, "{x} {y}");
        }
        let all = GrayImage::from_pixel(4, 2, Luma([1]));
        let file = given.png(made.clone(), &all, Task::Jpeg, Vec::new()).unwrap();
        let DynamicImage::ImageRgba16(output) = decoded(&file) else { panic!("16 bits, alpha") };
        assert_eq!(output.get_pixel(0, 0), &Rgba([257, 514, 771, 777]));

        let rgb16 = image::ImageBuffer::from_fn(4, 2, |x, _| Rgb([x as u16 + 1, 500, 60_001]));
        let given = Given { more: Some(DynamicImage::ImageRgb16(rgb16.clone())), profile: None };
        let file = given.png(made.clone(), &mask, Task::Uncropping, Vec::new()).unwrap();
        let DynamicImage::ImageRgb16(output) = decoded(&file) else { panic!("16 bits") };
        assert_eq!(output.get_pixel(2, 1), rgb16.get_pixel(2, 1));
        assert_eq!(output.get_pixel(3, 1), &Rgb([257, 514, 771]));

        let file = Given::default().png(made.clone(), &mask, Task::Inpainting, Vec::new()).unwrap();
        assert_eq!(decoded(&file), DynamicImage::ImageRgb8(made));
    }
}
