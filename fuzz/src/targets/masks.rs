//! Masks that are given: archives, stored ones, pictures.

use std::path::Path;

use image::ImageFormat;
use pipeline::image::{Limits, examine};
use pipeline::masks::{MaskOptions, MaskSet};

use super::{chosen, parquet, parquet_seeds, picture, ways, write, zipped};
use crate::{SOME, Target, mend};

pub const NPZ: Target = Target {
    name: "npz",
    about: "masks in an .npz, raw with checksums made right, and one array in a sound archive",
    memory: SOME,
    run: |bytes, scratch| {
        let (way, bytes) = chosen(bytes, 2);
        let archive = match way {
            0 => {
                let mut archive = bytes.to_vec();
                mend::zip(&mut archive);
                archive
            }
            _ => zipped(&[("a.npy", bytes)], true),
        };
        open(&archive, &scratch.join("masks.npz"));
    },
    seeds: || {
        let bits = array("|u1", "(1, 8192)", &[0x0f; 8192]);
        let bytes = array("|u1", "(1, 8, 8)", &[[0; 32], [1; 32]].concat());
        let ways = ways([
            zipped(&[("a.npy", &bytes), ("b.npy", &bytes)], false),
            array("|u1", "(2, 8, 8)", &[[0; 64], [1; 64]].concat()),
        ]);
        let deflated = zipped(&[("a.npy", &bits)], true);
        [ways, vec![[&[0][..], &deflated].concat()]].concat()
    },
};

pub const STORED: Target = Target {
    name: "stored-masks",
    about: "masks that were stored beside a dataset, parquet",
    memory: SOME,
    run: |bytes, scratch| {
        open(&parquet(bytes, super::datasets::masks()), &scratch.join("masks.parquet"));
    },
    seeds: || parquet_seeds(super::datasets::masks()),
};

pub const PICTURE: Target = Target {
    name: "mask-picture",
    about: "a mask as people draw it, PNG with checksums made right, or WebP",
    memory: SOME,
    run: |bytes, scratch| {
        let mut bytes = bytes.to_vec();
        mend::png(&mut bytes);
        // A picture may say any size; large ones are left out, so that each takes little time.
        let limits = Limits { pixels: 1 << 20, ..Limits::DECODE };
        let refused = examine(&bytes, &limits).err().map(|error| error.to_string());
        if refused.is_some_and(|said| said.contains("too many pixels")) {
            return;
        }
        open(&bytes, &scratch.join("mask.png"));
    },
    seeds: || {
        let mut drawn = image::GrayAlphaImage::new(9, 9);
        drawn.put_pixel(3, 4, image::LumaA([255, 255]));
        let mut strokes = std::io::Cursor::new(Vec::new());
        drawn.write_to(&mut strokes, ImageFormat::Png).expect("a buffer takes everything");
        vec![
            strokes.into_inner(),
            picture(1, 16, ImageFormat::Png),
            picture(1, 16, ImageFormat::WebP),
        ]
    },
};

/// A mask that comes out is of the size asked for, and neither empty nor full.
fn open(bytes: &[u8], path: &Path) {
    write(path, bytes);
    for place in [format!("{}", path.display()), format!("{}#a", path.display())] {
        let Ok(masks) = MaskSet::open(&place, MaskOptions::default()) else { continue };
        for (index, key) in [(0, "a/0"), (1, "a/1"), (u64::MAX, "b")] {
            let _ = masks.own_size(index, key);
            let Ok(mask) = masks.mask(index, key, 9, 8) else { continue };
            assert_eq!(mask.dimensions(), (9, 8));
            assert!(mask.iter().all(|value| *value <= 1), "{:?}", mask.as_raw());
            assert!(mask.contains(&0) && mask.contains(&1), "{:?}", mask.as_raw());
        }
    }
}

/// An array file as `np.save` writes it.
fn array(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}
