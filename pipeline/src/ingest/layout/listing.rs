//! The names that a folder had when it was looked through, kept in a temporary file, so that what is
//! gone when it is read can be named. Memory does not grow with the folder.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

/// Names in the order of a walk, as they are written down.
pub(super) struct Listing(BufWriter<File>);

impl Listing {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(BufWriter::new(tempfile::tempfile()?)))
    }

    pub(super) fn add(&mut self, name: &str) -> io::Result<()> {
        self.0.write_all(&(name.len() as u32).to_le_bytes())?;
        self.0.write_all(name.as_bytes())
    }

    /// The names from the first one on.
    pub(super) fn finish(self) -> io::Result<Expected> {
        let mut file = self.0.into_inner().map_err(|error| error.into_error())?;
        file.rewind()?;
        let mut expected = Expected { names: BufReader::new(file), next: None };
        expected.advance()?;
        Ok(expected)
    }
}

/// Names that a second walk should meet, in the same order.
pub(super) struct Expected {
    names: BufReader<File>,
    next: Option<String>,
}

impl Expected {
    /// The next name that is not there any more, given the one that was met; none to go on.
    pub(super) fn gone_before(&mut self, met: Option<&str>) -> io::Result<Option<String>> {
        let Some(next) = &self.next else { return Ok(None) };
        let order = met.map_or(Ordering::Less, |met| next.split('/').cmp(met.split('/')));
        match order {
            Ordering::Greater => Ok(None),
            Ordering::Equal => {
                self.advance()?;
                Ok(None)
            }
            Ordering::Less => {
                let gone = self.next.take();
                self.advance()?;
                Ok(gone)
            }
        }
    }

    fn advance(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.next = match self.names.read_exact(&mut length) {
            Ok(()) => {
                let mut name = vec![0; u32::from_le_bytes(length) as usize];
                self.names.read_exact(&mut name)?;
                Some(String::from_utf8_lossy(&name).into_owned())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_gone_are_told_in_their_place() {
        let mut listing = Listing::new().unwrap();
        // In the order of a walk, part by part.
        for name in ["a/1", "a/2", "a b/x", "b"] {
            listing.add(name).unwrap();
        }
        let mut expected = listing.finish().unwrap();
        assert_eq!(expected.gone_before(Some("a/0")).unwrap(), None, "a new one");
        assert_eq!(expected.gone_before(Some("a/2")).unwrap().as_deref(), Some("a/1"));
        assert_eq!(expected.gone_before(Some("a/2")).unwrap(), None);
        assert_eq!(expected.gone_before(Some("b")).unwrap().as_deref(), Some("a b/x"));
        assert_eq!(expected.gone_before(Some("b")).unwrap(), None);
        assert_eq!(expected.gone_before(None).unwrap(), None);
    }
}
