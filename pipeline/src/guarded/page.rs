//! The header of a page: what it says of sizes and counts is checked before anything is made room for.

use std::io::Read;

use super::thrift::{Path, Seen, Walk};

/// Longest header; statistics within it may repeat a value.
const LONGEST: u64 = 16 << 20;
/// Most values of a page; writers end one at a megabyte or at some ten thousand values.
const MOST_VALUES: i64 = 16 << 20;
/// Bytes that a page may have after decompression whatever it had before.
const FREE: u64 = 16 << 20;
/// How many times longer a page may become by decompression, beyond that.
const RATIO: u64 = 64;
/// Most bytes of a page after decompression.
const MOST: u64 = 1 << 30;
/// Most bytes that the rows of one batch may have where one value can be theirs again and again.
const REPEATED: u64 = 1 << 30;

/// Kinds of pages.
const DATA: i64 = 0;
const INDEX: i64 = 1;
const DICTIONARY: i64 = 2;
/// Encoding of values one behind the other.
const PLAIN: i64 = 0;
/// Encoding by which a value repeats part of the one before it.
const DELTA_BYTE_ARRAY: i64 = 7;

/// What the header of a page says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Header {
    /// Bytes of the header itself.
    pub(super) length: u64,
    kind: i64,
    pub(super) unpacked: i64,
    pub(super) packed: i64,
    values: i64,
    encoding: i64,
    levels: [i64; 2],
}

/// What it is the page of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    /// Values are of any length.
    pub(crate) texts: bool,
    /// Rows that are made at once.
    pub(crate) rows: u64,
}

impl Header {
    /// Reads and checks a header.
    ///
    /// # Errors
    /// When it is no page header, or its numbers contradict each other.
    pub(crate) fn read(bytes: impl Read, of: Use) -> Result<Self, String> {
        // What is not there is no size.
        let mut header = Self { kind: -1, unpacked: -1, packed: -1, values: -1, ..Self::default() };
        let mut visit = |path: Path, seen: Seen| {
            let value = match (path, seen) {
                (_, Seen::Number(value)) => value,
                // The library would read a number there.
                ([1..=3] | [5 | 7, 1 | 2] | [8, 1..=6], _) => {
                    return Err("has a page header with impossible numbers".to_owned());
                }
                _ => return Ok(()),
            };
            match path {
                [1] => header.kind = value,
                [2] => header.unpacked = value,
                [3] => header.packed = value,
                [5 | 7 | 8, 1] => header.values = value,
                [5 | 7, 2] | [8, 4] => header.encoding = value,
                [8, place @ (5 | 6)] => header.levels[usize::from(*place == 6)] = value,
                [8, 2 | 3] if !(0..=MOST_VALUES).contains(&value) => {
                    return Err(format!("counts {value} rows or nulls"));
                }
                _ => {}
            }
            Ok(())
        };
        let length = Walk::over(bytes, LONGEST, &mut visit)?;
        header.length = length;
        header.check(of)?;
        Ok(header)
    }

    /// Checks that it is the page of plain values that our own files have.
    ///
    /// # Errors
    /// Where it is another one.
    pub(crate) fn is_plain(&self) -> Result<(), String> {
        match (self.kind, self.encoding) {
            (DATA, PLAIN) => Ok(()),
            _ => Err("is not one of plain data".to_owned()),
        }
    }

    fn check(&self, of: Use) -> Result<(), String> {
        let Self { unpacked, packed, values, .. } = *self;
        let sizes = u64::try_from(unpacked).ok().zip(u64::try_from(packed).ok());
        let (unpacked, packed) =
            sizes.ok_or_else(|| format!("says {packed} bytes, {unpacked} unpacked"))?;
        if self.kind != INDEX && !(0..=MOST_VALUES).contains(&values) {
            return Err(format!("says {values} values, at most {MOST_VALUES} are read"));
        }
        let is_dictionary = self.kind == DICTIONARY;
        if is_dictionary && (values as u64 > 8 * unpacked || (values == 0) != (unpacked == 0)) {
            return Err(format!("is a dictionary of {values} values in {unpacked} bytes"));
        }
        let [first, second] = self.levels;
        if first < 0 || second < 0 || first.saturating_add(second) > self.unpacked {
            return Err(format!("says {first} and {second} bytes of levels in {unpacked}"));
        }
        let mut most = FREE.max(packed.saturating_mul(RATIO)).min(MOST);
        if of.texts && (is_dictionary || self.encoding == DELTA_BYTE_ARRAY) {
            // Values of honest pictures shrink by little.
            most = most.min((REPEATED / of.rows.max(1)).max(packed.saturating_mul(4)));
        }
        if unpacked > most {
            return Err(format!(
                "has {packed} bytes and says {unpacked} unpacked, at most {most} are read"
            ));
        }
        Ok(())
    }
}
