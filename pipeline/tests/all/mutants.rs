//! Damaged copies of sound files: whatever the bytes, the outcome is an image or an error, never a panic, a
//! hang or more memory than the limits allow. Seeded, so that a failure comes again; `PALETTE_MUTANTS`
//! takes more of each format (CONTRIBUTING.md).

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Once;

use image::{ImageFormat, RgbImage};
use pipeline::ImageSize;
use pipeline::image::{Limits, Window, decode_full, decode_region, examine, jpeg, orientation};
use pipeline::ingest::{IngestOptions, OnDamage, ingest};
use testkit::mutant;

use crate::common::{peak, place};

/// Mutants of each format; of archives, which are ingested, a tenth.
pub fn mutants() -> u64 {
    // As in the programs: what the net catches prints nothing. A stack for each would cost more than the mutants.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !caught::is_under() {
                before(panic);
            }
        }));
    });
    let count = std::env::var("PALETTE_MUTANTS").ok();
    count.map_or(2000, |count| count.parse().unwrap())
}

fn photograph() -> RgbImage {
    pipeline::scenes::scene(3, 48)
}

fn written(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    photograph().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

#[test]
fn mutants_of_images_are_images_or_errors() {
    // A mutant may announce any size; large ones are refused, so that the test stays short.
    let limits = Limits { pixels: 1 << 21, ..Limits::INGEST };
    let baseline = jpeg::encode(&photograph(), 80, jpeg::Codec::default()).unwrap();
    let mut deep = Cursor::new(Vec::new());
    let sixteen = image::DynamicImage::from(photograph()).to_rgba16();
    sixteen.write_to(&mut deep, ImageFormat::Png).unwrap();
    let mut files = vec![
        ("jpeg", baseline),
        ("png", written(ImageFormat::Png)),
        ("png of 16 bits", deep.into_inner()),
        ("webp", written(ImageFormat::WebP)),
    ];
    // Animations, frames of several kinds, and damaged already.
    files.extend(testkit::hostile::PANICS.map(|bytes| ("damaged webp", bytes.to_vec())));
    let before = peak();
    for (name, sound) in &files {
        let (mut images, mut damaged) = (0, 0);
        for seed in 0..mutants() {
            let bytes = mutant(sound, seed);
            let turned = orientation(&bytes);
            assert!((1..=8).contains(&turned));
            let Ok((decoded, _)) = examine(&bytes, &limits) else { continue };
            images += 1;
            if let Ok(full) = decode_full(&bytes) {
                assert!(full.flat.dimensions() != (0, 0), "{name} {seed}");
            }
            damaged += u32::from(decoded.damage.is_some());
            // What ingest may store also loads.
            for fraction in [false, true] {
                let size = ImageSize::square(8);
                let region = decode_region(&bytes, size, Window::CENTER, fraction);
                let cut = region.unwrap_or_else(|error| panic!("{name} {seed}: {error}")).cut();
                assert_eq!(cut.unwrap().dimensions(), (8, 8), "{name} {seed}");
            }
        }
        println!("{name}: {images} of {} decode, {damaged} with damage", mutants());
        // Each chunk of a PNG has a checksum, which nearly every change breaks; the target `png` of `fuzz` makes them
        // right before it reads.
        assert!(images > 0 || name.starts_with("png") || *name == "damaged webp");
    }
    assert!(peak() - before < 16 * limits.pixels + (64 << 20), "{} bytes", peak() - before);
}

/// Ingests a file with a layout; only says that it did not panic.
pub fn survives(source: &Path, layout: &str, out: &Path, about: &str) {
    let address = place(out.to_str().unwrap());
    let options = IngestOptions {
        layout: Some(layout.parse().unwrap()),
        on_damage: OnDamage::Keep,
        workers: 1,
        ..IngestOptions::new(vec![source.to_owned()], address)
    };
    if let Err(error) = ingest(&options, &|_| {}) {
        let error = error.to_string();
        assert!(!error.contains("panicked"), "{about}: {error}");
    }
    let _ = fs::remove_dir_all(out);
}

#[test]
fn mutants_of_archives_are_datasets_or_errors() {
    let folder = tempfile::tempdir().unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    for number in 0..4 {
        let bytes = written(ImageFormat::Png);
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("{}/{number}.png", number % 2), &bytes[..]).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let dataset = crate::common::scenes_dataset(folder.path(), 6, 24);
    let shard: PathBuf =
        fs::read_dir(Path::new(&dataset).join("data")).unwrap().next().unwrap().unwrap().path();
    let parquet = fs::read(shard).unwrap();
    for (name, layout, sound) in [
        ("mutant.tar", "folder", &tar),
        ("mutant.tar", "webdataset", &tar),
        ("mutant.parquet", "parquet", &parquet),
    ] {
        let source = folder.path().join(name);
        for seed in 0..mutants() / 10 {
            fs::write(&source, mutant(sound, seed)).unwrap();
            survives(&source, layout, &folder.path().join("out"), &format!("{layout} {seed}"));
        }
    }
}
