//! Zstandard as the program reads it, frames one behind the other, skippable ones among them; errors with
//! what to do.

use std::io::{self, BufRead, ErrorKind, Read};

use zstd::stream::read::Decoder;

const FRAME: &[u8] = b"\x28\xb5\x2f\xfd";
/// A frame without data begins so, after a byte from 0x50 to 0x5f; pzstd writes one first.
const SKIPPABLE: &[u8] = b"\x2a\x4d\x18";

/// True for the first bytes of such data.
pub(super) fn is_zstd(head: &[u8]) -> bool {
    let skippable = matches!(head, [0x50..=0x5f, rest @ ..] if rest.starts_with(SKIPPABLE));
    head.starts_with(FRAME) || skippable
}

/// The text of all frames.
pub(super) struct Zst<'a, R: BufRead>(Decoder<'a, R>);

impl<R: BufRead> Zst<'_, R> {
    pub(super) fn new(reader: R) -> io::Result<Self> {
        Decoder::with_buffer(reader).map(Self).map_err(told)
    }
}

impl<R: BufRead> Read for Zst<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes).map_err(told)
    }
}

/// What the library says, with a remedy. It has no kinds of errors, only texts.
fn told(error: io::Error) -> io::Error {
    if error.kind() != ErrorKind::Other {
        return error;
    }
    let text = error.to_string();
    let (kind, message) = match text.as_str() {
        text if text.contains("Unknown frame descriptor") => {
            let message = "bytes that are no zstd data follow the zstd data; if they are not needed, \
                           unpack it: zstd -dc FILE > NEW.tar";
            (ErrorKind::InvalidData, message.to_owned())
        }
        text if text.contains("too much memory") => {
            let message = "is packed with a window of more than 128 MiB (zstd --long), which is not read; \
                           unpack it: zstd -d --long=31 FILE";
            (ErrorKind::Unsupported, message.to_owned())
        }
        text if text.contains("Dictionary") => {
            let message = "is packed with a dictionary, which is not read; unpack it: zstd -d -D DICTIONARY \
                           FILE";
            (ErrorKind::Unsupported, message.to_owned())
        }
        text => (ErrorKind::InvalidData, format!("{text}; download it again")),
    };
    io::Error::new(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        let reader = io::BufReader::with_capacity(7, bytes);
        Zst::new(reader)?.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn frames_are_one_text_and_errors_say_what_to_do() {
        let frame = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
        let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd".to_vec();
        let all = [skippable.clone(), frame("one "), skippable, frame("two")].concat();
        assert!(is_zstd(&all) && is_zstd(&frame("x")) && !is_zstd(b"\x04\x22\x4d\x18"));
        assert_eq!(read(&all).unwrap(), "one two");
        let behind = read(&[all.clone(), vec![0; 100]].concat()).unwrap_err().to_string();
        assert!(behind.contains("follow the zstd data"), "{behind}");
        let mut damaged = all.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(read(&damaged).is_err() || read(&damaged).unwrap() != "one two");
        assert!(read(&all[..all.len() - 1]).is_err());
    }
}
