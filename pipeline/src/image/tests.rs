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

/// A PNG with chunks before its pixels, without their checksums being right.
fn with_chunk(png: &[u8], name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(name);
    crc.update(body);
    let chunk =
        [&(body.len() as u32).to_be_bytes(), &name[..], body, &crc.sum().to_be_bytes()].concat();
    [&png[..33], &chunk, &png[33..]].concat()
}

#[test]
fn orientation_is_a_number_of_any_type_or_of_xmp() {
    // A TIFF folder of one entry; values of more than four bytes stand behind it.
    let tiff = |kind: u16, value: &[u8]| {
        let mut tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01".to_vec();
        tiff.extend(kind.to_le_bytes());
        tiff.extend(1_u32.to_le_bytes());
        match value.len() {
            0..=4 => tiff.extend(value),
            _ => tiff.extend(26_u32.to_le_bytes()),
        }
        tiff.resize(26, 0);
        tiff.extend(value);
        tiff
    };
    let upright = png(&RgbImage::new(8, 8)).unwrap();
    let of = |exif: &[u8]| orientation(&with_chunk(&upright, b"eXIf", exif));
    let rational = [6_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat();
    let cases: [(u16, &[u8], u8); 9] = [
        (3, &[6, 0], 6),
        (4, &[6, 0, 0, 0], 6),
        (5, &rational, 6),
        (10, &rational, 6),
        (11, &6_f32.to_le_bytes(), 6),
        (12, &6_f64.to_le_bytes(), 6),
        (11, &6.5_f32.to_le_bytes(), 1),
        (5, &[0; 8], 1),
        (2, b"6\0", 1),
    ];
    for (kind, value, expected) in cases {
        assert_eq!(of(&tiff(kind, value)), expected, "type {kind} {value:?}");
    }
    // As ImageMagick writes it.
    let digits: String = tiff(3, &[8, 0]).iter().map(|byte| format!("{byte:02x}")).collect();
    let (first, rest) = digits.split_at(40);
    let raw = format!("Raw profile type exif\0\nexif\n      28\n{first}\n{rest}\n");
    assert_eq!(orientation(&with_chunk(&upright, b"tEXt", raw.as_bytes())), 8);
    // XMP counts where EXIF says nothing.
    for packet in ["tiff:Orientation=\"3\"", "<tiff:Orientation>3</tiff:Orientation>"] {
        let text = format!("XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta {packet}>");
        let xmp = with_chunk(&upright, b"iTXt", text.as_bytes());
        assert_eq!(orientation(&xmp), 3);
        assert_eq!(orientation(&with_chunk(&xmp, b"eXIf", &tiff(3, &[6, 0]))), 6);
        assert_eq!(orientation(&with_chunk(&xmp, b"eXIf", &tiff(3, &[99, 0]))), 1);
        let app1 = format!("\0\0http://ns.adobe.com/xap/1.0/\0<x:xmpmeta {packet}>");
        let mut segment = app1.into_bytes();
        let length = segment.len() as u16;
        segment[..2].copy_from_slice(&length.to_be_bytes());
        assert_eq!(orientation(&[b"\xff\xd8\xff\xe1", &segment[..], b"\xff\xd9"].concat()), 3);
    }
}

#[test]
fn a_png_that_ends_behind_its_pixels_is_whole() {
    let picture = RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 5, y as u8 * 7, 77]));
    let file = png(&picture).unwrap();
    // Without a part of IEND, without all of it, without the checksum of the chunk, and of the pixels.
    for cut in [1, 11, 12, 14, 16, 20] {
        let (decoded, _) = examine(&file[..file.len() - cut], &Limits::DECODE).unwrap();
        assert_eq!(decoded.image, picture, "{cut}");
        assert!(decoded.remark.unwrap().contains("IEND"));
        assert_eq!(decode(&file[..file.len() - cut]).unwrap(), picture);
    }
    for cut in [file.len() / 2, file.len() - 40] {
        assert!(examine(&file[..file.len() - cut], &Limits::DECODE).is_err(), "{cut}");
    }
}

#[test]
fn an_animation_that_ends_within_a_frame_is_listed() {
    let mut still = std::io::Cursor::new(Vec::new());
    RgbImage::new(8, 8).write_to(&mut still, image::ImageFormat::WebP).unwrap();
    let frame = still.into_inner().split_off(12);
    let chunk = |name: &[u8; 4], body: &[u8]| {
        let mut chunk = [&name[..], &(body.len() as u32).to_le_bytes(), body].concat();
        chunk.resize(chunk.len().next_multiple_of(2), 0);
        chunk
    };
    let place = [0, 0, 0, 0, 0, 0, 7, 0, 0, 7, 0, 0, 100, 0, 0, 0];
    let file = |last: &[u8]| {
        let whole = [&place[..], &frame].concat();
        let chunks = [
            chunk(b"VP8X", &[2, 0, 0, 0, 7, 0, 0, 7, 0, 0]),
            chunk(b"ANIM", &[0; 6]),
            chunk(b"ANMF", &whole),
            last.to_vec(),
        ]
        .concat();
        [b"RIFF", &(chunks.len() as u32 + 4).to_le_bytes()[..], b"WEBP", &chunks].concat()
    };
    let whole = chunk(b"ANMF", &[&place[..], &frame].concat());
    let listed = |file: &[u8]| examine(file, &Limits::DECODE).unwrap().0.refused_elsewhere;
    assert_eq!(listed(&file(&whole)), None);
    let within = listed(&file(&whole[..whole.len() - 10])).unwrap();
    assert!(within.contains("ends within a chunk"), "{within}");
    let frame = [&place[..], &frame[..frame.len() - 6]].concat();
    let nested = listed(&file(&chunk(b"ANMF", &frame))).unwrap();
    assert!(nested.contains("a frame of its animation"), "{nested}");
}
