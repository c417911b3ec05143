use pictures::png;

use std::io::Cursor;

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
    let mut bytes = Cursor::new(Vec::new());
    clear.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let bytes = bytes.into_inner();
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
    let bytes = png(&image).unwrap();
    let error = examine(&bytes, &Limits::INGEST).unwrap_err().to_string();
    assert_eq!(error, "too narrow: 10x400 pixels, at most 20:1");
    let small = Limits { pixels: 100, ..Limits::DECODE };
    assert!(examine(&bytes, &small).unwrap_err().to_string().starts_with("too many pixels"));
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

/// A file of the fixtures, or a line that says why the test is skipped.
fn fixture(name: &str) -> Option<Vec<u8>> {
    let Some(fixtures) = std::env::var_os("PALETTE_FIXTURES") else {
        println!("skipped: PALETTE_FIXTURES is not set");
        return None;
    };
    Some(std::fs::read(std::path::Path::new(&fixtures).join(name)).unwrap())
}

fn golden() -> Option<Vec<u8>> {
    fixture("golden/metrics.safetensors")
}

/// The photographs of ImageNet's validation archive.
fn photographs() -> Option<Vec<Vec<u8>>> {
    let archive = fixture("data/imagenet/ILSVRC2012_img_val.tar")?;
    let mut archive = tar::Archive::new(archive.as_slice());
    let files = archive.entries().unwrap().map(|entry| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry.unwrap(), &mut bytes).unwrap();
        bytes
    });
    Some(files.filter(|bytes| !bytes.is_empty()).collect())
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
    for (quality, near) in [(5, 1.5), (10, 0.8), (20, 0.5), (29, 0.4)] {
        let libjpeg = images(&format!("libjpeg.q{quality}"));
        // libjpeg-turbo's own code in both directions gives its pixels.
        for (codec, limit) in [("jpeg-encoder", near), ("libjpeg-turbo", 0.001)] {
            let evaluation: crate::Evaluation = format!("jpeg:{quality}:{codec}").parse().unwrap();
            let mean = references
                .iter()
                .zip(&libjpeg)
                .map(|(reference, expected)| {
                    let ours = evaluation.apply(reference, 0, "").unwrap().source;
                    difference(ours.as_raw(), expected.as_raw()) / references.len() as f64
                })
                .sum::<f64>();
            println!("quality {quality}, {codec}: {mean:.3} levels");
            assert!(mean <= limit, "quality {quality}, {codec}: {mean}");
        }
    }
    let grey = tensors.tensor("gray.bt601").unwrap();
    println!("gray.bt601 {:?} {:?}", grey.shape(), grey.dtype());
    let ours: Vec<f64> = references
        .iter()
        .flat_map(|reference| {
            let grey = crate::degrade::colorization::grey(reference);
            grey.pixels().map(|pixel| f64::from(pixel.0[0])).collect::<Vec<_>>()
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
    assert_eq!(worst, 0.0, "grey is the golden luma exactly");
}

/// The quantization tables of a JPEG file, in zigzag order.
fn tables(jpeg: &[u8]) -> Vec<Vec<u32>> {
    let mut tables = Vec::new();
    let mut at = 2;
    while jpeg[at + 1] != 0xda {
        let length = usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] == 0xdb {
            for table in jpeg[at + 4..at + 2 + length].chunks(65) {
                assert!(table[0] < 16, "steps of 8 bits");
                tables.push(table[1..].iter().map(|&step| u32::from(step)).collect());
            }
        }
        at += 2 + length;
    }
    tables
}

