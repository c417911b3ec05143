//! A decoder of its own, from coefficients to RGB in f64: T.81's inverse transform, libjpeg's smooth
//! upsampling where it has one, JFIF's colours. Nothing is rounded before the end.

use crate::writer::{Colours, Component, Image};

/// Row and column of the zigzag's places.
fn zigzag() -> [(usize, usize); 64] {
    let mut places = [(0, 0); 64];
    let (mut row, mut column) = (0usize, 0usize);
    for place in &mut places {
        *place = (row, column);
        let up = (row + column) % 2 == 0;
        match (up, row, column) {
            (true, _, 7) => row += 1,
            (true, 0, _) => column += 1,
            (true, ..) => (row, column) = (row - 1, column + 1),
            (false, 7, _) => column += 1,
            (false, _, 0) => row += 1,
            (false, ..) => (row, column) = (row + 1, column - 1),
        }
    }
    places
}

/// RGB of an image.
pub fn rgb(image: &Image) -> Vec<f64> {
    let hmax = image.components.iter().map(|c| c.h).max().unwrap();
    let vmax = image.components.iter().map(|c| c.v).max().unwrap();
    let planes: Vec<_> = image
        .components
        .iter()
        .map(|part| {
            let width = (image.width * part.h).div_ceil(hmax) as usize;
            let height = (image.height * part.v).div_ceil(vmax) as usize;
            let plane = samples(part, &image.tables[usize::from(part.table)], width, height);
            enlarged(&plane, width, height, (hmax / part.h) as usize, (vmax / part.v) as usize)
        })
        .collect();
    let mut rgb = Vec::new();
    for y in 0..image.height as usize {
        for x in 0..image.width as usize {
            let at: Vec<f64> = planes.iter().map(|(plane, width)| plane[y * width + x]).collect();
            let clamp = |v: f64| v.clamp(0.0, 255.0);
            let ycc = || {
                let (cb, cr) = (at[1] - 128.0, at[2] - 128.0);
                [
                    clamp(at[0] + 1.402 * cr),
                    clamp(at[0] - 0.344_136 * cb - 0.714_136 * cr),
                    clamp(at[0] + 1.772 * cb),
                ]
            };
            let inked = |inks: [f64; 3]| inks.map(|ink| ink * at[3] / 255.0);
            rgb.extend(match image.colours {
                Colours::Grey => [at[0]; 3],
                Colours::Ycc => ycc(),
                Colours::Rgb => [at[0], at[1], at[2]],
                Colours::Cmyk => inked([at[0], at[1], at[2]]),
                Colours::Ycck => inked(ycc().map(|v| 255.0 - v)),
            });
        }
    }
    rgb
}

/// The samples of a component, 0 to 255.
fn samples(part: &Component, table: &[u8; 64], width: usize, height: usize) -> Vec<f64> {
    let places = zigzag();
    let wave = |k: usize, x: usize| {
        let scale = if k == 0 { 0.5f64.sqrt() } else { 1.0 };
        scale / 2.0 * ((2 * x + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos()
    };
    let waves: [[f64; 8]; 8] = std::array::from_fn(|k| std::array::from_fn(|x| wave(k, x)));
    let mut plane = vec![0.0; width * height];
    for by in 0..part.blocks.1 as usize {
        for bx in 0..part.blocks.0 as usize {
            let block = &part.coefficients[by * part.padded.0 as usize + bx];
            let mut out = [[128.0; 8]; 8];
            for (at, &value) in block.iter().enumerate().filter(|(_, value)| **value != 0) {
                let (row, column) = places[at];
                let size = f64::from(value * i32::from(table[at]));
                for (y, line) in out.iter_mut().enumerate() {
                    for (x, to) in line.iter_mut().enumerate() {
                        *to += size * waves[row][y] * waves[column][x];
                    }
                }
            }
            for (y, line) in out.iter().enumerate() {
                for (x, value) in line.iter().enumerate() {
                    let (x, y) = (8 * bx + x, 8 * by + y);
                    if x < width && y < height {
                        plane[y * width + x] = value.clamp(0.0, 255.0);
                    }
                }
            }
        }
    }
    plane
}

/// A plane enlarged `h` times in width and `v` times in height, and its new width: smooth at 2:1, 1:2 and 2:2 (3/4 of the nearer
/// sample and 1/4 of the further one), else repeated; libjpeg repeats planes of up to two columns too.
fn enlarged(plane: &[f64], width: usize, height: usize, h: usize, v: usize) -> (Vec<f64>, usize) {
    let smooth = match (h, v) {
        (2, 1 | 2) => width > 2,
        (1, 2) => true,
        _ => false,
    };
    let taps = |at: usize, times: usize, side: usize| -> [(usize, f64); 2] {
        let near = at / times;
        if !smooth || times == 1 {
            return [(near, 1.0), (near, 0.0)];
        }
        let far =
            if at.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(side - 1) };
        [(near, 0.75), (far, 0.25)]
    };
    let mut large = Vec::with_capacity(width * h * height * v);
    for y in 0..height * v {
        for x in 0..width * h {
            let mut value = 0.0;
            for (row, part) in taps(y, v, height) {
                for (column, share) in taps(x, h, width) {
                    value += part * share * plane[row * width + column];
                }
            }
            large.push(value);
        }
    }
    (large, width * h)
}
