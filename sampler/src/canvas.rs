//! Pictures that are not of the network's size. A larger one is denoised in windows of the network's
//! side, all together; a smaller one is continued by its mirror image, to the right and below, until
//! it fills a window.

use diffusion::Windows;
use image::{ImageBuffer, Pixel, RgbImage};
use pipeline::degrade::Degraded;

/// A picture at least as large as a window.
pub fn canvas(degraded: &Degraded, side: u32) -> Degraded {
    Degraded { source: mirrored(&degraded.source, side), mask: mirrored(&degraded.mask, side) }
}

/// How a canvas is cut, `batch` windows going through the network at once: neighbours share a
/// quarter of their side.
pub fn windows(side: u32, batch: usize) -> Windows {
    Windows { side, overlap: side / 4, batch }
}

/// The picture that the canvas was made of.
pub fn cut(canvas: &RgbImage, width: u32, height: u32) -> RgbImage {
    image::imageops::crop_imm(canvas, 0, 0, width, height).to_image()
}

fn mirrored<P: Pixel<Subpixel = u8> + 'static>(
    image: &ImageBuffer<P, Vec<u8>>,
    side: u32,
) -> ImageBuffer<P, Vec<u8>> {
    let (width, height) = image.dimensions();
    if width.min(height) >= side {
        return image.clone();
    }
    ImageBuffer::from_fn(width.max(side), height.max(side), |x, y| {
        *image.get_pixel(reflected(x, width), reflected(y, height))
    })
}

/// The place within `length` that `at` beyond it mirrors; the last pixel is its own neighbour.
fn reflected(at: u32, length: u32) -> u32 {
    let place = at % (2 * length);
    if place < length { place } else { 2 * length - 1 - place }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma, Rgb};

    use super::*;

    #[test]
    fn small_pictures_go_on_as_their_mirror_image() {
        let row: Vec<u32> = (0..9).map(|at| reflected(at, 3)).collect();
        assert_eq!(row, [0, 1, 2, 2, 1, 0, 0, 1, 2]);
        let source = RgbImage::from_fn(3, 20, |x, y| Rgb([x as u8, y as u8, 7]));
        let mask = GrayImage::from_fn(3, 20, |x, _| Luma([u8::from(x == 2)]));
        let canvas = canvas(&Degraded { source: source.clone(), mask }, 8);
        assert_eq!(canvas.source.dimensions(), (8, 20));
        assert_eq!(canvas.source.get_pixel(3, 5), &Rgb([2, 5, 7]));
        assert_eq!(canvas.mask.get_pixel(3, 5), &Luma([1]));
        assert_eq!(cut(&canvas.source, 3, 20), source);
    }

    #[test]
    fn pictures_without_a_second_pixel_fill_a_window_too() {
        let one = Degraded::whole(RgbImage::from_pixel(1, 1, Rgb([9, 8, 7])));
        let canvas = canvas(&one, 16);
        assert!(canvas.source.pixels().all(|pixel| pixel == &Rgb([9, 8, 7])));
        assert_eq!(canvas.source.dimensions(), (16, 16));
    }
}
