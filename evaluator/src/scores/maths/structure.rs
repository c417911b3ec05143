//! PSNR, SSIM (Wang et al. 2004) and multi-scale SSIM (Wang et al. 2003) of two pictures, data range 255,
//! over all three channels, with an 11×11 Gaussian of σ 1.5. As in torchmetrics, the luminance term is over
//! the picture with mirrored borders, contrast of the coarser scales only over whole windows.

use image::RgbImage;

/// Taps of the Gaussian.
const TAPS: usize = 11;
/// How far they reach.
const BORDER: usize = TAPS / 2;
const SIGMA: f32 = 1.5;
/// Weights of the scales, from the finest.
const WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];
const C1: f32 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f32 = (0.03 * 255.0) * (0.03 * 255.0);

/// Likeness in structure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Structure {
    /// SSIM, 1 for equal pictures.
    pub ssim: f64,
    /// Multi-scale SSIM over `scales` scales.
    pub ms_ssim: f64,
    /// Scales that the picture is large enough for: five from 176 pixels a side on. With fewer their
    /// weights are scaled to a sum of one.
    pub scales: usize,
}

/// Peak signal-to-noise ratio in dB with peak 255; infinite for equal pictures, none for pictures of
/// different sizes.
pub fn psnr(a: &RgbImage, b: &RgbImage) -> Option<f64> {
    if a.dimensions() != b.dimensions() || a.is_empty() {
        return None;
    }
    let squares: u64 = a.iter().zip(b.iter()).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    Some(10.0 * (255.0 * 255.0 * a.len() as f64 / squares as f64).log10())
}

/// SSIM and multi-scale SSIM; none for pictures of different sizes or smaller than the window.
pub fn structure(a: &RgbImage, b: &RgbImage) -> Option<Structure> {
    let (width, height) = (a.width() as usize, a.height() as usize);
    if a.dimensions() != b.dimensions() || width.min(height) < TAPS {
        return None;
    }
    let scales = (1..WEIGHTS.len()).take_while(|&s| width.min(height) >> s >= TAPS).count() + 1;
    let taps = gaussian();
    let mut pairs: Vec<[Plane; 2]> =
        (0..3).map(|channel| [Plane::of(a, channel), Plane::of(b, channel)]).collect();
    let total: f64 = WEIGHTS[..scales].iter().sum();
    let (mut ssim, mut product) = (0.0, 1.0);
    for (scale, weight) in WEIGHTS[..scales].iter().enumerate() {
        let (mut full, mut contrast) = (0.0, 0.0);
        for [a, b] in &pairs {
            let (of_full, of_contrast) = compare(a, b, &taps);
            full += of_full / 3.0;
            contrast += of_contrast / 3.0;
        }
        if scale == 0 {
            ssim = full;
        }
        let last = scale + 1 == scales;
        // Anticorrelated pictures have no root; the reference implementations take 0 as well.
        product *= (if last { full } else { contrast }).max(0.0).powf(weight / total);
        if !last {
            pairs = pairs.iter().map(|pair| pair.each_ref().map(Plane::half)).collect();
        }
    }
    Some(Structure { ssim, ms_ssim: product, scales })
}

/// One channel.
struct Plane {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Plane {
    /// With [`BORDER`] more pixels on each side, mirrored without repeating the outermost.
    fn mirrored(&self) -> Self {
        let (width, height) = (self.width + 2 * BORDER, self.height + 2 * BORDER);
        let inner = |at: usize, side: usize| {
            let from = at.abs_diff(BORDER);
            if from < side { from } else { 2 * (side - 1) - from }
        };
        let columns: Vec<usize> = (0..width).map(|x| inner(x, self.width)).collect();
        let mut values = Vec::with_capacity(width * height);
        for y in 0..height {
            let row = &self.values[inner(y, self.height) * self.width..][..self.width];
            values.extend(columns.iter().map(|&x| row[x]));
        }
        Self { width, height, values }
    }

    fn of(image: &RgbImage, channel: usize) -> Self {
        let values = image.pixels().map(|pixel| f32::from(pixel.0[channel])).collect();
        Self { width: image.width() as usize, height: image.height() as usize, values }
    }

