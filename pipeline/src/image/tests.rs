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

/// Enlarging a cut read outside of the image (fast_image_resize 6.1, seen as a crash).
#[test]
fn every_size_and_window_is_safe() {
    for width in [8, 9, 16, 20, 31, 32, 33, 40, 64, 80] {
        for height in [8, 13, 16, 31, 32, 40, 64] {
            let image = RgbImage::from_pixel(width, height, image::Rgb([9, 90, 190]));
            for at in 0..=16 {
                let window = Window { x: f64::from(at) / 16.0, y: 1.0 - f64::from(at) / 16.0 };
                for size in [8, 32, 40] {
                    let fitted = fit(&image, size, window).unwrap();
                    assert_eq!(fitted.get_pixel(size - 1, 0).0, [9, 90, 190]);
                }
            }
        }
    }
}

fn golden() -> Option<Vec<u8>> {
    let Some(fixtures) = std::env::var_os("PALETTE_FIXTURES") else {
        println!("skipped: PALETTE_FIXTURES is not set");
        return None;
    };
    let path = std::path::Path::new(&fixtures).join("golden/metrics.safetensors");
    Some(std::fs::read(path).unwrap())
}

/// [H,W,3] or [3,H,W] of a golden tensor as an image.
fn picture(view: &safetensors::tensor::TensorView) -> RgbImage {
    let shape = view.shape();
    let data = view.data();
    if shape[2] == 3 {
        return RgbImage::from_raw(shape[1] as u32, shape[0] as u32, data.to_vec()).unwrap();
    }
    let plane = shape[1] * shape[2];
    RgbImage::from_fn(shape[2] as u32, shape[1] as u32, |x, y| {
        let at = y as usize * shape[2] + x as usize;
        image::Rgb([data[at], data[plane + at], data[2 * plane + at]])
    })
}

fn difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.len() as f64
}

#[test]
fn resizing_agrees_with_the_golden_pictures() {
    let Some(bytes) = golden() else { return };
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut compared = 0;
    for index in 0..100 {
        let Ok(input) = tensors.tensor(&format!("resize.{index}.input")) else { break };
        let expected = tensors.tensor(&format!("resize.{index}.short256_center")).unwrap();
        let fitted = fit(&picture(&input), 256, Window::CENTER).unwrap();
        let mean = difference(fitted.as_raw(), picture(&expected).as_raw());
        println!("resize.{index}: {mean:.3} levels");
        assert!(mean < 0.5, "resize.{index}: {mean}");
        compared += 1;
    }
    assert!(compared > 0);
}

#[test]
fn grey_and_jpeg_agree_with_the_golden_pictures() {
    let Some(bytes) = golden() else { return };
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let images = |name: &str| {
        let tensor = tensors.tensor(name).unwrap();
        let shape = tensor.shape().to_vec();
        let size: usize = shape[1..].iter().product();
        let data = tensor.data().to_vec();
        (0..shape[0])
            .map(|i| {
                let part = &data[i * size..(i + 1) * size];
                let view = safetensors::tensor::TensorView::new(
                    safetensors::Dtype::U8,
                    shape[1..].to_vec(),
                    part,
                );
                picture(&view.unwrap())
            })
            .collect::<Vec<_>>()
    };
    let references = images("images.reference");
    for (quality, limit) in [(5, 1.5), (10, 0.8), (20, 0.5), (29, 0.4)] {
        let libjpeg = images(&format!("libjpeg.q{quality}"));
        let mean = references
            .iter()
            .zip(&libjpeg)
            .map(|(reference, expected)| {
                let ours = crate::degrade::round_trip(reference, quality).unwrap();
                difference(ours.as_raw(), expected.as_raw()) / references.len() as f64
            })
            .sum::<f64>();
        println!("quality {quality}: {mean:.3} levels");
        assert!(mean <= limit, "quality {quality}: {mean}");
    }
    let grey = tensors.tensor("gray.bt601").unwrap();
    println!("gray.bt601 {:?} {:?}", grey.shape(), grey.dtype());
    let ours: Vec<f64> = references
        .iter()
        .flat_map(|reference| {
            let grey = crate::Evaluation::Colorization.apply(reference, 0, "").unwrap();
            grey.source.pixels().map(|pixel| f64::from(pixel.0[0])).collect::<Vec<_>>()
        })
        .collect();
    let expected: Vec<f64> = match grey.dtype() {
        safetensors::Dtype::U8 => grey.data().iter().map(|&v| f64::from(v)).collect(),
        safetensors::Dtype::F32 => grey
            .data()
            .chunks(4)
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect(),
        other => panic!("{other:?}"),
    };
    assert_eq!(ours.len(), expected.len());
    let worst = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= 1.0, "{worst}");
}
