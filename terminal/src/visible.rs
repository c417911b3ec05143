//! Text from outside (names, reasons, lines of logs, typed arguments) as a terminal may get it: what would move
//! its cursor, change its state or turn the direction of writing is shown, `\x1b`, and does nothing.

use std::borrow::Cow;
use std::fmt::Write;

use crate::style;

/// A character that a terminal acts on, or that hides or turns what stands beside it: control characters but
/// line feed and tab, invisible ones, and those that change the direction.
fn acts(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => true,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => character.is_control(),
    }
}

/// The text with such characters written out: `\x1b`, `\u{202e}`. Line feeds and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    text.chars().for_each(|character| show(&mut shown, character));
    shown.into()
}

/// As [`visible`], in one line.
pub(crate) fn visible_line(text: &str) -> Cow<'_, str> {
    let shown = visible(text);
    match shown.contains(['\n', '\t']) {
        true => shown.replace('\n', "\\n").replace('\t', "\\t").into(),
        false => shown,
    }
}

/// As [`visible`], but for the colours that this program has put there itself.
pub(crate) fn visible_styled(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match style::own(rest) {
            Some(painted) => {
                shown += painted;
                painted.len()
            }
            None => {
                show(&mut shown, first);
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    shown.into()
}

/// JSON in which such characters are escaped too: they are in its strings only, and JSON itself escapes but
/// the first 32.
pub(crate) fn visible_json(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match acts(character) {
            true => {
                let _ = write!(shown, "\\u{:04x}", u32::from(character));
            }
            false => shown.push(character),
        }
    }
    shown.into()
}

/// Passes bytes on to a terminal as [`visible`] shows them; bytes that are no text are `\xff`.
pub struct Visible<W: std::io::Write> {
    out: W,
    /// The beginning of a character whose rest has not come.
    begun: Vec<u8>,
}

impl<W: std::io::Write> Visible<W> {
    /// Before the first byte.
    pub fn new(out: W) -> Self {
        Self { out, begun: Vec::new() }
    }
}

impl<W: std::io::Write> std::io::Write for Visible<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.begun.extend_from_slice(bytes);
        let mut shown = String::with_capacity(bytes.len());
        let mut done = 0;
        for chunk in self.begun.utf8_chunks() {
            shown += &visible(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            let is_last = done + invalid.len() == self.begun.len();
            // Cut off, and no error yet.
            if is_last && std::str::from_utf8(invalid).is_err_and(|it| it.error_len().is_none()) {
                break;
            }
            for byte in invalid {
                let _ = write!(shown, "\\x{byte:02x}");
            }
            done += invalid.len();
        }
        self.out.write_all(shown.as_bytes())?;
        self.begun.drain(..done);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn show(shown: &mut String, character: char) {
    let _ = match u32::from(character) {
        _ if !acts(character) => {
            shown.push(character);
            Ok(())
        }
        code @ ..0x100 => write!(shown, "\\x{code:02x}"),
        code => write!(shown, "\\u{{{code:x}}}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_written_out() {
        for (text, shown) in [
            ("plain é 実験\tand\nmore", "plain é 実験\tand\nmore"),
            ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
            ("50%\r100%", "50%\\x0d100%"),
            ("\u{7f}\u{9b}31m", "\\x7f\\x9b31m"),
            ("a\u{202e}b\u{200b}", "a\\u{202e}b\\u{200b}"),
        ] {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(visible_line("a\nb"), "a\\nb");
        assert_eq!(visible_json("\"a\u{9b}\u{202e}\""), "\"a\\u009b\\u202e\"");
    }

    #[test]
    fn bytes_are_shown_wherever_they_are_cut() {
        let bytes = "é\x1b[2J\n実".as_bytes();
        for cut in 0..bytes.len() {
            let mut out = Visible::new(Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                std::io::Write::write_all(&mut out, part).unwrap();
            }
            assert_eq!(String::from_utf8(out.out).unwrap(), "é\\x1b[2J\n実", "{cut}");
        }
        let mut out = Visible::new(Vec::new());
        std::io::Write::write_all(&mut out, b"a\xffb\n").unwrap();
        assert_eq!(out.out, b"a\\xffb\n");
    }

    #[test]
    fn own_colours_survive_and_nobody_elses() {
        let own = format!("{} is {}", style::paint("job", style::HEADING), style::states("failed"));
        assert_eq!(visible_styled(&own), own);
        for (text, shown) in [
            ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
            ("\x1b[8mhidden", "\\x1b[8mhidden"),
            ("\x1b[1mopen", "\\x1b[1mopen"),
            ("\x1b[1m\x1b]0;x\x07\x1b[0m", "\\x1b[1m\\x1b]0;x\\x07\\x1b[0m"),
        ] {
            assert_eq!(visible_styled(text), shown);
        }
    }
}
