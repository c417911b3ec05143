//! Random valid JPEG files against a decoder of its own: whatever the subsampling, the scans, the colour
//! markers and the restarts, the pixels are the image's, and no warning is damage.
#![allow(clippy::unwrap_used)]

mod reference;
mod writer;

use jpeg_ext::{Header, Kind, Pixels, Rectangle};
use writer::{Draw, Image, Style};

/// Images, each written in three ways; `PALETTE_RANDOM_FILES` takes more.
fn images() -> u64 {
    let count = std::env::var("PALETTE_RANDOM_FILES").ok();
    count.map_or(600, |count| count.parse().unwrap())
}

#[test]
fn valid_files_have_the_pixels_of_their_coefficients() {
    let (mut compared, mut fractional) = (0, 0);
    let (mut worst, mut sum, mut values) = (0.0f64, 0.0, 0.0);
    for seed in 0..images() {
        let draw = &mut Draw::new(seed);
        let image = Image::draw(draw);
        let factors: Vec<_> = image.components.iter().map(|part| (part.h, part.v)).collect();
        let about = format!("seed {seed}: {:?} {factors:?}", image.colours);
        let mut plain: Option<Vec<u8>> = None;
        for (is_plain, progressive) in [(true, false), (false, false), (false, true)] {
            let mut style = Style { progressive, plain: is_plain, stray: false };
            let file = writer::write(&image, &mut style, draw);
            let about = format!("{about} {style:?}");
            let decoded = Header::read(&file).and_then(Header::whole);
            if image.is_fractional() {
                let error = decoded.unwrap_err();
                assert!(error.is_unsupported(), "{about}: {error}");
                fractional += 1;
                continue;
            }
            let decoded = decoded.unwrap_or_else(|error| panic!("{about}: {error}"));
            let odd = |kind: Kind| matches!(kind, Kind::Damage | Kind::NoEnd);
            assert!(!decoded.warnings.iter().any(|w| odd(w.kind)), "{about}: {decoded:?}");
            assert!(style.stray || decoded.warnings.is_empty(), "{about}: {:?}", decoded.warnings);
            a_part_is_that_of_the_whole(&file, &decoded, draw, &about);
            compared += 1;
            // However it is written, it is the same image, to the bit.
            if let Some(plain) = &plain {
                assert!(*plain == decoded.rgb, "{about}");
                continue;
            }
            // The plain file against the reference: planes are rounded, then colours.
            for (ours, theirs) in decoded.rgb.iter().zip(reference::rgb(&image)) {
                let difference = (f64::from(*ours) - theirs).abs();
                assert!(difference < 4.0, "{about}: {ours} for {theirs}");
                worst = worst.max(difference);
                sum += difference;
                values += 1.0;
            }
            plain = Some(decoded.rgb);
        }
    }
    let mean = sum / values;
    println!(
        "{compared} files, {fractional} not supported: mean {mean:.3}, worst {worst:.2} levels"
    );
    assert!(mean < 0.5 && compared as u64 > images());
}

fn a_part_is_that_of_the_whole(file: &[u8], whole: &Pixels, draw: &mut Draw, about: &str) {
    let Rectangle { width, height, .. } = whole.part;
    let (left, top) = (draw.below(width), draw.below(height));
    let wanted = Rectangle {
        left,
        top,
        width: draw.from(1, width - left),
        height: draw.from(1, height - top),
    };
    let part = Header::read(file).unwrap().rgb(|_, _| wanted).unwrap();
    for y in wanted.top..wanted.top + wanted.height {
        let row = |from: &Pixels| {
            let at = (y - from.part.top) * from.part.width + wanted.left - from.part.left;
            let at = 3 * at as usize;
            from.rgb[at..at + 3 * wanted.width as usize].to_vec()
        };
        assert!(row(&part) == row(whole), "{about}: {wanted:?} in row {y}");
    }
}
