//! Text that is cut to a width.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text, or as much of its beginning as fits with a `…` behind it.
pub fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used >= width {
            break;
        }
        short.push(character);
    }
    short.truncate(short.trim_end().len());
    if width > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_keeps_what_fits() {
        for (text, width, short) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("ab cd", 4, "ab…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
            ("実験", 3, "実…"),
            ("実験", 2, "…"),
        ] {
            assert_eq!(shorten(text, width), short, "{text} {width}");
        }
    }
}
