//! Pictures, behind the gate that all of them go through.

use image::ImageFormat;
use pipeline::ImageSize;
use pipeline::image::{Limits, Window, decode_full, decode_region, examine, jpeg, orientation};

use super::{encoded, picture};
use crate::{SOME, Target, mend};

pub const JPEG: Target = Target {
    name: "jpeg",
    about: "JPEG: whole, parts and fractions",
    memory: SOME,
    run: |bytes, _| look(bytes),
    seeds: || {
        let scene = pipeline::scenes::scene(3, 48);
        let ours = jpeg::encode(&scene, 80, jpeg::Codec::default()).expect("a picture");
        vec![ours, encoded(&scene, ImageFormat::Jpeg)]
    },
};

pub const PNG: Target = Target {
    name: "png",
    about: "PNG, with checksums made right",
    memory: SOME,
    run: |bytes, _| {
        let mut bytes = bytes.to_vec();
        mend::png(&mut bytes);
        look(&bytes);
    },
    seeds: || {
        let deep = image::DynamicImage::from(pipeline::scenes::scene(3, 16)).to_rgba16();
        let mut sixteen = std::io::Cursor::new(Vec::new());
        deep.write_to(&mut sixteen, ImageFormat::Png).expect("a buffer takes everything");
        vec![picture(3, 24, ImageFormat::Png), sixteen.into_inner()]
    },
};

pub const WEBP: Target = Target {
    name: "webp",
    about: "WebP",
    memory: SOME,
    run: |bytes, _| look(bytes),
    seeds: || vec![picture(3, 24, ImageFormat::WebP)],
};

/// What ingest may store also loads, in parts and in fractions.
fn look(bytes: &[u8]) {
    // A picture may say any size; large ones are refused, so that each takes little time.
    let limits = Limits { pixels: 1 << 18, ..Limits::INGEST };
    assert!((1..=8).contains(&orientation(bytes)));
    let Ok((decoded, _)) = examine(bytes, &limits) else { return };
    assert!(decoded.image.dimensions() != (0, 0));
    if let Ok(full) = decode_full(bytes) {
        assert_eq!(full.flat.dimensions(), decoded.image.dimensions());
    }
    for fraction in [false, true] {
        let region = decode_region(bytes, ImageSize::square(8), Window::CENTER, fraction);
        let cut = region.and_then(|region| region.cut());
        assert_eq!(cut.expect("what is decoded whole is decoded in parts").dimensions(), (8, 8));
    }
}