    /// The mean of each 2×2 pixels; an odd last row or column is left out.
    fn half(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut values = Vec::with_capacity(width * height);
        for rows in self.values.chunks_exact(2 * self.width).take(height) {
            let (upper, lower) = rows.split_at(self.width);
            values.extend(
                upper
                    .chunks_exact(2)
                    .zip(lower.chunks_exact(2))
                    .map(|(u, l)| (u[0] + u[1] + l[0] + l[1]) / 4.0),
            );
        }
        Self { width, height, values }
    }
}

fn gaussian() -> [f32; TAPS] {
    let middle = BORDER as f32;
    let raw: [f32; TAPS] =
        std::array::from_fn(|tap| (-((tap as f32 - middle) / SIGMA).powi(2) / 2.0).exp());
    let sum: f32 = raw.iter().sum();
    raw.map(|tap| tap / sum)
}

/// Means of SSIM over all windows, and of its contrast-structure part over the whole ones.
fn compare(a: &Plane, b: &Plane, taps: &[f32; TAPS]) -> (f64, f64) {
    let (a, b) = (&a.mirrored(), &b.mirrored());
    let (width, height) = (a.width - TAPS + 1, a.height - TAPS + 1);
    // a, b, a², b², ab: first along the rows, then along the columns.
    let mut rows: [Vec<f32>; 5] = std::array::from_fn(|_| vec![0.0; width * a.height]);
    for y in 0..a.height {
        let line = y * a.width..(y + 1) * a.width;
        let (a, b) = (&a.values[line.clone()], &b.values[line]);
        let to = y * width..(y + 1) * width;
        let mut moment = |which: usize, value: &dyn Fn(usize) -> f32| {
            let values: Vec<f32> = (0..a.len()).map(value).collect();
            let sums = &mut rows[which][to.clone()];
            for (tap, weight) in taps.iter().enumerate() {
                for (sum, value) in sums.iter_mut().zip(&values[tap..]) {
                    *sum += weight * value;
                }
            }
        };
        moment(0, &|x| a[x]);
        moment(1, &|x| b[x]);
        moment(2, &|x| a[x] * a[x]);
        moment(3, &|x| b[x] * b[x]);
        moment(4, &|x| a[x] * b[x]);
    }
    let (mut full, mut contrast) = (0.0f64, 0.0f64);
    let mut sums: [Vec<f32>; 5] = std::array::from_fn(|_| vec![0.0; width]);
    for y in 0..height {
        for (sums, rows) in sums.iter_mut().zip(&rows) {
            sums.fill(0.0);
            for (tap, weight) in taps.iter().enumerate() {
                let row = &rows[(y + tap) * width..(y + tap + 1) * width];
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += weight * value;
                }
            }
        }
        let whole_row = (BORDER..height - BORDER).contains(&y);
        let [means_a, means_b, squares_a, squares_b, products] = &sums;
        let rows = means_a.iter().zip(means_b).zip(squares_a.iter().zip(squares_b)).zip(products);
        for (x, (((mean_a, mean_b), (square_a, square_b)), product)) in rows.enumerate() {
            let (aa, bb, ab) = (mean_a * mean_a, mean_b * mean_b, mean_a * mean_b);
            let structure = (2.0 * (product - ab) + C2) / (square_a - aa + square_b - bb + C2);
            if whole_row && (BORDER..width - BORDER).contains(&x) {
                contrast += f64::from(structure);
            }
            full += f64::from(structure * (2.0 * ab + C1) / (aa + bb + C1));
        }
    }
    let whole = ((width - 2 * BORDER) * (height - 2 * BORDER)) as f64;
    (full / (width * height) as f64, contrast / whole)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn noise(width: u32, height: u32, seed: u64) -> RgbImage {
        let mut rng = random::Rng::new(seed);
        RgbImage::from_fn(width, height, |_, _| Rgb([0; 3].map(|_: u8| rng.below(256) as u8)))
    }

    #[test]
    fn equal_pictures_are_entirely_alike() {
        let image = noise(170, 165, 1);
        let same = structure(&image, &image).unwrap();
        assert!((same.ssim - 1.0).abs() < 1e-6 && (same.ms_ssim - 1.0).abs() < 1e-6, "{same:?}");
        assert_eq!(same.scales, 4);
        assert_eq!(psnr(&image, &image), Some(f64::INFINITY));
    }

    #[test]
    fn scales_are_as_many_as_windows_fit() {
        for (side, scales) in [(11, 1), (21, 1), (22, 2), (64, 3), (176, 5), (256, 5)] {
            let (a, b) = (noise(side, side, 2), noise(side, side, 3));
            assert_eq!(structure(&a, &b).unwrap().scales, scales, "{side}");
        }
        assert_eq!(structure(&noise(10, 30, 1), &noise(10, 30, 1)), None);
        assert_eq!(structure(&noise(20, 30, 1), &noise(30, 20, 1)), None);
        assert_eq!(psnr(&noise(20, 30, 1), &noise(30, 20, 1)), None);
    }
}
