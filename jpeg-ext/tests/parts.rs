//! Parts against the whole, for every kind of JPEG that photographs come in, and damaged files.
#![allow(clippy::unwrap_used)]

use jpeg_ext::{Header, Pixels, Rectangle};
use mozjpeg::{ColorSpace, Compress};
use proptest::prelude::*;

/// A picture with edges and gradients in all colours, as JPEG.
fn encoded(size: (u32, u32), sampling: (u8, u8), progressive: bool, grey: bool) -> Vec<u8> {
    let (width, height) = (size.0 as usize, size.1 as usize);
    let channels = if grey { 1 } else { 3 };
    let pixels: Vec<u8> = (0..width * height * channels)
        .map(|at| {
            let (x, y, c) = (at / channels % width, at / channels / width, at % channels);
            ((x * (5 + 3 * c)) ^ (y * (7 + c) + (x / 9) * (y / 5) * 31)) as u8
        })
        .collect();
    let mut compress =
        Compress::new(if grey { ColorSpace::JCS_GRAYSCALE } else { ColorSpace::JCS_RGB });
    compress.set_fastest_defaults();
    compress.set_size(width, height);
    compress.set_quality(70.0);
    if !grey {
        compress.set_chroma_sampling_pixel_sizes(sampling, sampling);
    }
    if progressive {
        compress.set_progressive_mode();
    }
    let mut started = compress.start_compress(Vec::new()).unwrap();
    started.write_scanlines(&pixels).unwrap();
    started.finish().unwrap()
}

fn decode(
    file: &[u8],
    eighths: u8,
    part: impl FnOnce(u32, u32) -> Rectangle,
) -> Result<Pixels, jpeg_ext::Error> {
    let mut header = Header::read(file)?;
    header.scale(eighths);
    header.rgb(part)
}

/// The rectangle out of decoded pixels that hold it.
fn taken(from: &Pixels, wanted: Rectangle) -> Vec<u8> {
    let (left, top) = (wanted.left - from.part.left, wanted.top - from.part.top);
    (top..top + wanted.height)
        .flat_map(|row| {
            let at = 3 * (row * from.part.width + left) as usize;
            from.rgb[at..at + 3 * wanted.width as usize].iter().copied()
        })
        .collect()
}

/// A span of 0..side from two shares of it.
fn span(side: u32, a: f64, b: f64) -> (u32, u32) {
    let at = |share: f64| (share * f64::from(side)) as u32;
    let from = at(a.min(b)).min(side - 1);
    (from, (at(a.max(b)) - from).clamp(1, side - from))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_part_has_the_pixels_of_the_whole(
        size in (1u32..300, 1u32..200),
        sampling in prop::sample::select(vec![(1, 1), (2, 1), (1, 2), (2, 2)]),
        progressive: bool,
        grey: bool,
        eighths in prop::sample::select(vec![8, 8, 8, 4, 2, 1]),
        across in (0.0..1.0, 0.0..1.0),
        down in (0.0..1.0, 0.0..1.0),
    ) {
        let file = encoded(size, sampling, progressive, grey);
        let whole = decode(&file, eighths, Rectangle::whole).unwrap();
        prop_assert!(!whole.mended);
        let mut wanted = None;
        let part = decode(&file, eighths, |width, height| {
            let (left, width) = span(width, across.0, across.1);
            let (top, height) = span(height, down.0, down.1);
            *wanted.insert(Rectangle { left, top, width, height })
        }).unwrap();
        let wanted = wanted.unwrap();
        prop_assert_eq!(part.rgb.len(), 3 * (part.part.width * part.part.height) as usize);
        prop_assert!(taken(&part, wanted) == taken(&whole, wanted));
    }

    #[test]
    fn damage_is_told_and_never_a_crash(
        progressive: bool,
        hits in prop::collection::vec((0.0..1.0, any::<u8>()), 0..6),
        kept in 0.0..1.2,
    ) {
        let mut file = encoded((90, 70), (2, 2), progressive, false);
        let length = file.len();
        for (at, value) in &hits {
            file[(at * length as f64) as usize] = *value;
        }
        file.truncate((kept * length as f64) as usize);
        let Ok(header) = Header::read(&file) else { return Ok(()) };
        // A hit may have changed the size that the header announces.
        let (width, height) = header.size();
        if u64::from(width) * u64::from(height) < 1 << 22 && header.is_grey_or_ycbcr() {
            let _ = header.rgb(Rectangle::whole);
        }
    }
}

#[test]
fn files_that_end_early_are_errors() {
    let file = encoded((64, 64), (2, 2), false, false);
    assert!(decode(&file, 8, Rectangle::whole).is_ok());
    for length in [0, 1, 2, 3, 100, file.len() / 2, file.len() * 9 / 10] {
        assert!(decode(&file[..length], 8, Rectangle::whole).is_err(), "{length}");
    }
    // What lies below a part is not looked at.
    let top = Rectangle { left: 0, top: 0, width: 64, height: 4 };
    assert!(decode(&file[..file.len() * 9 / 10], 8, |_, _| top).is_ok());
}

#[test]
fn what_libjpeg_mends_is_told() {
    let mut file = encoded((64, 64), (2, 2), false, false);
    assert!(!decode(&file, 8, Rectangle::whole).unwrap().mended);
    // A restart mark in the middle of the pixels, where none belongs.
    let middle = file.len() - (file.len() / 3);
    file[middle..middle + 2].copy_from_slice(&[0xff, 0xd3]);
    assert!(decode(&file, 8, Rectangle::whole).unwrap().mended);
}

#[test]
fn parts_lie_inside() {
    let file = encoded((40, 30), (2, 2), false, false);
    for (left, top, width, height) in [
        (0, 0, 0, 1),
        (0, 0, 1, 0),
        (40, 0, 1, 1),
        (0, 30, 1, 1),
        (39, 0, 2, 1),
        (u32::MAX, 0, 2, 1),
    ] {
        let error = decode(&file, 8, |_, _| Rectangle { left, top, width, height }).unwrap_err();
        assert!(error.to_string().contains("not inside"), "{error}");
    }
}
