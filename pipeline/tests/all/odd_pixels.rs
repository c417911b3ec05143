//! Files that are odd and whole, and files that are damaged and decode: what ingest makes of each.
//! Inputs are made here; the folder `data/odd` of the fixtures has others of the same kinds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use flate2::Crc;
use image::RgbImage;
use pipeline::Dataset;
use pipeline::image::{Limits, decode, decode_region, examine, jpeg, orientation};

use crate::common::{fixtures, peak, pipeline, place, run_ok};

/// A photograph of 96×64 pixels as PNG, WebP, JPEG.
fn photograph() -> RgbImage {
    RgbImage::from_fn(96, 64, |x, y| {
        image::Rgb([(x * 2 + y) as u8, (y * 3) as u8 ^ (x / 5) as u8, (x * y / 24) as u8])
    })
}

fn as_jpeg() -> Vec<u8> {
    jpeg::encode(&photograph(), 90, jpeg::Codec::default()).unwrap()
}

fn written(format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    photograph().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG chunk with its checksum, or another one.
fn chunk(name: &[u8; 4], body: &[u8], sound: bool) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(name);
    crc.update(body);
    let sum = if sound { crc.sum() } else { !crc.sum() };
    let length = body.len() as u32;
    [&length.to_be_bytes()[..], name, body, &sum.to_be_bytes()].concat()
}

/// `bytes` with something put in before the first place of `mark`.
fn before(bytes: &[u8], mark: &[u8], inserted: &[u8]) -> Vec<u8> {
    let at = bytes.windows(mark.len()).position(|window| window == mark).unwrap();
    [&bytes[..at], inserted, &bytes[at..]].concat()
}

/// Before the length in front of a chunk's name.
fn before_chunk(png: &[u8], name: &[u8; 4], inserted: &[u8]) -> Vec<u8> {
    let at = png.windows(4).position(|window| window == name).unwrap() - 4;
    [&png[..at], inserted, &png[at..]].concat()
}

/// The second half of an image whose pixels cannot all be there.
fn cut(jpeg: &[u8]) -> Vec<u8> {
    [&jpeg[..jpeg.len() * 6 / 10], &[0xff, 0xd9]].concat()
}

/// Ingests a folder; gives the stored keys, and by key why files were left out or listed.
fn ingested(
    folder: &Path,
    options: &[&str],
) -> (Dataset, Vec<String>, BTreeMap<String, String>, BTreeMap<String, String>) {
    let out = folder.with_file_name(format!("out{}", options.concat()));
    run_ok(pipeline().arg("ingest").arg(folder).arg("--out").arg(&out).args(options));
    let dataset = Dataset::open(&place(out.to_str().unwrap())).unwrap();
    let stored = dataset.records().map(|record| record.unwrap().key).collect();
    let by_key = |listed: Vec<pipeline::dataset::Rejected>| {
        listed.into_iter().map(|listed| (listed.key, listed.reason)).collect()
    };
    let rejects = by_key(dataset.rejects().unwrap());
    let noted = by_key(dataset.noted().unwrap());
    (dataset, stored, rejects, noted)
}

