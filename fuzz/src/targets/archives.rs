//! What ingest reads: archives of every layout, and the lists that go with them.

use std::path::Path;
use std::sync::OnceLock;

use image::ImageFormat;
use pipeline::Dataset;
use pipeline::ImageSize;
use pipeline::dataset::List;
use pipeline::image::{Window, decode_region};
use pipeline::ingest::{IngestOptions, LayoutKind, OnDamage, ingest};

use super::{chosen, parquet, parquet_seeds, picture, place, tarred, ways, write, zipped};
use crate::{PICTURES, Target, mend};

pub const TAR: Target = Target {
    name: "tar",
    about: "tar in each layout, with checksums made right",
    memory: PICTURES,
    run: |bytes, scratch| {
        let (way, bytes) = chosen(bytes, 5);
        let mut bytes = bytes.to_vec();
        mend::tar(&mut bytes);
        take(scratch, "source.tar", &bytes, of(way), |_| ());
    },
    seeds: || {
        let png = picture(1, 16, ImageFormat::Png);
        let jpeg = picture(2, 16, ImageFormat::Jpeg);
        let long = format!("{}/b.png", "a".repeat(120));
        let inner = tarred(&[("n01440764_1.JPEG", &jpeg), ("n01440764_2.JPEG", &png)]);
        ways([
            tarred(&[("a/0.png", &png), ("b/1.jpg", &jpeg), (&long, &jpeg)]),
            tarred(&[("n01440764.tar", &inner)]),
            tarred(&[("ILSVRC2012_val_00000001.JPEG", &jpeg)]),
            tarred(&[("data_large/a/abbey/00000001.jpg", &jpeg)]),
            tarred(&[("0.jpg", &jpeg), ("0.cls", b"3"), ("0.json", b"{\"label\": 3}")]),
        ])
    },
};

pub const ZIP: Target = Target {
    name: "zip",
    about: "zip of a folder, with checksums made right",
    memory: PICTURES,
    run: |bytes, scratch| {
        let mut bytes = bytes.to_vec();
        mend::zip(&mut bytes);
        take(scratch, "source.zip", &bytes, LayoutKind::Folder, |_| ());
    },
    seeds: || {
        let png = picture(1, 16, ImageFormat::Png);
        let members = [("a/0.png", &png[..]), ("b/1.png", &png)];
        vec![zipped(&members, false), zipped(&members, true)]
    },
};

pub const PRESSED: Target = Target {
    name: "pressed",
    about: "tar.gz and tar.zst, raw, and the tar within a sound gzip",
    memory: PICTURES,
    run: |bytes, scratch| {
        let (way, bytes) = chosen(bytes, 3);
        let (name, bytes) = match way {
            0 => ("source.tar.gz", bytes.to_vec()),
            1 => ("source.tar.zst", bytes.to_vec()),
            _ => ("source.tgz", gzip(bytes)),
        };
        take(scratch, name, &bytes, LayoutKind::Folder, |_| ());
    },
    seeds: || {
        let png = picture(1, 16, ImageFormat::Png);
        let tar = tarred(&[("a/0.png", &png)]);
        let zst = zstd::encode_all(&tar[..], 3).expect("a buffer takes everything");
        ways([gzip(&tar), zst, tar])
    },
};

pub const PARQUET: Target = Target {
    name: "parquet",
    about: "parquet of pictures as others write it",
    memory: PICTURES,
    run: |bytes, scratch| {
        let bytes = parquet(bytes, super::datasets::shard());
        take(scratch, "source.parquet", &bytes, LayoutKind::Parquet, |_| ());
    },
    // Shards of ours have a column of pictures and one of labels, as those of others.
    seeds: || parquet_seeds(super::datasets::shard()),
};

