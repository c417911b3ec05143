//! Text that is cut to a width.

use anstream::adapter::strip_str;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text, or as much of its beginning as fits with a `…` behind it. Colours have no width, and one that
/// begins in what is kept also ends.
pub fn shorten(text: &str, width: usize) -> String {
    if strip_str(text).to_string().width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 0;
    let (mut escape, mut cut) = (false, false);
    for character in text.chars() {
        escape |= character == '\x1b';
        if escape {
            short.push(character);
            escape = character != 'm';
        } else if !cut {
            used += character.width().unwrap_or(0);
            cut = used >= width;
            if !cut {
                short.push(character);
            } else if width > 0 {
                short.truncate(short.trim_end().len());
                short.push('…');
            }
        }
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
            ("a \x1b[31mbc\x1b[0m", 4, "a \x1b[31mbc\x1b[0m"),
            ("a \x1b[31mbcd\x1b[0m e", 4, "a \x1b[31mb…\x1b[0m"),
        ] {
            assert_eq!(shorten(text, width), short, "{text} {width}");
        }
    }
}