/// Damage that decodes is rejected in libjpeg's words, or kept and listed, and then it loads; what is
/// whole is stored, and listed where Pillow refuses it.
#[test]
fn damage_is_rejected_and_what_is_whole_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let (jpeg, png) = (as_jpeg(), written(image::ImageFormat::Png));
    let webp = written(image::ImageFormat::WebP);
    let mut taller = jpeg.clone();
    let frame = jpeg.windows(2).position(|mark| mark == [0xff, 0xc0]).unwrap();
    taller[frame + 6] += 32;
    let mut adler = png.clone();
    let idat = png.windows(4).position(|name| name == b"IDAT").unwrap();
    let length = u32::from_be_bytes(*png[idat - 4..].first_chunk().unwrap()) as usize;
    let body = [&png[idat + 4..idat + length], &[0, 0, 0, 0]].concat();
    adler.splice(idat - 4..idat + 8 + length, chunk(b"IDAT", &body, true));
    let mut riff = webp.clone();
    riff[4] += 2;
    let files: [(&str, Vec<u8>); 12] = [
        ("plain.jpg", jpeg.clone()),
        ("cut.jpg", cut(&jpeg)),
        ("taller.jpg", taller),
        ("no_eoi.jpg", jpeg[..jpeg.len() - 2].to_vec()),
        ("after.jpg", [&jpeg[..], b"junk"].concat()),
        ("stray_header.jpg", before(&jpeg, &[0xff, 0xdb], b"xy")),
        // libjpeg reads a few bytes ahead; what is among these it does not notice.
        ("stray_end.jpg", before(&jpeg, &[0xff, 0xd9], &b"wxyz".repeat(10))),
        ("plain.png", png.clone()),
        ("adler.png", adler),
        ("crc.png", before_chunk(&png, b"IDAT", &chunk(b"tEXt", b"a\0b", false))),
        ("plain.webp", webp),
        ("riff.webp", riff),
    ];
    for (name, bytes) in &files {
        fs::write(source.join(name), bytes).unwrap();
    }
    let (_, stored, rejects, noted) = ingested(&source, &[]);
    assert_eq!(rejects.keys().collect::<Vec<_>>(), ["cut.jpg", "taller.jpg"]);
    for reason in rejects.values() {
        assert!(
            reason.starts_with("damaged: Corrupt JPEG data: premature end of data segment"),
            "{reason}"
        );
    }
    assert_eq!(stored.len(), files.len() - 2);
    let expected = [
        ("adler.png", "kept, opens here, not in Pillow: Corrupt deflate stream"),
        ("crc.png", "kept, opens here, not in Pillow: the checksum of the chunk tEXt is wrong"),
        ("no_eoi.jpg", "kept, opens here, not in Pillow: the end mark is missing"),
        ("riff.webp", "kept, opens here, not in Pillow: the RIFF header announces"),
        ("stray_end.jpg", "kept with a remark: Corrupt JPEG data: "),
    ];
    assert_eq!(noted.len(), expected.len(), "{noted:?}");
    for (key, reason) in expected {
        assert!(noted[key].starts_with(reason), "{key}: {}", noted[key]);
    }

    let (dataset, stored, rejects, noted) = ingested(&source, &["--on-damage", "keep"]);
    assert_eq!((stored.len(), rejects.len(), noted.len()), (files.len(), 0, 7));
    let start = "kept although damaged: Corrupt JPEG data: premature end";
    assert!(noted["cut.jpg"].starts_with(start));
    assert_eq!((dataset.manifest().counts.noted, dataset.manifest().counts.rejected), (7, 0));
    for record in dataset.records() {
        let record = record.unwrap();
        let size = pipeline::ImageSize::square(32);
        let window = pipeline::image::Window::CENTER;
        let region = decode_region(&record.bytes, size, window, false).unwrap();
        assert_eq!(region.cut().unwrap().dimensions(), (32, 32), "{}", record.key);
    }
    let mut inspect = pipeline();
    inspect.arg("inspect").arg(source.with_file_name("out"));
    let shown = run_ok(&mut inspect);
    assert!(shown.contains("stored and listed") && shown.contains("not in Pillow"), "{shown}");
}

/// Copies have libjpeg's pixels, whatever the file is like: of the same pixels the same copy.
#[test]
fn copies_are_of_libjpegs_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let jpeg = as_jpeg();
    fs::write(source.join("a.jpg"), &jpeg).unwrap();
    fs::write(source.join("b.jpg"), before(&jpeg, &[0xff, 0xd9], b"wxyz")).unwrap();
    fs::write(source.join("c.jpg"), before(&jpeg, &[0xff, 0xdb], b"\xff\xd3")).unwrap();
    let (dataset, ..) = ingested(&source, &["--short-side", "32"]);
    let copies: Vec<_> = dataset.records().map(|record| record.unwrap().bytes).collect();
    assert_eq!(copies.len(), 3);
    assert!(copies.iter().all(|copy| *copy == copies[0]));
}

