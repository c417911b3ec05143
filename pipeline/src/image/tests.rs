use super::*;

#[test]
fn garbage_is_an_error_and_never_a_panic() {
    let heads: [&[u8]; 4] = [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b""];
    for head in heads {
        for length in 0..64 {
            let tail = (0..length).map(|i| (i * 37) as u8);
            let bytes: Vec<_> = head.iter().copied().chain(tail).collect();
            assert!(decode(&bytes).is_err());
        }
    }
}

#[test]
fn transparency_is_laid_over_white() {
    let clear = image::RgbaImage::from_pixel(8, 8, image::Rgba([10, 20, 30, 0]));
    let bytes = png(&clear.into()).unwrap();
    assert_eq!(decode(&bytes).unwrap().get_pixel(0, 0).0, [255; 3]);
}

#[test]
fn fit_takes_the_window_asked_for() {
    let image = RgbImage::from_fn(64, 32, |x, _| image::Rgb([(x * 4) as u8, 0, 0]));
    for (x, first) in [(0.0, 0), (0.5, 64), (1.0, 128)] {
        let fitted = fit(&image, 32, Window { x, y: 0.5 }).unwrap();
        assert_eq!(fitted.dimensions(), (32, 32));
        assert_eq!(fitted.get_pixel(0, 0).0[0], first);
    }
    assert_eq!(fit(&image, 100, Window::CENTER).unwrap().dimensions(), (100, 100));
}

#[test]
fn limits_are_checked_on_the_header() {
    let image = RgbImage::new(10, 400);
    let bytes = png(&image.into()).unwrap();
    let error = decode_within(&bytes, &Limits::INGEST).unwrap_err().to_string();
    assert_eq!(error, "too narrow: 10x400 pixels, at most 20:1");
    let small = Limits { pixels: 100, ..Limits::DECODE };
    assert!(decode_within(&bytes, &small).unwrap_err().to_string().starts_with("too many pixels"));
}
