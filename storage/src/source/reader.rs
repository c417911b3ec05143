//! A far file as a file: read as it comes, from any place on, and taken up again at the byte where a
//! connection broke.
//!
//! Always holds: what is read is what the file holds at that place, or an error that is kept as the
//! source's [`Fault`]; the end is where the length says, wherever a body ends; of what was read at most
//! [`HELD`] bytes are kept, twice.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::origin::{Body, Facts, Failure, Origin};
use super::retry::Tries;
use super::{Fault, Reach};
use crate::calls::{leave, wait};
use crate::{Error, Result};

/// Bytes that are asked for after a leap. Each further request in a row asks for eight times as many, and
/// from the last one on for all that is left.
const FIRST: u64 = 64 << 10;
const GROWTH: u64 = 8;
const LAST: u64 = 64 << 20;
/// A gap that is read and passed over rather than leapt.
const GAP: u64 = 1 << 20;
/// Bytes before the present place that are still there to go back to.
const HELD: usize = 512 << 10;
/// Places of a file that are read alternately without a new request each.
const READERS: usize = 4;

/// A file that is far away, of which length and identity are known. Cheap to clone.
#[derive(Clone)]
pub struct FarFile(Arc<Inner>);

struct Inner {
    origin: Arc<Origin>,
    facts: Facts,
    name: String,
    reach: Reach,
    fault: Fault,
}

impl FarFile {
    pub(super) fn new(
        origin: Arc<Origin>,
        facts: Facts,
        name: String,
        reach: Reach,
        fault: Fault,
    ) -> Self {
        Self(Arc::new(Inner { origin, facts, name, reach, fault }))
    }

    /// Asks what a file is, by its first byte: not every address that may be read may be asked otherwise.
    pub(super) fn look_up(
        origin: Origin,
        name: String,
        reach: Reach,
        fault: Fault,
    ) -> Result<Self> {
        let origin = Arc::new(origin);
        let mut tries = Tries::new(&name, reach, false);
        let facts = loop {
            let asked = Arc::clone(&origin);
            let call = async move { asked.get(0..1, None).await.map(|answer| answer.facts) };
            match within(reach.stall, call) {
                Ok(facts) => break facts,
                Err(failure) => tries.again(failure, "when it was looked up")?,
            }
        };
        let refused =
            |message: &str| Error::Refused { place: name.clone(), message: message.into() };
        if !facts.tell_changes() {
            return Err(refused(
                "has neither ETag nor Last-Modified, so that nobody would notice if it was \
                 replaced while it is read: download it first",
            ));
        }
        Ok(Self::new(origin, facts, name, reach, fault))
    }

    /// The address, without what may be secret.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Bytes of the whole file.
    pub fn length(&self) -> u64 {
        self.0.facts.length
    }

    /// The ETag, as it was given.
    pub fn tag(&self) -> Option<&str> {
        self.0.facts.tag.as_deref()
    }

    /// When it was changed last, as it was given.
    pub fn modified(&self) -> Option<&str> {
        self.0.facts.modified.as_deref()
    }

    /// Whether parts of it can be asked for; else it can only be read from front to end.
    pub fn has_ranges(&self) -> bool {
        self.0.facts.ranges
    }

    /// What went wrong with the reading.
    pub fn fault(&self) -> &Fault {
        &self.0.fault
    }

    /// Reads from the first byte on.
    pub fn reader(&self) -> FarReader {
        FarReader { file: self.clone(), at: 0, held: Held::default(), body: None, next: FIRST }
    }

    /// Reads here and there.
    pub fn readers(&self) -> FarReaders {
        FarReaders { file: self.clone(), readers: Mutex::default() }
    }