pub const DEVKIT: Target = Target {
    name: "devkit",
    about: "meta.mat of the ImageNet devkit, as it lies or the contents of its compressed part",
    memory: PICTURES,
    run: |bytes, scratch| {
        let (way, bytes) = chosen(bytes, 2);
        let mut file = bytes.to_vec();
        if way == 1 {
            file = MAT[..MAT_HEADER].to_vec();
            let packed = zlib(bytes);
            file.extend(15u32.to_le_bytes());
            file.extend((packed.len() as u32).to_le_bytes());
            file.extend(packed);
        }
        let kit = scratch.join("kit");
        write(&kit.join("meta.mat"), &file);
        write(&kit.join("ILSVRC2012_validation_ground_truth.txt"), b"2\n1\n");
        let layout = LayoutKind::ImagenetVal;
        take(scratch, "source.tar", validation(), layout, |options| options.labels = Some(kit));
    },
    seeds: || {
        let mut plain = Vec::new();
        let mut packed = flate2::read::ZlibDecoder::new(&MAT[MAT_HEADER + 8..]);
        std::io::Read::read_to_end(&mut packed, &mut plain).expect("SciPy's own");
        ways([MAT.to_vec(), plain])
    },
};

pub const LISTS: Target = Target {
    name: "lists",
    about: "lists of images, of labels and of classes",
    memory: PICTURES,
    run: |bytes, scratch| {
        let (way, bytes) = chosen(bytes, 4);
        let list = scratch.join("list.txt");
        write(&list, bytes);
        let tar = validation();
        let folder = || tarred(&[("a/0.png", &picture(1, 16, ImageFormat::Png))]);
        match way {
            0 => drop(List::read(&list)),
            1 => take(scratch, "source.tar", tar, LayoutKind::ImagenetVal, |options| {
                options.labels = Some(list);
            }),
            2 => take(scratch, "source.tar", &folder(), LayoutKind::Folder, |options| {
                options.classes = Some(list);
            }),
            _ => take(scratch, "val_256.tar", &places(), LayoutKind::Places365, |options| {
                options.labels = Some(list);
            }),
        }
    },
    seeds: || {
        ways([
            b"val/ILSVRC2012_val_00000001.JPEG 3\nb.png\n\"c d.png\" 7\r\n".to_vec(),
            b"n01440764\nn01443537\n".to_vec(),
            b"a\nb\n\xc3\xa9t\xc3\xa9\n".to_vec(),
            b"Places365_val_00000001.jpg 165\n".to_vec(),
        ])
    },
};

/// A small `meta.mat` that SciPy wrote.
const MAT: &[u8] = include_bytes!("../../../pipeline/tests/data/meta.mat");
const MAT_HEADER: usize = 128;

fn of(way: u8) -> LayoutKind {
    [
        LayoutKind::Folder,
        LayoutKind::ImagenetTrain,
        LayoutKind::ImagenetVal,
        LayoutKind::Places365,
        LayoutKind::WebDataset,
    ][usize::from(way)]
}

/// Two pictures of the validation set of ImageNet.
fn validation() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(|| {
        let names = ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"];
        let jpeg = picture(2, 16, ImageFormat::Jpeg);
        tarred(&names.map(|name| (name, &jpeg[..])))
    })
}

/// A picture of the validation set of Places365.
fn places() -> Vec<u8> {
    tarred(&[("val_256/Places365_val_00000001.jpg", &picture(2, 16, ImageFormat::Jpeg))])
}

/// Ingests a source; what is stored of it can be read.
fn take(
    scratch: &Path,
    name: &str,
    bytes: &[u8],
    layout: LayoutKind,
    change: impl FnOnce(&mut IngestOptions),
) {
    let source = scratch.join(name);
    write(&source, bytes);
    let out = place(&scratch.join("out"));
    let mut options = IngestOptions {
        layout: Some(layout),
        on_damage: OnDamage::Keep,
        workers: 1,
        ..IngestOptions::new(vec![source], out.clone())
    };
    change(&mut options);
    let Ok(manifest) = ingest(&options, &|_| {}) else { return };
    let dataset = Dataset::open(&out).expect("what ingest made can be opened");
    assert_eq!(dataset.len(), manifest.rows);
    for record in dataset.records().take(8) {
        let record = record.expect("what ingest stored can be read");
        let size = ImageSize::square(8);
        let region = decode_region(&record.bytes, size, Window::CENTER, false);
        region.and_then(|region| region.cut()).expect("what ingest stored can be decoded");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut reader = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast());
    std::io::Read::read_to_end(&mut reader, &mut packed).expect("a buffer takes everything");
    packed
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut reader = flate2::read::ZlibEncoder::new(bytes, flate2::Compression::fast());
    std::io::Read::read_to_end(&mut reader, &mut packed).expect("a buffer takes everything");
    packed
}