/// T.81's tables K.1 and K.2 in zigzag order.
const K1: [u32; 64] = [
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37,
    29, 40, 58, 51, 61, 60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81,
    87, 95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99,
];
const K2: [u32; 64] = [
    17, 18, 18, 24, 21, 24, 47, 26, 26, 47, 99, 66, 56, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// Quality 9 had 55 for 10 · 5.55 in f32, where libjpeg has 56.
#[test]
fn tables_are_libjpegs_at_every_quality() {
    let image = RgbImage::new(16, 16);
    for quality in 1..=100u8 {
        let q = u32::from(quality);
        let scale = if q < 50 { 5000 / q } else { 200 - 2 * q };
        let step = |basic: &u32| ((basic * scale + 50) / 100).clamp(1, 255);
        let expected = [K1, K2].map(|table| table.iter().map(step).collect::<Vec<_>>());
        let file = jpeg::encode(&image, quality, jpeg::Codec::default()).unwrap();
        assert_eq!(tables(&file), expected, "quality {quality}");
    }
}

/// Pillow's file of the same image has the same pixels, at every quality.
#[test]
fn jpeg_pixels_are_pillows_at_every_quality() {
    let Some(python) = testkit::python(&["PIL"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let photo = crate::scenes::scene(5, 96);
    std::fs::write(folder.path().join("in.png"), png(&photo).unwrap()).unwrap();
    let script = "import sys\nfrom PIL import Image\nat = sys.argv[1]\n\
        photo = Image.open(at + '/in.png').convert('RGB')\nfor q in range(1, 101):\n    \
        photo.save(f'{at}/{q}.jpg', quality=q, subsampling='4:2:0')\n    \
        open(f'{at}/{q}', 'wb').write(Image.open(f'{at}/{q}.jpg').tobytes())";
    let mut command = std::process::Command::new(python);
    assert!(command.args(["-c", script]).arg(folder.path()).status().unwrap().success());
    for quality in 1..=100u8 {
        let theirs = std::fs::read(folder.path().join(quality.to_string())).unwrap();
        let ours = jpeg::round_trip(&photo, quality, jpeg::Codec::default()).unwrap();
        assert!(*ours.as_raw() == theirs, "quality {quality}");
    }
}

const WINDOWS: [Window; 3] = [Window::CENTER, Window { x: 0.0, y: 0.3 }, Window { x: 1.0, y: 1.0 }];

/// Whatever is left out in decoding, a cut is that of the whole image, to the bit.
#[test]
fn a_cut_of_a_part_is_that_of_the_whole() {
    let Some(photographs) = photographs() else { return };
    let (mut parts, mut saved) = (0, 0);
    for bytes in &photographs {
        let whole = decode(bytes).unwrap();
        for size in
            [ImageSize::square(256), ImageSize::square(32), ImageSize { height: 64, width: 160 }]
        {
            for window in WINDOWS {
                let region = decode_region(bytes, size, window, false).unwrap();
                assert!(region.cut().unwrap() == cover(&whole, size, window).unwrap());
                parts += 1;
                saved += usize::from(region.image.as_raw().len() < whole.as_raw().len());
            }
        }
    }
    println!("{saved} of {parts} decoded in part");
    assert!(3 * saved > parts);
}

/// zune-jpeg sees the same photographs.
#[test]
fn another_decoder_sees_the_same_photographs() {
    use zune_jpeg::JpegDecoder;
    use zune_jpeg::zune_core::bytestream::ZCursor;
    let Some(photographs) = photographs() else { return };
    for bytes in &photographs {
        let ours = decode(bytes).unwrap();
        let theirs = JpegDecoder::new(ZCursor::new(bytes)).decode().unwrap();
        // Grey stays one channel there.
        if theirs.len() == ours.as_raw().len() {
            let mean = difference(ours.as_raw(), &theirs);
            assert!(mean < 0.5, "{mean} levels");
        }
    }
}

/// A JPEG at a fraction of its size, then scaled, is the whole one scaled.
#[test]
fn scaled_decoding_changes_nothing_that_matters() {
    let Some(photographs) = photographs() else { return };
    let (mut reduced, mut sum, mut worst) = (0, 0.0, 0.0f64);
    for bytes in &photographs {
        let whole = decode(bytes).unwrap();
        for short in [12, 16, 24, 32, 256] {
            for window in WINDOWS {
                let size = ImageSize::square(short);
                let some = decode_region(bytes, size, window, true).unwrap();
                let (ours, expected) = (some.cut().unwrap(), cover(&whole, size, window).unwrap());
                if some.scale == 1.0 {
                    assert!(ours == expected);
                    continue;
                }
                assert!(some.image.width().min(some.image.height()) >= jpeg::MARGIN * short);
                let mean = difference(ours.as_raw(), expected.as_raw());
                (reduced, sum, worst) = (reduced + 1, sum + mean, worst.max(mean));
            }
        }
    }
    let mean = sum / f64::from(reduced);
    println!("{reduced} reduced: mean {mean:.3} levels, worst {worst:.3}");
    assert!(reduced > 50);
    assert!(mean < 0.5 && worst < 2.0, "{mean} {worst}");
}

/// What ingest takes for damage [`decode`] refuses; a dataset's images are decoded as far as they go, since
/// ingest has decided that they are taken.
#[test]
fn damage_is_told_where_an_image_is_whole() {
    let Some(photographs) = photographs() else { return };
    let size = ImageSize::square(8);
    let [some, whole] = [true, false]
        .map(|fraction| move |bytes: &[u8]| decode_region(bytes, size, Window::CENTER, fraction));
    let bytes = &photographs[0];
    for part in [0, 2, 20] {
        assert!(decode(&bytes[..part]).is_err(), "{part}");
        assert!(some(&bytes[..part]).is_err(), "{part}");
    }
    for part in [bytes.len() / 4, bytes.len() / 2, bytes.len() * 9 / 10] {
        let cut = &bytes[..part];
        let error = decode(cut).unwrap_err().to_string();
        assert!(error.starts_with("damaged: Premature end of JPEG file"), "{error}");
        let (decoded, _) = examine(cut, &Limits::DECODE).unwrap();
        assert!(decoded.damage.is_some());
        let region = whole(cut).unwrap();
        assert!(region.cut().unwrap() == cover(&decoded.image, size, Window::CENTER).unwrap());
        assert!(some(cut).is_ok());
    }
    let mut junk = bytes.clone();
    junk.extend_from_slice(b"after the end");
    assert!(decode(&junk).unwrap() == decode(bytes).unwrap());
    let (decoded, _) = examine(&junk, &Limits::DECODE).unwrap();
    assert_eq!((decoded.damage, decoded.refused_elsewhere, decoded.remark), (None, None, None));
    let (decoded, _) = examine(&bytes[..bytes.len() - 2], &Limits::DECODE).unwrap();
    assert_eq!(decoded.damage, None);
    assert_eq!(decoded.refused_elsewhere.as_deref(), Some("the end mark is missing"));
}

#[test]
fn orientation_is_read_and_applied() {
    let upright = RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 0]));
    let corner = |orientation| apply_orientation(upright.clone(), orientation).get_pixel(0, 0).0;
    assert_eq!(apply_orientation(upright.clone(), 6).dimensions(), (2, 3));
    // The camera's tag says where the first pixel of the upright image lies in the file.
    let corners = [1, 2, 3, 4, 5, 6, 7, 8].map(corner);
    let (right, bottom) = (2, 1);
    let expected = [
        [0, 0, 0],
        [right, 0, 0],
        [right, bottom, 0],
        [0, bottom, 0],
        [0, 0, 0],
        [0, bottom, 0],
        [right, bottom, 0],
        [right, 0, 0],
    ];
    assert_eq!(corners, expected);
    assert_eq!(corner(0), [0, 0, 0]);
    assert_eq!(corner(9), [0, 0, 0]);
    for bytes in [&b""[..], b"\xff\xd8\xff", b"no image", &png(&upright).unwrap()] {
        assert_eq!(orientation(bytes), 1);
    }
    let Some(bytes) = fixture("data/corrupt/exif_rotated.JPEG") else { return };
    assert_eq!(orientation(&bytes), 6);
    let decoded = decode(&bytes).unwrap();
    let turned = apply_orientation(decoded.clone(), 6);
    assert_eq!(turned.dimensions(), (decoded.height(), decoded.width()));
    assert_eq!(turned.get_pixel(0, 0), decoded.get_pixel(0, decoded.height() - 1));
}
