//! Checksums of damaged files, made right, so that what is damaged is read. Whatever the bytes: what cannot be
//! found in them is left as it is.

use std::io::Read;

use flate2::Crc;
use flate2::read::DeflateDecoder;

/// More of a member of a zip archive is not inflated for its checksum.
const MOST_INFLATED: u64 = 1 << 20;
const BLOCK: usize = 512;

/// The checksum of every chunk of a PNG.
pub fn png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = number(bytes, at, 4, u32_be) {
        let end = (at + 8).saturating_add(length);
        let Some(chunk) = bytes.get(at + 4..end) else { return };
        let sum = crc(chunk).to_be_bytes();
        if !put(bytes, end, &sum) {
            return;
        }
        at = end + 4;
    }
}

/// The checksum of every header of a tar, and of the tars within.
pub fn tar(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + BLOCK) {
        let size = octal(&header[124..136]);
        if header.iter().any(|byte| *byte != 0) {
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
        }
        let start = at + BLOCK;
        let end = start.saturating_add(size);
        if let Some(content) = bytes.get_mut(start..end)
            && content.get(257..262) == Some(b"ustar")
        {
            tar(content);
        }
        at = start.saturating_add(size.saturating_add(BLOCK - 1) / BLOCK * BLOCK);
    }
}

/// The checksum of every member of a zip that its directory names, stored or deflated.
pub fn zip(bytes: &mut [u8]) {
    let ends = bytes.windows(4).rposition(|four| four == b"PK\x05\x06");
    let Some(mut at) = ends.and_then(|end| number(bytes, end + 16, 4, u32_le)) else { return };
    while bytes.get(at..at.saturating_add(4)) == Some(b"PK\x01\x02") {
        let two = |bytes: &[u8], at| number(bytes, at, 2, u16_le).unwrap_or(0);
        let method = two(bytes, at + 10);
        let length = number(bytes, at + 20, 4, u32_le).unwrap_or(0);
        let local = number(bytes, at + 42, 4, u32_le).unwrap_or(0);
        let start = local + 30 + two(bytes, local + 26) + two(bytes, local + 28);
        if let Some(data) = bytes.get(start..start.saturating_add(length)) {
            let sum = match method {
                0 => crc(data),
                _ => {
                    let mut plain = Vec::new();
                    // What was inflated before the damage is what its reader sees too.
                    let _ = DeflateDecoder::new(data).take(MOST_INFLATED).read_to_end(&mut plain);
                    crc(&plain)
                }
            };
            put(bytes, local + 14, &sum.to_le_bytes());
            put(bytes, at + 16, &sum.to_le_bytes());
        }
        at += 46 + two(bytes, at + 28) + two(bytes, at + 30) + two(bytes, at + 32);
    }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut sum = Crc::new();
    sum.update(bytes);
    sum.sum()
}

fn octal(digits: &[u8]) -> usize {
    let digits = digits.iter().skip_while(|byte| **byte == b' ');
    let digits = digits.take_while(|byte| (b'0'..=b'7').contains(byte));
    digits.fold(0usize, |sum, digit| sum.saturating_mul(8) + usize::from(digit - b'0'))
}

fn u32_be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn u32_le(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn u16_le(bytes: &[u8]) -> u64 {
    u32_le(bytes)
}

/// A number of `width` bytes.
fn number(bytes: &[u8], at: usize, width: usize, of: fn(&[u8]) -> u64) -> Option<usize> {
    usize::try_from(of(bytes.get(at..at.checked_add(width)?)?)).ok()
}

/// Writes into the bytes; says whether there is room.
fn put(bytes: &mut [u8], at: usize, what: &[u8]) -> bool {
    let room = bytes.get_mut(at..at.saturating_add(what.len()));
    room.is_some_and(|room| {
        room.copy_from_slice(what);
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Sound files stay as they are; wrong sums become those that they were.
    fn mends(sound: &[u8], sums: &[usize], mend: fn(&mut [u8])) {
        let mut bytes = sound.to_vec();
        mend(&mut bytes);
        assert!(bytes == sound);
        for at in sums {
            bytes[*at] ^= 0x11;
        }
        assert!(bytes != sound);
        mend(&mut bytes);
        assert!(bytes == sound);
    }

    #[test]
    fn wrong_checksums_are_made_right() {
        let mut png_file = Cursor::new(Vec::new());
        image::GrayImage::new(3, 2).write_to(&mut png_file, image::ImageFormat::Png).unwrap();
        let png_file = png_file.into_inner();
        mends(&png_file, &[29, png_file.len() - 1], png);
        let inner = crate::targets::tarred(&[("a/b.png", &png_file)]);
        mends(&crate::targets::tarred(&[("n0.tar", &inner)]), &[150, BLOCK + 150], tar);
        let members = [("a.npy", &png_file[..]), ("b.npy", b"text")];
        mends(&crate::targets::zipped(&members, true), &[15], zip);
        mends(&crate::targets::zipped(&members, false), &[15], zip);
    }

    #[test]
    fn any_bytes_are_left_or_mended() {
        for seed in 0..3000 {
            let mut rng = random::Rng::new(random::key(&[seed]));
            let mut bytes: Vec<u8> =
                (0..rng.integer(0, 700)).map(|_| rng.integer(0, 255) as u8).collect();
            bytes.extend_from_slice(b"PK\x05\x06");
            bytes.extend((0..18).map(|_| rng.integer(0, 3) as u8));
            png(&mut bytes);
            tar(&mut bytes);
            zip(&mut bytes);
        }
    }
}
