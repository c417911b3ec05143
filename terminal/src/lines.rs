//! What another program printed, passed on line by line without secrets.

use std::io::Write;

/// The longest line that is waited for.
const LONGEST: usize = 64 * 1024;

/// A writer that passes whole lines on to another one, secrets hidden; what it draws over itself (`\r`) counts
/// as a line. What is left at its end is passed on by [`Lines::finish`].
pub struct Lines<W: Write> {
    out: W,
    rest: Vec<u8>,
}

impl<W: Write> Lines<W> {
    /// Passes on to this writer.
    pub fn new(out: W) -> Self {
        Self { out, rest: Vec::new() }
    }

    /// Passes on what is left, a line without an end.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(&mut self) -> std::io::Result<()> {
        self.pass_on(self.rest.len())?;
        self.out.flush()
    }

    fn pass_on(&mut self, length: usize) -> std::io::Result<()> {
        let bytes: Vec<u8> = self.rest.drain(..length).collect();
        match std::str::from_utf8(&bytes) {
            Ok(text) => self.out.write_all(secrets::text(text).as_bytes()),
            Err(_) => {
                // What is no text is passed on as it is, unless it has a secret.
                let text = String::from_utf8_lossy(&bytes);
                match secrets::text(&text) {
                    shown if shown == text => self.out.write_all(&bytes),
                    shown => self.out.write_all(shown.as_bytes()),
                }
            }
        }
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        let end = self.rest.iter().rposition(|byte| b"\r\n".contains(byte));
        match end {
            Some(end) => self.pass_on(end + 1)?,
            None if self.rest.len() > LONGEST => self.pass_on(self.rest.len())?,
            None => {}
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_comes_in_pieces_is_hidden_and_every_other_byte_comes() {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out);
        for piece in ["1%\r2%\rat https://me:s3c", "ret@host/x\nodd ", "\u{e9} end"] {
            lines.write_all(piece.as_bytes()).unwrap();
        }
        lines.write_all(b"\xff\n password=s3cret").unwrap();
        lines.finish().unwrap();
        let expected = [&b"1%\r2%\rat https://host/x\nodd \xc3\xa9 end\xff\n password=***"[..]];
        assert_eq!(out, expected.concat());
    }
}
