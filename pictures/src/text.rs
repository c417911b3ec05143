//! Text in a bitmap font of 8×8 pixels a character.

use font8x8::{BASIC_FONTS, LATIN_FONTS, UnicodeFonts};
use image::{Rgb, RgbImage};

const INK: Rgb<u8> = Rgb([40, 40, 44]);

/// Writes one line of text; characters that the font lacks are drawn as `?`.
pub fn write(picture: &mut RgbImage, text: &str, left: u32, top: u32) {
    let fonts = |c: char| BASIC_FONTS.get(c).or_else(|| LATIN_FONTS.get(c));
    for (index, character) in text.chars().enumerate() {
        let Some(glyph) = fonts(character).or_else(|| fonts('?')) else { continue };
        for (y, bits) in glyph.iter().enumerate() {
            for x in (0..8).filter(|x| bits & (1 << x) != 0) {
                let (x, y) = (left + index as u32 * 8 + x, top + y as u32);
                if x < picture.width() && y < picture.height() {
                    picture.put_pixel(x, y, INK);
                }
            }
        }
    }
}

/// Breaks text into lines of at most `width` characters, at spaces where there are some.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word: Vec<char> = word.chars().collect();
        for piece in word.chunks(width) {
            let piece: String = piece.iter().collect();
            match lines.last_mut() {
                Some(line) if line.chars().count() + 1 + piece.chars().count() <= width => {
                    line.push(' ');
                    line.push_str(&piece);
                }
                _ => lines.push(piece),
            }
        }
    }
    lines
}
