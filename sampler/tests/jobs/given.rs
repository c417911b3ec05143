//! What was given comes back: bits, transparency, colour profile; masks as people draw them; no picture is
//! replaced.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use pictures::{PngMeta, png_with};
use testkit::House;

use crate::pictures::{hole, open, photo, run};

/// An ICC profile as far as anybody looks here.
fn profile(space: &[u8; 4]) -> Vec<u8> {
    let mut profile = vec![0; 200];
    profile[16..20].copy_from_slice(space);
    profile[36..40].copy_from_slice(b"acsp");
    profile
}

fn profile_of(file: &std::path::Path) -> Option<Vec<u8>> {
    let file = std::fs::File::open(file).unwrap();
    let reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
    reader.info().icc_profile.as_deref().map(<[u8]>::to_vec)
}

/// Standard error of a command that ends with status 0.
fn said(house: &House, arguments: &[&str]) -> String {
    let output = house.run("sampler", arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    stderr
}

const INPAINTING: [&str; 6] =
    ["--task", "inpainting", "--mask", "mask.png", "--input", "photo.png"];

#[test]
fn bits_transparency_and_profile_come_back() {
    let house = House::new();
    let checkpoint = house.trained();
    let (width, height) = (24, 20);
    hole(width, height).save(house.path("mask.png")).unwrap();
    let mask = hole(width, height);
    let deep = ImageBuffer::from_fn(width, height, |x, y| {
        Rgba([x as u16 * 2_700, y as u16 * 3_200 + 1, 77, if x < 3 { 1_000 } else { u16::MAX }])
    });
    let meta = PngMeta { profile: Some(profile(b"RGB ")), text: Vec::new() };
    let file = png_with(&DynamicImage::ImageRgba16(deep.clone()), meta).unwrap();
    std::fs::write(house.path("photo.png"), file).unwrap();
    house.ok("sampler", &run(&checkpoint, &INPAINTING));
    let output = house.path("photo-1.png");
    assert_eq!(profile_of(&output), Some(profile(b"RGB ")));
    let DynamicImage::ImageRgba16(read) = image::open(&output).unwrap() else { panic!("16 bits") };
    for (x, y, pixel) in read.enumerate_pixels() {
        match mask.get_pixel(x, y).0[0] {
            0 => assert_eq!(pixel, deep.get_pixel(x, y), "{x} {y}"),
            _ => assert_eq!(pixel.0[3], u16::MAX, "what is made is opaque"),
        }
    }
    // Scaled, it keeps its transparency in 8 bits, and says what it lost.
    let scaled = [&INPAINTING[..], &["--short-side", "16", "--out", "scaled"]].concat();
    let stderr = said(&house, &run(&checkpoint, &scaled));
    assert!(stderr.contains("not kept: its 16 bits, because it is scaled"), "{stderr}");
    let small = image::open(house.path("scaled/photo-1.png")).unwrap();
    let DynamicImage::ImageRgba8(small) = small else { panic!("8 bits, alpha") };
    assert!(small.get_pixel(0, 15).0[3] < 20 && small.get_pixel(15, 15).0[3] == 255);
    // Made colours are sRGB; a profile of grey values says nothing of RGB.
    let colour = ["--task", "colorization", "--input", "photo.png", "--out", "colour"];
    let stderr = said(&house, &run(&checkpoint, &colour));
    assert!(stderr.contains("not kept: its colour profile"), "{stderr}");
    assert_eq!(profile_of(&house.path("colour/photo-1.png")), None);
    let meta = PngMeta { profile: Some(profile(b"GRAY")), text: Vec::new() };
    let file = png_with(&DynamicImage::ImageRgb8(photo(width, height)), meta).unwrap();
    std::fs::write(house.path("photo.png"), file).unwrap();
    let grey = [&INPAINTING[..], &["--out", "grey"]].concat();
    let stderr = said(&house, &run(&checkpoint, &grey));
    assert!(stderr.contains("its colour profile, because it is one of gray values"), "{stderr}");
    // A JPEG has its profile in segments.
    let mut jpeg = Vec::new();
    photo(width, height)
        .write_to(&mut std::io::Cursor::new(&mut jpeg), image::ImageFormat::Jpeg)
        .unwrap();
    let part = [&b"ICC_PROFILE\0\x01\x01"[..], &profile(b"RGB ")].concat();
    let length = (part.len() as u16 + 2).to_be_bytes();
    let jpeg = [&jpeg[..2], b"\xff\xe2", &length, &part, &jpeg[2..]].concat();
    std::fs::write(house.path("camera.jpg"), jpeg).unwrap();
    let whole = ["--task", "jpeg", "--input", "camera.jpg"];
    house.ok("sampler", &run(&checkpoint, &whole));
    assert_eq!(profile_of(&house.path("camera-1.png")), Some(profile(b"RGB ")));
}

#[test]
fn masks_are_taken_as_people_draw_them() {
    let house = House::new();
    let checkpoint = house.trained();
    let (width, height) = (24, 20);
    let picture = photo(width, height);
    picture.save(house.path("photo.png")).unwrap();
    let mask = hole(width, height);
    let marked = |x, y| mask.get_pixel(x, y).0[0] > 0;
    mask.save(house.path("mask.png")).unwrap();
    house.ok("sampler", &run(&checkpoint, &INPAINTING));
    let wanted = open(&house.path("photo-1.png"));

    let strokes = |colour: [u8; 3]| {
        RgbaImage::from_fn(width, height, |x, y| {
            let [r, g, b] = colour;
            if marked(x, y) { Rgba([r, g, b, 255]) } else { Rgba([0, 0, 0, 0]) }
        })
    };
    let erased = RgbaImage::from_fn(width, height, |x, y| {
        let [r, g, b] = picture.get_pixel(x, y).0;
        Rgba([r, g, b, if marked(x, y) { 0 } else { 255 }])
    });
    let layered = RgbaImage::from_fn(width, height, |x, y| match (marked(x, y), x) {
        (true, _) => Rgba([255, 255, 255, 255]),
        (false, 0) => Rgba([0, 0, 0, 0]),
        (false, _) => Rgba([0, 0, 0, 255]),
    });
    let cases = [
        ("black", strokes([0, 0, 0]), "its strokes on transparency, 6.2 % of the picture"),
        ("red", strokes([255, 0, 0]), "its strokes on transparency"),
        ("white", strokes([255, 255, 255]), "its strokes on transparency"),
        ("erased", erased.clone(), "what is erased of it"),
        ("layered", layered, "its light pixels"),
    ];
    let masked = |name: &str| {
        let file = format!("{name}-mask.png");
        let arguments =
            ["--task", "inpainting", "--input", "photo.png", "--mask", &file, "--out", name];
        let stderr = said(&house, &run(&checkpoint, &arguments));
        assert_eq!(open(&house.path(name).join("photo-1.png")), wanted, "{name}");
        stderr
    };
    for (name, drawn, taken) in cases {
        drawn.save(house.path(&format!("{name}-mask.png"))).unwrap();
        let stderr = masked(name);
        assert!(stderr.contains(taken), "{name}: {stderr}");
    }
    // A camera's mask is turned as its EXIF says.
    let mut turned = Vec::new();
    image::imageops::rotate180(&mask)
        .write_to(&mut std::io::Cursor::new(&mut turned), image::ImageFormat::Png)
        .unwrap();
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0";
    let mut crc = 0xffff_ffff_u32;
    for byte in b"eXIf".iter().chain(exif) {
        crc ^= u32::from(*byte);
        (0..8).for_each(|_| crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()));
    }
    let chunk = [&(exif.len() as u32).to_be_bytes(), &b"eXIf"[..], exif, &(!crc).to_be_bytes()];
    let turned = [&turned[..33], &chunk.concat(), &turned[33..]].concat();
    std::fs::write(house.path("turned-mask.png"), turned).unwrap();
    masked("turned");
    // The picture itself, with the hole erased, needs no mask; what is known keeps its alpha.
    erased.save(house.path("photo.png")).unwrap();
    let own = ["--task", "inpainting", "--input", "photo.png", "--out", "own"];
    house.ok("sampler", &run(&checkpoint, &own));
    assert_eq!(open(&house.path("own/photo-1.png")), wanted);
}

