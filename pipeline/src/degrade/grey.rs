//! Colorization: the source is the BT.601 luma, repeated three times.

use image::RgbImage;

/// Luma Y = 0.299 R + 0.587 G + 0.114 B, rounded, in all three channels.
pub fn grey(target: &RgbImage) -> RgbImage {
    let mut source = target.clone();
    for pixel in source.as_chunks_mut::<3>().0 {
        *pixel = [luma(*pixel); 3];
    }
    source
}

/// 16-bit fixed point; the three weights add up to 65536, so that white stays white.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b);
    ((sum + 32_768) >> 16) as u8
}
