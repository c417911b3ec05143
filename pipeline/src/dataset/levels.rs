//! Definition levels of a data page (version 1): what says which values are null. Ours never are, so
//! that all levels are the highest one and the values follow one another.

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};

/// The values of a page without its levels.
///
/// # Errors
/// Where a value is null, or the levels are damaged.
pub(super) fn without(page: Bytes, values: u32, highest: i16) -> Result<Bytes> {
    if highest == 0 {
        return Ok(page);
    }
    let short = || ParquetError::EOF("page ends within its levels".into());
    let length: [u8; 4] = page.get(..4).and_then(|l| l.try_into().ok()).ok_or_else(short)?;
    let end = (u32::from_le_bytes(length) as usize).checked_add(4).ok_or_else(short)?;
    let levels = page.get(4..end).ok_or_else(short)?;
    match all_are(levels, values as usize, highest as u8) {
        Some(true) => Ok(page.slice(end..)),
        Some(false) => Err(ParquetError::General("page holds a null".into())),
        None => Err(short()),
    }
}

/// Whether `count` levels, run-length encoded and bit-packed in turns, all are `highest`; none where
/// there are fewer.
fn all_are(mut levels: &[u8], count: usize, highest: u8) -> Option<bool> {
    let width = (u8::BITS - highest.leading_zeros()) as usize;
    let mut left = count;
    while left > 0 {
        let header = varint(&mut levels)?;
        let length = usize::try_from(header >> 1).ok()?;
        if header & 1 == 0 {
            let (level, rest) = levels.split_first()?;
            if *level != highest {
                return Some(false);
            }
            levels = rest;
            left -= length.min(left);
            if length == 0 {
                return None;
            }
        } else {
            // Groups of eight; what follows the last level is padding.
            let packed = levels.split_off(..length.checked_mul(width)?)?;
            let here = length.checked_mul(8)?.min(left);
            let level = |at: usize| {
                (0..width).fold(0, |level, bit| {
                    let place = at * width + bit;
                    level | (packed[place / 8] >> (place % 8) & 1) << bit
                })
            };
            if (0..here).any(|at| level(at) != highest) {
                return Some(false);
            }
            left -= here;
            if here == 0 {
                return None;
            }
        }
    }
    Some(true)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_are_taken_away_and_nulls_are_found() {
        // One packed group of eight of width 2, of which one counts; a run of 100 of width 1.
        let page = |levels: &[u8]| {
            let length = (levels.len() as u32).to_le_bytes();
            Bytes::from([&length, levels, b"values"].concat())
        };
        assert_eq!(without(page(&[3, 0b10, 0]), 1, 2).unwrap(), "values");
        assert_eq!(without(page(&[200, 1, 1]), 100, 1).unwrap(), "values");
        assert!(without(page(&[200, 1, 1]), 101, 1).is_err());
        assert!(without(page(&[3, 0b01, 0]), 1, 2).is_err());
        assert!(without(page(&[3, 0b1110, 0]), 2, 2).is_err());
        assert!(without(page(&[200, 1, 0]), 100, 1).is_err());
        assert!(without(Bytes::from_static(&[9, 0, 0]), 1, 1).is_err());
        assert_eq!(without(Bytes::from_static(b"values"), 1, 0).unwrap(), "values");
    }

    proptest! {
        #[test]
        fn damaged_levels_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), count in 0u32..100) {
            let _ = without(bytes.into(), count, 2);
        }
    }
}
