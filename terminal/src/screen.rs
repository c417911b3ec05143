//! A terminal that is drawn over and over: the alternate screen, so that what stood there comes
//! back, and one write a frame, so that nothing flickers.

use std::io::{IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use terminal_size::{Height, Width, terminal_size_of};

use crate::Usage;
use crate::shorten::shorten;
use crate::visible::visible_styled;

/// Shows the alternate screen, hides the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
/// Clears what an earlier frame left behind: to the end of a line, of the screen.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// The characters of a line where stdout is a terminal: `COLUMNS`, or else its own size.
pub fn width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let own = || terminal_size_of(std::io::stdout()).map(|(Width(columns), _)| columns.into());
    variable("COLUMNS").or_else(own)
}

fn height() -> Option<usize> {
    let own = || terminal_size_of(std::io::stdout()).map(|(_, Height(lines))| lines.into());
    variable("LINES").or_else(own)
}

/// A size that the environment gives.
fn variable(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok().filter(|&size| size > 0)
}

/// The terminal while it is drawn on; what stood there before comes back at the end.
pub struct Screen(());

impl Screen {
    /// That there is a terminal to draw on.
    ///
    /// # Errors
    /// Wrong use where stdout is none.
    pub fn check() -> Result<(), Usage> {
        if std::io::stdout().is_terminal() {
            return Ok(());
        }
        Err(Usage::new("--watch draws on a terminal, and the output goes elsewhere: leave it out"))
    }

    /// Takes over the terminal.
    ///
    /// # Errors
    /// Wrong use where stdout is none.
    pub fn open() -> anyhow::Result<Self> {
        Self::check()?;
        write(ENTER)?;
        Ok(Self(()))
    }

    /// Draws a frame over the last one; what does not fit is cut, and secrets are hidden.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn draw(&self, text: &str) -> anyhow::Result<()> {
        let plain;
        let text = match AutoStream::choice(&std::io::stdout()) {
            ColorChoice::Never => {
                plain = anstream::adapter::strip_str(text).to_string();
                &plain
            }
            _ => text,
        };
        let text = &secrets::text(text);
        Ok(write(&frame(text, width().unwrap_or(80), height().unwrap_or(24)))?)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write(LEAVE);
    }
}

fn frame(text: &str, width: usize, height: usize) -> String {
    let text = visible_styled(text);
    let mut lines: Vec<String> = text.lines().map(|line| shorten(line, width)).collect();
    if lines.len() > height {
        let more = lines.len() - (height - 1);
        lines.truncate(height - 1);
        lines.push(shorten(&format!("… {more} more lines"), width));
    }
    format!("{HOME}{}{CLEAR_LINE}{CLEAR_BELOW}", lines.join(&format!("{CLEAR_LINE}\r\n")))
}

fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_covers_what_was_there_and_never_scrolls() {
        assert_eq!(frame("one\ntwo", 80, 2), "\x1b[Hone\x1b[K\r\ntwo\x1b[K\x1b[J");
        assert_eq!(
            frame("a long line\ntwo\nthree", 6, 2),
            "\x1b[Ha lon…\x1b[K\r\n… 2 m…\x1b[K\x1b[J"
        );
    }
}