#[test]
fn what_a_mask_lacks_is_hinted_at() {
    let house = House::new();
    let checkpoint = house.trained();
    let (width, height) = (24, 20);
    photo(width, height).save(house.path("photo.png")).unwrap();
    let refused = || {
        let output = house.run("sampler", &run(&checkpoint, &INPAINTING));
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let mask = hole(width, height);
    let save = |picture: DynamicImage| picture.save(house.path("mask.png")).unwrap();
    save(GrayImage::from_fn(width, height, |x, y| Luma([mask.get_pixel(x, y).0[0].min(1)])).into());
    let stderr = refused();
    assert!(stderr.contains("its largest grey value is 1: --mask-threshold 1"), "{stderr}");
    let red = |x, y| Rgb([mask.get_pixel(x, y).0[0], 0, 0]);
    save(RgbImage::from_fn(width, height, red).into());
    let stderr = refused();
    assert!(stderr.contains("its largest grey value is 76: --mask-threshold 38"), "{stderr}");
    let hinted = [&INPAINTING[..], &["--mask-threshold", "38"]].concat();
    house.ok("sampler", &run(&checkpoint, &hinted));
    // Mostly white: likely what should be kept.
    save(GrayImage::from_fn(width, height, |x, y| Luma([255 - mask.get_pixel(x, y).0[0]])).into());
    let more = [&INPAINTING[..], &["--out", "most"]].concat();
    let stderr = said(&house, &run(&checkpoint, &more));
    assert!(stderr.contains("say it with --mask-invert"), "{stderr}");
}

#[test]
fn outputs_are_known_by_what_is_written_into_them_and_replace_no_input() {
    let house = House::new();
    let checkpoint = house.trained();
    std::fs::create_dir(house.path("photos")).unwrap();
    for (name, side) in [("a", 16), ("a-1", 17), ("b", 18)] {
        photo(side, side).save(house.path("photos").join(format!("{name}.png"))).unwrap();
    }
    let before = std::fs::read(house.path("photos/a-1.png")).unwrap();
    let base = ["--task", "jpeg", "--input", "photos"];
    let same = [&base[..], &["--out", "photos", "--overwrite"]].concat();
    let message = house.fails(2, "sampler", &run(&checkpoint, &same));
    assert!(message.contains("photos/a-1.png, which is read, would be replaced"), "{message}");
    assert_eq!(std::fs::read(house.path("photos/a-1.png")).unwrap(), before);

    house.ok("sampler", &run(&checkpoint, &base));
    let skip = [&base[..], &["--skip-existing", "--json"]].concat();
    let made = house.json("sampler", &run(&checkpoint, &skip));
    assert_eq!(made.as_array().unwrap().len(), 0, "{made}");
    let refused = |more: &[&str], words: &str| {
        let message = house.fails(2, "sampler", &run(&checkpoint, &[&skip[..], more].concat()));
        assert!(message.contains(words), "{message}");
    };
    refused(&["--seed", "7"], "was made with another seed");
    photo(20, 20).save(house.path("photos/b.png")).unwrap();
    refused(&[], "photos/restored/b-1.png is there and was made with another input");
    photo(18, 18).save(house.path("photos/restored/b-1.png")).unwrap();
    refused(&[], "is no output of this program");
}

#[test]
fn a_dry_run_draws_the_hole_and_makes_nothing() {
    let house = House::new();
    let checkpoint = house.trained();
    let (width, height) = (24, 20);
    let picture = photo(width, height);
    picture.save(house.path("photo.png")).unwrap();
    hole(width, height).save(house.path("mask.png")).unwrap();
    let arguments = [&INPAINTING[..], &["--dry-run", "--out", "dry"]].concat();
    let printed = house.ok("sampler", &run(&checkpoint, &arguments));
    assert!(printed.contains("photo.png: 24×20, 6.2 % made anew, 1 output"), "{printed}");
    let overlay = open(&house.path("dry/photo-mask.png"));
    for (x, y, pixel) in overlay.enumerate_pixels() {
        let [r, g, b] = picture.get_pixel(x, y).0;
        let expected = match hole(width, height).get_pixel(x, y).0[0] {
            0 => [r, g, b],
            _ => [128 + r / 2, g / 2, b / 2],
        };
        assert_eq!(pixel.0, expected, "{x} {y}");
    }
    assert_eq!(std::fs::read_dir(house.path("dry")).unwrap().count(), 1);
}

#[test]
fn a_dry_run_without_a_hole_makes_no_folder() {
    let house = House::new();
    let checkpoint = house.trained();
    photo(24, 20).save(house.path("photo.png")).unwrap();
    let before = house.files("");
    let arguments =
        ["--input", "photo.png", "--task", "colorization", "--dry-run", "--out", "dry/deep"];
    let printed = house.ok("sampler", &run(&checkpoint, &arguments));
    assert!(printed.contains("photo.png: 24×20, 100.0 % made anew, 1 output"), "{printed}");
    assert!(!house.path("dry").exists());
    assert_eq!(house.files(""), before);
}

#[test]
fn outputs_replace_files_whole_and_leave_links_fifos_and_devices_what_they_are() {
    let house = House::new();
    let checkpoint = house.trained();
    for name in ["linked", "old", "piped", "nowhere"] {
        photo(16, 16).save(house.path(&format!("{name}.png"))).unwrap();
    }
    std::fs::create_dir(house.path("out")).unwrap();
    let out = |name: &str| house.path("out").join(name);
    std::fs::write(house.path("target.png"), "old").unwrap();
    std::os::unix::fs::symlink(house.path("target.png"), out("linked-1.png")).unwrap();
    std::fs::write(out("old-1.png"), "old").unwrap();
    let reader = testkit::named::fifo(out("piped-1.png"));
    std::os::unix::fs::symlink("/dev/null", out("nowhere-1.png")).unwrap();
    let inode = |path: &std::path::Path| std::fs::metadata(path).unwrap().ino();
    let before = inode(&out("old-1.png"));
    let make = |name: &str, how: &str| {
        let input = format!("{name}.png");
        let options = ["--task", "jpeg", "--input", &input, "--out", "out", how];
        house.ok("sampler", &run(&checkpoint, &options));
    };
    for name in ["linked", "old"] {
        make(name, "--overwrite");
    }
    // What is no file is no output that is there.
    make("nowhere", "--skip-existing");
    make("piped", "--skip-existing");
    assert!(reader.join().unwrap().starts_with(b"\x89PNG"));
    assert!(out("linked-1.png").is_symlink() && out("nowhere-1.png").is_symlink());
    open(&house.path("target.png"));
    open(&out("old-1.png"));
    assert_ne!(inode(&out("old-1.png")), before, "not replaced whole");
    assert!(std::fs::metadata(out("piped-1.png")).unwrap().file_type().is_fifo());
    assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert_eq!(std::fs::read_dir(house.path("out")).unwrap().count(), 4, "something is left");
}
