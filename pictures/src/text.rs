//! Text on pictures, in Hack: an open typeface for code whose characters are all of one width, so that
//! columns of numbers and keys of images can be compared.

use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, Glyph, GlyphId, Point, ScaleFont};
use image::{Rgb, RgbImage};

const INK: Rgb<u8> = Rgb([40, 40, 44]);
/// Height of the font in pixels, from the top of the highest character to the bottom of the lowest.
const SIZE: f32 = 15.5;
/// From one line to the next, in pixels.
pub const LINE: u32 = 18;
/// Width of a character, in pixels.
pub const ADVANCE: u32 = 8;

/// The font; none if the crate's data were damaged, and then pictures are without text.
fn font() -> Option<&'static FontRef<'static>> {
    static FONT: OnceLock<Option<FontRef<'static>>> = OnceLock::new();
    let read = || FontRef::try_from_slice(epaint_default_fonts::HACK_REGULAR).ok();
    FONT.get_or_init(read).as_ref()
}

/// Width of a line of text in pixels.
pub fn width(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX).saturating_mul(ADVANCE)
}

/// Writes one line of text, its top at `top`; characters that the font lacks are drawn as `?`. What does not
/// fit onto the picture is cut off.
pub fn write(picture: &mut RgbImage, text: &str, left: u32, top: u32) {
    let Some(font) = font() else { return };
    let scaled = font.as_scaled(SIZE);
    let baseline = top as f32 + scaled.ascent().round();
    for (index, character) in (0u32..).zip(text.chars()) {
        let x = left.saturating_add(index.saturating_mul(ADVANCE));
        if x >= picture.width() {
            return;
        }
        let known = Some(font.glyph_id(character)).filter(|&id| id != GlyphId(0));
        let id = known.unwrap_or_else(|| font.glyph_id('?'));
        let position = Point { x: x as f32, y: baseline };
        draw(picture, font, Glyph { id, scale: SIZE.into(), position });
    }
}

fn draw(picture: &mut RgbImage, font: &FontRef, glyph: Glyph) {
    let Some(outline) = font.outline_glyph(glyph) else { return };
    let bounds = outline.px_bounds();
    outline.draw(|dx, dy, coverage| {
        let (x, y) = (bounds.min.x as i64 + i64::from(dx), bounds.min.y as i64 + i64::from(dy));
        let inside = |at: i64, end: u32| u32::try_from(at).ok().filter(|&at| at < end);
        let (Some(x), Some(y)) = (inside(x, picture.width()), inside(y, picture.height())) else {
            return;
        };
        let paper = picture.get_pixel_mut(x, y);
        for (paper, ink) in paper.0.iter_mut().zip(INK.0) {
            let mixed =
                f32::from(*paper) + (f32::from(ink) - f32::from(*paper)) * coverage.min(1.0);
            *paper = mixed.round() as u8;
        }
    });
}

/// Breaks text into lines of at most `width` pixels, at spaces where there are some; line breaks stay.
pub fn wrap(text: &str, width: u32) -> Vec<String> {
    let fits = (width / ADVANCE).max(1) as usize;
    text.lines().flat_map(|line| wrap_line(line, fits)).collect()
}

/// Breaks one line into lines of at most `fits` characters.
fn wrap_line(text: &str, fits: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word: Vec<char> = word.chars().collect();
        for (number, piece) in word.chunks(fits).enumerate() {
            let piece: String = piece.iter().collect();
            match lines.last_mut() {
                Some(line)
                    if number == 0 && line.chars().count() + 1 + piece.chars().count() <= fits =>
                {
                    line.push(' ');
                    line.push_str(&piece);
                }
                _ => lines.push(piece),
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_as_wide_as_is_reckoned() {
        let advance = font().unwrap().as_scaled(SIZE).h_advance(font().unwrap().glyph_id('m'));
        assert!(advance <= ADVANCE as f32 + 0.5 && advance > ADVANCE as f32 - 1.0, "{advance}");
        let height = font().unwrap().as_scaled(SIZE).height();
        assert!(height <= LINE as f32, "{height}");
    }

    #[test]
    fn text_is_drawn_within_the_picture_alone() {
        let dark = |text: &str, left, top| {
            let mut picture = RgbImage::from_pixel(40, 20, Rgb([255; 3]));
            write(&mut picture, text, left, top);
            picture.pixels().filter(|pixel| pixel.0[0] < 128).count()
        };
        assert!(dark("±≈é", 0, 0) > 20);
        assert_eq!(dark("漢", 0, 0), dark("?", 0, 0), "it has no such character");
        assert_eq!(dark("out of sight", 1000, 1000), 0);
        dark("longer than the picture is wide", 30, 15);
    }

    #[test]
    fn text_is_broken_at_spaces_and_within_words_that_are_too_long() {
        let wrapped = |text| wrap(text, 6 * ADVANCE);
        assert_eq!(wrapped("a bc def\nghi"), ["a bc", "def", "ghi"]);
        assert_eq!(wrapped("x abcdefghij"), ["x", "abcdef", "ghij"]);
        assert_eq!(wrap("ab", 0), ["a", "b"]);
        assert!(wrapped("").is_empty());
    }
}
