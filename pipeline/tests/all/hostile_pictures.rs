//! Hostile pictures through ingest and every decoding function, and the bound on memory per pixel.

use std::fs;
use std::path::Path;

use pipeline::ImageSize;
use pipeline::image::{Limits, Window, decode, decode_full, decode_region, read};
use testkit::{House, hostile};

use crate::common::peak;

/// Kilobytes of address space: the program itself takes a part.
const SPACE: u64 = 2_000_000;

#[test]
fn ingest_refuses_each_in_one_line() {
    let house = House::new();
    fs::create_dir(house.path("all")).unwrap();
    for (number, file) in hostile::pictures(&house.path("all")).iter().enumerate() {
        let [source, out] = ["source", "out"].map(|name| format!("{name}-{number}"));
        fs::create_dir(house.path(&source)).unwrap();
        fs::rename(file, house.path(&source).join(file.file_name().unwrap())).unwrap();
        let arguments = ["ingest", &source, "--out", &out, "--layout", "folder"];
        hostile::refuses(&house, "pipeline", &arguments, file, SPACE);
    }
}

#[test]
fn every_way_to_a_decoder_refuses_each_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let files = hostile::pictures(folder.path());
    let before = peak();
    for file in &files {
        let bytes = match read(file, &Limits::DECODE) {
            Ok(bytes) => bytes,
            Err(error) => {
                assert!(error.to_string().contains(why_unread(file)), "{error}");
                continue;
            }
        };
        let size = ImageSize::square(8);
        assert!(decode(&bytes).is_err(), "{}", file.display());
        assert!(decode_full(&bytes).is_err(), "{}", file.display());
        // Of a JPEG a part may be whole.
        for fraction in [false, true] {
            let _ = decode_region(&bytes, size, Window::CENTER, fraction);
        }
    }
    // The largest takes 9000×9000 coefficients of 2 bytes, and as many pixels.
    assert!(peak() - before < 1 << 30, "{} bytes", peak() - before);
}

fn why_unread(file: &Path) -> &'static str {
    match file.ends_with("pipe.png") {
        true => "a pipe or a device",
        false => "too many bytes: 3221225472, at most 67108864",
    }
}

/// What [`Limits`] promises of memory, for the pixels that take the most.
#[test]
fn a_pixel_takes_sixteen_bytes_at_most() {
    let deep = image::DynamicImage::ImageRgba16(image::ImageBuffer::from_fn(2000, 1500, |x, y| {
        image::Rgba([x as u16 * 30, y as u16 * 40, 7, x as u16])
    }));
    let mut file = std::io::Cursor::new(Vec::new());
    deep.write_to(&mut file, image::ImageFormat::Png).unwrap();
    let clear = image::DynamicImage::from(deep.to_rgba8());
    drop(deep);
    let mut webp = std::io::Cursor::new(Vec::new());
    clear.write_to(&mut webp, image::ImageFormat::WebP).unwrap();
    drop(clear);
    for bytes in [webp.into_inner(), file.into_inner()] {
        fs::write("/proc/self/clear_refs", "5").unwrap_or_default();
        let before = peak();
        let full = decode_full(&bytes).unwrap();
        assert_eq!(full.flat.dimensions(), (2000, 1500));
        let taken = peak() - before;
        assert!(taken <= 16 * 2000 * 1500 + (4 << 20), "{taken} bytes");
    }
}