    /// The whole file, which must be no longer than `most`.
    ///
    /// # Errors
    /// When it is longer, or cannot be read.
    pub fn read_all(&self, most: u64) -> io::Result<Vec<u8>> {
        let length = self.length();
        if length > most {
            return Err(io::Error::other(format!("{length} bytes, at most {most}")));
        }
        let mut bytes = vec![0; length as usize];
        let mut reader = self.reader();
        // All by one request.
        reader.next = length.max(FIRST);
        reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Waits for a call, and no longer than this.
fn within<T: Send + 'static>(
    limit: Duration,
    call: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let stalled = || {
        let said = format!("nothing came for {} s", limit.as_secs_f32());
        Failure::Passing { said, wait: None, reached: true }
    };
    match wait(async move { timeout(limit, call).await }) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(stalled()),
        Err(error) => Err(Failure::passing(error.to_string())),
    }
}

/// A reader of a far file.
pub struct FarReader {
    file: FarFile,
    at: u64,
    held: Held,
    body: Option<Open>,
    /// Bytes that the next request asks for.
    next: u64,
}

/// A body that comes.
struct Open {
    body: Body,
    /// The place of its next byte, and where it ends.
    at: u64,
    end: u64,
    /// Whether it is the whole file, since parts cannot be asked for.
    whole: bool,
}

impl Drop for FarReader {
    fn drop(&mut self) {
        self.close();
    }
}

impl Read for FarReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() || self.at >= self.file.length() {
            return Ok(0);
        }
        self.file.fault().check()?;
        if self.held.after(self.at).is_empty() {
            self.fetch().map_err(|error| self.file.fault().set(error))?;
        }
        let held = self.held.after(self.at);
        let count = held.len().min(bytes.len());
        bytes[..count].copy_from_slice(&held[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for FarReader {
    /// Goes to a place; nothing is asked for before the next reading.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.length().checked_add_signed(by),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "a place before the file");
        self.at = at.ok_or_else(before)?;
        Ok(self.at)
    }
}

impl FarReader {
    /// Makes the byte at the present place be held, however often that takes.
    fn fetch(&mut self) -> Result<(), Error> {
        let file = self.file.clone();
        let mut tries = Tries::new(file.name(), file.0.reach, true);
        while self.held.after(self.at).is_empty() {
            if let Err(failure) = self.step() {
                self.body = None;
                tries.again(failure, &format!("at byte {} of {}", self.at, file.length()))?;
            }
        }
        Ok(())
    }

    /// Takes in the next bytes that come, from a body that leads to the present place.
    fn step(&mut self) -> Result<(), Failure> {
        let mut open = match self.body.take() {
            Some(open) if self.leads_on(&open) => open,
            left => {
                self.body = left;
                self.ask()?
            }
        };
        let stall = self.file.0.reach.stall;
        let (open, chunk) = within(stall, async move {
            let chunk = open.body.chunk().await?;
            Ok((open, chunk))
        })?;
        let left = open.end - open.at;
        let Some(chunk) = chunk else {
            return Err(Failure::passing(format!("the connection ended {left} bytes early")));
        };
        if chunk.len() as u64 > left {
            return Err(Failure::Final(Error::Store {
                doing: "read",
                place: self.file.name().to_owned(),
                message: "its server sends more bytes than it says".to_owned(),
            }));
        }
        self.held.add(open.at, &chunk, self.at);
        let at = open.at + chunk.len() as u64;
        self.body = Some(Open { at, ..open });
        Ok(())
    }

    /// Whether the present place comes soon.
    fn leads_on(&self, open: &Open) -> bool {
        let gap = self.at.checked_sub(open.at);
        let soon = gap.is_some_and(|gap| gap <= GAP || open.whole);
        soon && self.at < open.end
    }

    /// Asks for the file from the present place on.
    fn ask(&mut self) -> Result<Open, Failure> {
        let length = self.file.length();
        let goes_on =
            self.body.as_ref().is_some_and(|open| open.at == open.end && open.at == self.at);
        self.close();
        if goes_on {
            self.next = if self.next > LAST { length } else { self.next.saturating_mul(GROWTH) };
        } else if self.next < FIRST || !self.held.is_empty() {
            self.next = FIRST;
        }
        let range = self.at..self.at.saturating_add(self.next).min(length);
        let file = self.file.clone();
        let answer = within(self.file.0.reach.stall, async move {
            file.0.origin.get(range, Some(&file.0.facts)).await
        })?;
        let Range { start, end } = answer.range;
        match start <= self.at && self.at < end {
            true => Ok(Open { body: answer.body, at: start, end, whole: !answer.facts.ranges }),
            false => Err(Failure::passing("its server sends other bytes than it was asked for")),
        }
    }

    /// Ends a body. What little is left of it is read, so that its connection can be used again.
    fn close(&mut self) {
        let Some(mut open) = self.body.take() else { return };
        if open.end - open.at <= FIRST {
            let stall = self.file.0.reach.stall;
            leave(async move {
                let rest = async { while let Ok(Some(_)) = open.body.chunk().await {} };
                let _ = timeout(stall, rest).await;
            });
        }
    }
}

/// The bytes that came last, in a row.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    /// Where the first one stands in the file.
    from: u64,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds bytes that stand at `at`; those long before `wanted` are let go.
    fn add(&mut self, at: u64, bytes: &Bytes, wanted: u64) {
        if at != self.from + self.bytes.len() as u64 {
            self.bytes.clear();
            self.from = at;
        }
        self.bytes.extend_from_slice(bytes);
        let before = usize::try_from(wanted.saturating_sub(self.from)).unwrap_or(usize::MAX);
        let passed = before.min(self.bytes.len());
        if passed > 2 * HELD {
            let gone = passed - HELD;
            self.bytes.drain(..gone);
            self.from += gone as u64;
        }
    }

    /// The bytes from a place on, as far as they are held.
    fn after(&self, at: u64) -> &[u8] {
        let skip = at.checked_sub(self.from).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.bytes.get(skip..)).unwrap_or_default()
    }
}

