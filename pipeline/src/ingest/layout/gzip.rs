//! Gzip as the program reads it: members one behind the other are one text, zeros behind the last are
//! padding; anything else there is an error.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::tape::MAX_PADDING;

/// Members that are no matter, and bytes that each further one holds on average: bgzip makes one of 64 KiB. A file of 40
/// megabytes may have two million that hold nothing, and each costs as much as some kilobytes.
const USUAL_MEMBERS: u64 = 1 << 16;
const LEAST: u64 = 1 << 10;

/// The text of all members.
pub(super) struct Gzip<R> {
    state: State<R>,
    members: u64,
    bytes: u64,
}

enum State<R> {
    Member(Box<GzDecoder<R>>),
    Ended,
}

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { state: State::Member(Box::new(GzDecoder::new(reader))), members: 1, bytes: 0 }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let State::Member(member) = &mut self.state else { return Ok(0) };
            let count = member.read(bytes)?;
            if count > 0 || bytes.is_empty() {
                self.bytes += count as u64;
                return Ok(count);
            }
            let State::Member(member) = std::mem::replace(&mut self.state, State::Ended) else {
                return Ok(0);
            };
            let mut reader = member.into_inner();
            if another(&mut reader)? {
                self.members += 1;
                if self.members > USUAL_MEMBERS + self.bytes / LEAST {
                    return Err(damaged(&format!(
                        "gzip data in {} parts of next to nothing; pack it again: gzip -dc FILE | gzip > NEW",
                        self.members
                    )));
                }
                self.state = State::Member(Box::new(GzDecoder::new(reader)));
            }
        }
    }
}

/// Whether another member follows; padding is passed over.
fn another(reader: &mut impl BufRead) -> io::Result<bool> {
    let mut padding = 0_u64;
    loop {
        let buffer = reader.fill_buf()?;
        let zeros = buffer.iter().take_while(|&&byte| byte == 0).count();
        match buffer.get(zeros) {
            Some(0x1f) if padding == 0 && zeros == 0 => return Ok(true),
            Some(_) => {
                return Err(damaged(
                    "bytes that are no gzip follow the gzip data; if they are not needed, pack it again: gzip \
                     -dcq FILE | gzip > NEW",
                ));
            }
            None if buffer.is_empty() => return Ok(false),
            None => {}
        }
        padding += zeros as u64;
        reader.consume(zeros);
        if padding > MAX_PADDING {
            return Err(damaged(&format!(
                "more than {} MiB of zeros follow the gzip data; pack it again: gzip -dcq FILE | gzip > NEW",
                MAX_PADDING >> 20
            )));
        }
    }
}

fn damaged(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    fn packed(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        // A small buffer, so that all ends fall between two fillings once.
        let reader = io::BufReader::with_capacity(7, bytes);
        Gzip::new(reader).read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn members_are_one_text_and_zeros_behind_them_are_padding() {
        let two = [packed("one "), packed("two")].concat();
        assert_eq!(read(&two).unwrap(), "one two");
        assert_eq!(read(&[two.clone(), vec![0; 1000]].concat()).unwrap(), "one two");
        let message = read(&[two.clone(), b"rest".to_vec()].concat()).unwrap_err().to_string();
        assert!(message.contains("follow the gzip data"), "{message}");
        assert!(read(&[two.clone(), vec![0; 10], b"rest".to_vec()].concat()).is_err());
        assert!(read(&two[..two.len() - 3]).is_err());
    }

    #[test]
    fn members_are_bounded_by_what_they_hold() {
        // The usual ones, and as many more as there is text for.
        let (empty, full) = (packed(""), packed(&"a".repeat(10 << 10)));
        let of = |empties: usize| [full.clone(), empty.repeat(empties)].concat();
        let most = USUAL_MEMBERS as usize + 9;
        assert_eq!(read(&of(most)).unwrap().len(), 10 << 10);
        let message = read(&of(most + 1)).unwrap_err().to_string();
        assert!(message.contains("parts of next to nothing"), "{message}");
    }

    #[test]
    fn zeros_behind_the_members_are_bounded() {
        let zeros = |count| {
            io::BufReader::new(io::Cursor::new(packed("one")).chain(io::repeat(0).take(count)))
        };
        let mut text = String::new();
        Gzip::new(zeros(MAX_PADDING)).read_to_string(&mut text).unwrap();
        let error = Gzip::new(zeros(u64::MAX)).read_to_string(&mut text).unwrap_err();
        assert!(error.to_string().contains("64 MiB of zeros"), "{error}");
    }
}