/// What a chunk inflates to is neither kept nor waited for, at ingest and at each load.
#[test]
fn metadata_of_a_png_takes_no_memory() {
    let png = written(image::ImageFormat::Png);
    let plain = decode(&png).unwrap();
    let mut deflated = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 200 << 20), &mut deflated).unwrap();
    let deflated = deflated.finish().unwrap();
    for (name, head) in [(b"iCCP", &b"p\0\0"[..]), (b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\x01\0\0\0")]
    {
        let bomb = before_chunk(&png, b"IDAT", &chunk(name, &[head, &deflated].concat(), true));
        let before = peak();
        let (decoded, _) = examine(&bomb, &Limits::INGEST).unwrap();
        assert!(decoded.image == plain);
        let why = decoded.refused_elsewhere.unwrap();
        assert!(why.contains("inflates to more than 1048576 bytes"), "{why}");
        assert!(decode(&bomb).unwrap() == plain);
        assert_eq!(orientation(&bomb), 1);
        assert!(peak() - before < 32 << 20, "{} bytes", peak() - before);
    }
}

/// Orientation as BYTE, SHORT and LONG, in both byte orders, and EXIF that makes no sense.
#[test]
fn orientation_is_a_number_of_any_length() {
    let tiff = |big: bool, kind: u16, count: u32, value: u32| {
        let short = |v: u16| if big { v.to_be_bytes() } else { v.to_le_bytes() };
        let long = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
        let mut field = match kind {
            1 => vec![value as u8],
            3 => short(value as u16).to_vec(),
            _ => long(value).to_vec(),
        };
        field.resize(4, 0);
        let magic: &[u8] = if big { b"MM\0*" } else { b"II*\0" };
        let tag = [&short(0x0112)[..], &short(kind), &long(count), &field].concat();
        [magic, &long(8), &short(1), &tag, &long(0)].concat()
    };
    let jpeg = as_jpeg();
    let with = |exif: &[u8]| {
        let body = [b"Exif\0\0", exif].concat();
        let length = (body.len() as u16 + 2).to_be_bytes();
        before(&jpeg, &[0xff, 0xdb], &[&[0xff, 0xe1][..], &length, &body].concat())
    };
    let png = written(image::ImageFormat::Png);
    for big in [false, true] {
        for kind in [1, 3, 4] {
            let exif = tiff(big, kind, 1, 6);
            assert_eq!(orientation(&with(&exif)), 6, "{big} {kind}");
            let inside = before_chunk(&png, b"IDAT", &chunk(b"eXIf", &exif, true));
            assert_eq!(orientation(&inside), 6, "{big} {kind}");
            for length in 0..exif.len() {
                let file = with(&exif[..length]);
                assert!(matches!(orientation(&file), 1 | 6));
                assert!(decode(&file).is_ok());
            }
        }
        for wrong in [tiff(big, 2, 1, 6), tiff(big, 4, 1, 70_000), tiff(big, 3, 0, 6)] {
            assert_eq!(orientation(&with(&wrong)), 1);
            assert!(decode(&with(&wrong)).is_ok());
        }
    }
}

/// The made inputs of the fixtures, with the right values of their list.
#[test]
fn odd_files_get_their_right_values() {
    let Some(fixtures) = fixtures() else { return };
    let odd = fixtures.join("data/odd");
    if !odd.exists() {
        println!("skipped: the fixtures have no data/odd");
        return;
    }
    let see = |name: &str| examine(&fs::read(odd.join(name)).unwrap(), &Limits::INGEST);
    for name in [
        "copies/noninterleaved.jpg",
        "copies/adobe_t0_with_jfif_ycc.jpg",
        "copies/ycc_ids_RGB_but_jfif.jpg",
        "copies/ycc_nonint_extra_bytes.jpg",
        "copies/exif_o6_long.jpg",
        "strict/two_bytes_before_dqt.jpg",
        "strict/junk_between_segments.jpg",
        "strict/rst_in_header.jpg",
        "strict/adobe_t3.jpg",
        "strict/valid_partinterleaved_restart.jpg",
        "strict/sample_3x1.jpg",
        "strict/gray_3x1.jpg",
    ] {
        let (decoded, _) = see(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((decoded.damage, decoded.refused_elsewhere), (None, None), "{name}");
    }
    for name in ["strict/cut_half_then_eoi.jpg", "strict/taller_than_data.jpg"] {
        let damage = see(name).unwrap().0.damage.unwrap();
        assert!(damage.contains("premature end of data segment"), "{name}: {damage}");
    }
    for (name, why) in [
        ("strict/no_eoi.jpg", "end mark"),
        ("strict/adler_bad.png", "deflate"),
        ("bomb/iccp_860MB_in_880kB.png", "iCCP"),
    ] {
        let decoded = see(name).unwrap().0;
        assert_eq!(decoded.damage, None, "{name}");
        assert!(decoded.refused_elsewhere.unwrap().contains(why), "{name}");
    }
    let error = see("strict/arithmetic.jpg").unwrap_err().to_string();
    assert_eq!(error, "not supported: arithmetic coding");
    assert_eq!(orientation(&fs::read(odd.join("copies/exif_o6_long.jpg")).unwrap()), 6);
}

/// Every kind of file that Pillow opens has Pillow's pixels here.
#[test]
fn pixels_are_pillows() {
    let (Some(fixtures), Some(python)) = (fixtures(), testkit::python(&["PIL"])) else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = "import sys\nfrom PIL import Image\nfor n, path in enumerate(sys.argv[2:]):\n    \
                  open(f'{sys.argv[1]}/{n}', 'wb').write(Image.open(path).convert('RGB').tobytes())";
    let mut files = Vec::new();
    for part in ["copies", "strict"] {
        let Ok(entries) = fs::read_dir(fixtures.join("data/odd").join(part)) else { continue };
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    files.push(fixtures.join("data/corrupt/cmyk.JPEG"));
    let refused = ["no_eoi.jpg", "adler_bad.png", "arithmetic.jpg"];
    files.retain(|path| !refused.contains(&path.file_name().unwrap().to_str().unwrap()));
    let mut command = std::process::Command::new(python);
    command.args(["-c", script]).arg(folder.path()).args(&files);
    assert!(command.status().unwrap().success());
    for (number, path) in files.iter().enumerate() {
        let theirs = fs::read(folder.path().join(number.to_string())).unwrap();
        let (decoded, _) = examine(&fs::read(path).unwrap(), &Limits::DECODE).unwrap();
        let worst = decoded.image.as_raw().iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max();
        assert_eq!(decoded.image.as_raw().len(), theirs.len());
        // Pillow rounds inks differently by one.
        let inks = path.ends_with("cmyk.JPEG");
        assert!(worst <= Some(u8::from(inks)), "{}: {worst:?}", path.display());
    }
}