/// Readers of one file, so that several places of it, such as the columns of a table, are each read in a
/// row.
pub struct FarReaders {
    file: FarFile,
    /// The one that was used last is the last.
    readers: Mutex<Vec<FarReader>>,
}

impl FarReaders {
    /// Bytes of the whole file.
    pub fn length(&self) -> u64 {
        self.file.length()
    }

    /// Reads some bytes at a place; none at the end.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let near = |reader: &FarReader| {
            let held = !reader.held.after(at).is_empty();
            held || at.checked_sub(reader.at).is_some_and(|gap| gap <= GAP)
        };
        let mut reader = match readers.iter().rposition(near) {
            Some(place) => readers.remove(place),
            None if readers.len() < READERS => self.file.reader(),
            None => readers.remove(0),
        };
        reader.at = at;
        let read = reader.read(bytes);
        readers.push(reader);
        read
    }

    /// Bytes `at..at + length`.
    ///
    /// # Errors
    /// Where the file ends before, or cannot be read.
    pub fn read_exact(&self, at: u64, length: usize) -> io::Result<Bytes> {
        let end = at.checked_add(length as u64).filter(|&end| end <= self.length());
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut bytes = vec![0; length];
        let mut done = 0;
        while done < length {
            match self.read(at + done as u64, &mut bytes[done..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_in_a_row() {
        let mut held = Held::default();
        let bytes = Bytes::from(vec![7; 100_000]);
        for number in 0..100 {
            held.add(number * 100_000, &bytes, (number + 1) * 100_000);
            assert!(held.bytes.len() <= 2 * HELD + 200_000);
        }
        assert_eq!(held.after(9_999_999).len(), 1);
        assert!(held.after(10_000_000).is_empty() && held.after(0).is_empty());
        held.add(5, &Bytes::from_static(b"abc"), 6);
        assert_eq!(held.after(6), b"bc");
    }
}
