//! Parts against the whole, for every kind of JPEG that photographs come in, and damaged files.
#![allow(clippy::unwrap_used)]

use jpeg_ext::{Header, Kind, Pixels, Rectangle};
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
        prop_assert!(whole.warnings.is_empty());
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
        if u64::from(width) * u64::from(height) < 1 << 22 {
            let _ = header.rgb(Rectangle::whole);
        }
    }
}

/// What libjpeg says of a file when all of it is read.
fn warnings(file: &[u8]) -> Vec<(Kind, String)> {
    let pixels = Header::read(file).unwrap().whole().unwrap();
    pixels.warnings.into_iter().map(|warning| (warning.kind, warning.text)).collect()
}

#[test]
fn files_that_end_early_are_damaged() {
    for progressive in [false, true] {
        let file = encoded((64, 64), (2, 2), progressive, false);
        assert_eq!(warnings(&file), []);
        for length in [0, 1, 2, 3, 100] {
            assert!(Header::read(&file[..length]).is_err(), "{length}");
        }
        for length in [file.len() / 2, file.len() * 9 / 10, file.len() - 8] {
            let said = warnings(&file[..length]);
            let end = (Kind::Damage, "Premature end of JPEG file".to_owned());
            assert!(said.contains(&end), "{length}: {said:?}");
            // With an end mark behind it, it is damaged as well.
            let closed = [&file[..length], &[0xff, 0xd9]].concat();
            assert!(warnings(&closed).iter().any(|(kind, _)| *kind == Kind::Damage), "{length}");
        }
        let said = warnings(&file[..file.len() - 2]);
        assert_eq!(said, [(Kind::NoEnd, "Premature end of JPEG file".to_owned())]);
    }
    // What is below a part is not looked at.
    let file = encoded((64, 64), (2, 2), false, false);
    let top = Rectangle { left: 0, top: 0, width: 64, height: 4 };
    let pixels = decode(&file[..file.len() * 9 / 10], 8, |_, _| top).unwrap();
    assert_eq!(pixels.warnings, []);
}

#[test]
fn damage_and_stray_bytes_are_told_apart() {
    let file = encoded((64, 64), (2, 2), false, false);
    let whole = decode(&file, 8, Rectangle::whole).unwrap();
    // A restart mark in the middle of the pixels, where none belongs.
    let mut restart = file.clone();
    let middle = file.len() - (file.len() / 3);
    restart[middle..middle + 2].copy_from_slice(&[0xff, 0xd3]);
    assert!(warnings(&restart).iter().any(|(kind, _)| *kind == Kind::Damage));
    let with = |at: usize, bytes: &[u8]| [&file[..at], bytes, &file[at..]].concat();
    for (file, kind) in
        [(with(2, b"junk"), Kind::Header), (with(file.len() - 2, b"junk"), Kind::Remark)]
    {
        let pixels = Header::read(&file).unwrap().whole().unwrap();
        assert_eq!(pixels.rgb, whole.rgb);
        let [warning] = &pixels.warnings[..] else { panic!("{:?}", pixels.warnings) };
        assert_eq!(warning.kind, kind);
        assert!(warning.text.contains(" extraneous bytes before marker"), "{}", warning.text);
    }
}

#[test]
fn what_is_not_supported_is_no_damage() {
    let file = encoded((64, 64), (2, 2), false, false);
    let frame = file.windows(2).position(|mark| mark == [0xff, 0xc0]).unwrap();
    for (at, value, words) in [
        (frame + 1, 0xc9, "arithmetic coding"),
        (frame + 1, 0xc3, "Unsupported JPEG process: SOF type 0xc3"),
        (frame + 4, 12, "Unsupported JPEG data precision 12"),
    ] {
        let mut file = file.clone();
        file[at] = value;
        let error = Header::read(&file).and_then(Header::whole).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.is_unsupported()), (words, true));
    }
}

/// A size that the bytes cannot fill is refused before it is allocated, and scans without end are.
#[test]
fn little_bytes_take_little_memory_and_time() {
    let mut file = encoded((64, 64), (2, 2), true, false);
    let frame = file.windows(2).position(|mark| mark == [0xff, 0xc2]).unwrap();
    file[frame + 5..frame + 9].copy_from_slice(&[0xf0, 0, 0xf0, 0]);
    let error = Header::read(&file).err().unwrap();
    assert!(error.to_string().contains("are too few for 61440x61440 pixels"), "{error}");

    let file = encoded((64, 64), (2, 2), true, false);
    let scan = file.windows(2).rposition(|mark| mark == [0xff, 0xda]).unwrap();
    let body = &file[scan..file.len() - 2];
    let many = [&file[..scan], &body.repeat(2000), &[0xff, 0xd9]].concat();
    let error = Header::read(&many).and_then(Header::whole).unwrap_err();
    assert_eq!(error.to_string(), "more than 1000 scans");
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
