//! Lists that users give, such as names of classes: as text, within limits.

use std::io::ErrorKind;
use std::path::Path;

use crate::{Error, Result};

/// A file as text, of at most `max_bytes` bytes; a byte order mark is no part of it.
///
/// # Errors
/// When it cannot be read, is longer, is not UTF-8, or is a pipe that nobody writes to.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<String> {
    let bytes = storage::limited::read(path, max_bytes).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => {
            Error::source(path, format!("is too long for a list, at most {max_bytes} bytes"))
        }
        _ => Error::io("read", path)(error),
    })?;
    of(bytes).map_err(|message| Error::source(path, message))
}

/// The text of these bytes; a byte order mark is no part of it.
///
/// # Errors
/// For text in another encoding than UTF-8, with what to do.
pub(crate) fn of(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("is UTF-16: write it as UTF-8 (iconv -f UTF-16 -t UTF-8)".into());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("is not UTF-8, from byte {at} on: write it as UTF-8 (iconv -t UTF-8)")
    })?;
    if text.contains('\0') {
        return Err("is no text: it holds zeros, as UTF-16 without its mark does".into());
    }
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The lines of a list in which the number of a line says what it is for; empty ones at the end are none.
///
/// # Errors
/// For an empty line before others: passed over, it would shift what the others are for.
pub(crate) fn numbered(text: &str) -> Result<Vec<&str>, String> {
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim).collect();
    match lines.iter().position(|line| line.is_empty()) {
        None => Ok(lines),
        Some(at) => Err(format!(
            "line {} is empty; what a line is for goes by its number: fill it in, or take it out",
            at + 1
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_text() {
        assert_eq!(of(b"\xef\xbb\xbfant\n".to_vec()).unwrap(), "ant\n");
        for wrong in [&b"\xff\xfea\0"[..], b"\xfe\xff\0a", b"a\0n\0", b"\xff"] {
            let message = of(wrong.to_vec()).unwrap_err();
            assert!(message.contains("UTF"), "{message}");
        }
        assert!(of(b"\xff\xfea\0".to_vec()).unwrap_err().contains("is UTF-16"));
    }

    #[test]
    fn longer_files_are_no_lists() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.txt");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), "12345");
        assert!(read(&path, 4).unwrap_err().to_string().contains("too long"));
        // Not read: as long as no memory is.
        std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 42).unwrap();
        assert!(read(&path, 1 << 40).unwrap_err().to_string().contains("too long"));
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_is_no_empty_list() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mut mkfifo = std::process::Command::new("mkfifo");
        assert!(mkfifo.arg(&pipe).status().unwrap().success());
        let message = read(&pipe, 5).unwrap_err().to_string();
        assert!(message.contains("it is a pipe that nobody wrote to"), "{message}");
    }

    #[test]
    fn an_empty_line_would_shift_the_others() {
        assert_eq!(numbered("a \n b\r\n\n \n").unwrap(), ["a", "b"]);
        assert!(numbered("").unwrap().is_empty());
        assert!(numbered("a\n\nb").unwrap_err().starts_with("line 2 is empty"));
        assert!(numbered("\na").unwrap_err().starts_with("line 1 is empty"));
    }
}
