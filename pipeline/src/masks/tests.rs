//! Masks from files: what NumPy writes, pictures with soft edges, and what must be refused.

use std::io::Write;

use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

use super::*;
use crate::degrade::inpainting::Hole;

fn open(path: &Path) -> Result<MaskSet> {
    MaskSet::open(path.to_str().unwrap(), MaskOptions::default())
}

/// An array file as `np.save` writes it.
fn array(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

fn archive(path: &Path, method: CompressionMethod, arrays: &[(&str, Vec<u8>)]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let options = SimpleFileOptions::default().compression_method(method);
    for (key, bytes) in arrays {
        zip.start_file(format!("{key}.npy"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

fn drawn(count: u64) -> Vec<GrayImage> {
    (0..count).map(|row| Hole::FreeForm([10, 40]).mask(256, 256, 7, &row.to_string())).collect()
}

/// The bits of masks as `np.packbits` packs them.
fn packed(masks: &[GrayImage]) -> Vec<u8> {
    let bits: Vec<u8> = masks.iter().flat_map(|mask| mask.as_raw()).copied().collect();
    bits.chunks(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
}

#[test]
fn archives_of_bits_are_streamed_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imagenet_freeform_masks.npz");
    let masks = drawn(6);
    let bits = packed(&masks);
    let other = array("|u1", "(16384,)", &vec![0xff; 16_384]);
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        for shape in [format!("({},)", bits.len()), "(6, 8192)".into(), "(6, 256, 32)".into()] {
            let key = "10-20% freeform";
            let own = array("|u1", &shape, &bits);
            archive(&path, method, &[("20-30% freeform", other.clone()), (key, own)]);
            let place = format!("{}#{key}", path.display());
            let set = MaskSet::open(&place, MaskOptions::default()).unwrap();
            for row in [0, 1, 3, 5, 2, 2, 0] {
                let mask = set.mask(row, "any", 256, 256).unwrap();
                assert!(mask == masks[row as usize], "{method} {shape} {row}");
            }
            let past = set.mask(6, "any", 256, 256).unwrap_err().to_string();
            assert!(past.contains("has 6 masks, none for row 6"), "{past}");
        }
    }
    let none = open(&path).err().unwrap().to_string();
    assert!(none.contains("a key is needed: add #KEY with one of"), "{none}");
    let wrong = format!("{}#30-40% freeform", path.display());
    let wrong = MaskSet::open(&wrong, MaskOptions::default()).err().unwrap().to_string();
    assert!(wrong.contains("no key `30-40% freeform`"), "{wrong}");
    // All set: the whole image would be a hole.
    let full = format!("{}#20-30% freeform", path.display());
    let full = MaskSet::open(&full, MaskOptions::default()).unwrap();
    let full = full.mask(0, "k", 256, 256).unwrap_err().to_string();
    assert!(full.contains("the mask of `k` marks everything"), "{full}");
}

#[test]
fn archives_of_bytes_are_read_and_others_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.npz");
    let masks = drawn(2);
    let bytes: Vec<u8> = masks.iter().flat_map(|mask| mask.as_raw()).copied().collect();
    archive(&path, CompressionMethod::Deflated, &[("mask", array("|b1", "(2, 256, 256)", &bytes))]);
    let set = open(&path).unwrap();
    assert!(set.mask(1, "", 256, 256).unwrap() == masks[1]);
    // Half the size by the nearest pixel: still binary, about the same area.
    let half = set.mask(1, "", 128, 128).unwrap();
    assert!(half.iter().all(|&value| value <= 1));
    assert!((area(&half) - area(&masks[1])).abs() < 0.01);

    let huge = array("|u1", "(4294967296, 4294967296, 16384)", &[]);
    let refused = [
        ("floats", array("<f4", "(2, 256, 256)", &bytes)),
        ("shape", array("|u1", "(17,)", &[0; 17])),
        ("short", array("|u1", "(3, 256, 256)", &bytes)),
        ("huge", huge),
        ("text", b"no array at all".to_vec()),
        ("header", b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec()),
        ("none", Vec::new()),
    ];
    for (name, bytes) in refused {
        archive(&path, CompressionMethod::Deflated, &[(name, bytes)]);
        let error = open(&path).err().unwrap().to_string();
        assert!(error.contains(&format!("`{name}`")), "{error}");
    }
    // A bit that fell over in the archive, and an archive that was cut.
    archive(&path, CompressionMethod::Stored, &[("mask", array("|u1", "(2, 256, 256)", &bytes))]);
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[50_000] ^= 1;
    for bytes in [&flipped[..], &good[..60_000], b"PK", b""] {
        std::fs::write(&path, bytes).unwrap();
        assert!(open(&path).is_err());
    }
}

/// A disc with a soft edge, bright inside.
fn disc(side: u32) -> GrayImage {
    let middle = f64::from(side) / 2.0;
    GrayImage::from_fn(side, side, |x, y| {
        let away = (f64::from(x) + 0.5 - middle).hypot(f64::from(y) + 0.5 - middle);
        image::Luma([(255.0 * (1.0 - (away - middle / 2.0) / 8.0 - 0.5)).clamp(0.0, 255.0) as u8])
    })
}

fn save(picture: &GrayImage, path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

#[test]
fn soft_edges_become_binary_at_the_threshold() {
    let folder = tempfile::tempdir().unwrap();
    let soft = disc(96);
    for name in ["disc.png", "disc.jpg"] {
        let path = folder.path().join(name);
        save(&soft, &path);
        let set = open(&path).unwrap();
        let mask = set.mask(0, "any", 96, 96).unwrap();
        let expected = soft.pixels().filter(|pixel| pixel.0[0] >= 128).count() as f64 / 96.0 / 96.0;
        assert!(mask.iter().all(|&value| value <= 1));
        assert!((area(&mask) - expected).abs() < 0.01, "{name}: {} {expected}", area(&mask));
        let with = |threshold, invert| {
            let options = MaskOptions { threshold, invert };
            let set = MaskSet::open(path.to_str().unwrap(), options).unwrap();
            area(&set.mask(0, "any", 96, 96).unwrap())
        };
        assert!(with(200, false) < with(128, false) && with(128, false) < with(50, false));
        assert!((with(128, true) + with(128, false) - 1.0).abs() < 1e-9);
    }
}

#[test]
fn a_mask_is_cut_as_the_photograph_is() {
    let mask = GrayImage::from_fn(300, 200, |x, _| image::Luma([u8::from(x >= 150)]));
    for side in [200, 100, 64, 400] {
        let cut = cover(&mask, side, side);
        assert_eq!(cut.dimensions(), (side, side));
        assert_eq!(area(&cut), 0.5, "{side}");
    }
}

#[test]
fn folders_are_matched_by_key_and_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let soft = disc(64);
    let empty = GrayImage::new(64, 64);
    save(&soft, &root.join("a/1.png"));
    save(&empty, &root.join("b/1.png"));
    save(&soft, &root.join("only.png"));
    save(&soft, &root.join("2.png"));
    save(&empty, &root.join("b/2.png"));
    std::fs::write(root.join("notes.txt"), "no mask").unwrap();
    let set = open(root).unwrap();
    assert!(area(&set.mask(0, "a/1.JPEG", 64, 64).unwrap()) > 0.1);
    assert!(set.mask(0, "n01440764/only.JPEG", 64, 64).is_ok());
    assert!(set.mask(0, "2.png", 64, 64).is_ok(), "a whole key comes before a file name");
    let error = |key: &str| set.mask(0, key, 64, 64).unwrap_err().to_string();
    assert!(
        error("b/1.png").contains("the mask of `b/1.png` marks nothing"),
        "{}",
        error("b/1.png")
    );
    assert!(error("c/1.png").contains("holds no mask for `c/1.png`"), "that of another folder");
    assert!(error("c/3.JPEG").contains("holds no mask for `c/3.JPEG`; name it `c/3.png`"));
    assert!(error("../../etc/passwd").contains("holds no mask"));
    let bare = tempfile::tempdir().unwrap();
    assert!(open(bare.path()).err().unwrap().to_string().contains("holds no mask files"));
    assert!(open(&root.join("absent.png")).is_err());
    let key = format!("{}#key", root.join("only.png").display());
    assert!(MaskSet::open(&key, MaskOptions::default()).is_err());
}
