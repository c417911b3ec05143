//! Entries that overlap. A directory may name the same bytes again and again: a zip of three megabytes then has sixty
//! thousand images of a hundred megapixels. Where no two entries share a byte, an archive costs no more than its length
//! lets it.

use crate::Error;
use crate::Result;

/// A local header without its name and extra field, whose lengths the directory does not tell.
const HEADER: u64 = 30;

/// Where an entry begins, and the first byte behind what it has at least.
pub(super) type Range = (u64, u64);

/// The range of an entry whose header is here, and whose data have this length.
pub(super) fn range(header: u64, data: u64) -> Range {
    (header, header.saturating_add(HEADER).saturating_add(data))
}

/// The byte at which two entries overlap; none where no two do. `each` gives all of them, anew each time. Memory is
/// needed only where they are not in the order of the file, as they are when a zip is written from front to end.
pub(super) fn find(
    mut each: impl FnMut(&mut dyn FnMut(Range)) -> Result<()>,
) -> Result<Option<u64>> {
    let (mut end, mut sorted) = (0, true);
    each(&mut |(start, behind)| {
        sorted &= start >= end;
        end = behind;
    })?;
    if sorted {
        return Ok(None);
    }
    let mut ranges = Vec::new();
    each(&mut |range| ranges.push(range))?;
    ranges.sort_unstable();
    let overlap = ranges.windows(2).find(|pair| pair[1].0 < pair[0].1);
    Ok(overlap.map(|pair| pair[1].0))
}

/// The error of a zip whose entries overlap at this byte.
pub(super) fn error(path: &std::path::Path, at: u64) -> Error {
    Error::source(
        path,
        format!(
            "has entries that overlap, such as two at byte {at}: it unpacks to more than it holds, as no sound \
             zip does; download it again, or pack its files again"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_share_a_byte_are_found_in_any_order() {
        let of = |ranges: &[(u64, u64)]| {
            let each = |take: &mut dyn FnMut(Range)| {
                ranges.iter().for_each(|&(header, data)| take(range(header, data)));
                Ok(())
            };
            find(each).unwrap()
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(0, 10), (40, 0), (70, 5)]), None);
        assert_eq!(of(&[(70, 5), (0, 10), (40, 0)]), None, "written in another order");
        assert_eq!(of(&[(0, 10), (39, 0)]), Some(39));
        assert_eq!(of(&[(0, 0), (0, 0)]), Some(0));
        assert_eq!(of(&[(500, 0), (0, 600), (700, 1)]), Some(500), "one within another");
        assert_eq!(of(&[(u64::MAX - 5, u64::MAX), (0, 1)]), None);
    }
}
