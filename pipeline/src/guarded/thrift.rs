//! A walk over structures of Thrift's compact protocol, which Parquet's metadata are written in: what is there is
//! shown to a visitor, nothing is kept, and what a length or a count says is held against the bytes that are there.

use std::io::{ErrorKind, Read};

/// Structures and lists within one another.
const DEPTH: usize = 24;

/// What was met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Seen {
    /// A structure begins.
    Structure,
    /// A list with this number of elements.
    List(u64),
    /// A whole number of 16 bits or more.
    Number(i64),
    /// A value of another type.
    Other,
}

/// Fields' numbers from the outermost structure to what was met; elements of a list have that of the list.
pub(super) type Path<'a> = &'a [i16];

/// A walk over what a reader gives, of at most so many bytes.
pub(super) struct Walk<'a, R> {
    reader: R,
    left: u64,
    path: Vec<i16>,
    visit: &'a mut dyn FnMut(Path, Seen) -> Result<(), String>,
}

impl<'a, R: Read> Walk<'a, R> {
    /// Walks over one structure; gives the number of its bytes.
    ///
    /// # Errors
    /// What is no such structure, or is longer than `most`; what the visitor says.
    pub(super) fn over(
        reader: R,
        most: u64,
        visit: &'a mut dyn FnMut(Path, Seen) -> Result<(), String>,
    ) -> Result<u64, String> {
        let mut walk = Self { reader, left: most, path: Vec::new(), visit };
        walk.structure(0)?;
        Ok(most - walk.left)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.left = self.left.checked_sub(1).ok_or_else(early)?;
        let mut byte = [0];
        self.reader.read_exact(&mut byte).map_err(unread)?;
        Ok(byte[0])
    }

    fn pass(&mut self, count: u64) -> Result<(), String> {
        self.left = self.left.checked_sub(count).ok_or_else(early)?;
        let passed = std::io::copy(&mut (&mut self.reader).take(count), &mut std::io::sink());
        if passed.map_err(unread)? == count { Ok(()) } else { Err(early()) }
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number of more than 64 bits".to_owned())
    }

    fn number(&mut self) -> Result<i64, String> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn see(&mut self, seen: Seen) -> Result<(), String> {
        (self.visit)(&self.path, seen)
    }

    fn structure(&mut self, depth: usize) -> Result<(), String> {
        if depth > DEPTH {
            return Err(format!("more than {DEPTH} structures within one another"));
        }
        self.see(Seen::Structure)?;
        let mut last = 0i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            let wrong = || "a field's number is wrong".to_owned();
            last = match head >> 4 {
                0 => i16::try_from(self.number()?).map_err(|_| wrong())?,
                step => last.checked_add(step.into()).ok_or_else(wrong)?,
            };
            self.path.push(last);
            match head & 15 {
                // Truth values have no bytes of their own.
                1 | 2 => self.see(Seen::Other)?,
                kind => self.value(kind, depth)?,
            }
            self.path.pop();
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Result<(), String> {
        if !matches!(kind, 4..=6 | 9 | 10 | 12) {
            self.see(Seen::Other)?;
        }
        match kind {
            // Bytes, and the truth values of a list.
            1..=3 => self.pass(1),
            4..=6 => {
                let value = self.number()?;
                self.see(Seen::Number(value))
            }
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            9 | 10 => self.list(depth),
            12 => self.structure(depth + 1),
            other => Err(format!("a value of the unknown type {other}")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<(), String> {
        let head = self.byte()?;
        let kind = head & 15;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => count.into(),
        };
        // The shortest structure of Parquet that is anything has three bytes.
        let least = if kind == 12 { 3 } else { 1 };
        if count > self.left / least {
            return Err(format!("a list of {count} elements in {} bytes", self.left));
        }
        if depth + 1 > DEPTH {
            return Err(format!("more than {DEPTH} lists within one another"));
        }
        self.see(Seen::List(count))?;
        for _ in 0..count {
            self.value(kind, depth + 1)?;
        }
        Ok(())
    }
}

fn early() -> String {
    "it ends early".to_owned()
}

fn unread(error: std::io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => early(),
        _ => error.to_string(),
    }
}
