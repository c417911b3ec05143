//! Philox4x32 with ten rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a
//! bijection of 128-bit counters for each 64-bit key. The upper half of the counter is always 0.

/// Words 4·block to 4·block + 3 of a key, for N blocks from `first` on: `[word][block]`. Rounds run over
/// all blocks side by side, which compilers put into vector units.
#[inline]
pub(crate) fn blocks<const N: usize>(key: u64, first: u64) -> [[u32; N]; 4] {
    let at: [u64; N] = std::array::from_fn(|i| first.wrapping_add(i as u64));
    rounds(key, [at.map(|at| at & LOWER), at.map(|at| at >> 32), [0; N], [0; N]])
}

/// The lower half of 64 bits: a word. Words have 64 bits of room here, for products of them.
const LOWER: u64 = 0xffff_ffff;

#[inline]
fn rounds<const N: usize>(key: u64, counter: [[u64; N]; 4]) -> [[u32; N]; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    let (mut low, mut high) = (key as u32, (key >> 32) as u32);
    for _ in 0..10 {
        for i in 0..N {
            let first = 0xd251_1f53 * (a[i] & LOWER);
            let second = 0xcd9e_8d57 * (c[i] & LOWER);
            a[i] = (second >> 32) ^ b[i] ^ u64::from(low);
            c[i] = (first >> 32) ^ d[i] ^ u64::from(high);
            b[i] = second & LOWER;
            d[i] = first & LOWER;
        }
        low = low.wrapping_add(0x9e37_79b9);
        high = high.wrapping_add(0xbb67_ae85);
    }
    [a, b, c, d].map(|words| words.map(|word| word as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kat_vectors` of Random123, the authors' own implementation: counter, key, words.
    #[test]
    fn words_are_the_published_ones() {
        let known = [
            ([0, 0, 0, 0], 0, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], u64::MAX, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                0x299f_31d0_a409_3822,
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, words) in known {
            let counter = counter.map(|word| [u64::from(word)]);
            assert_eq!(rounds(key, counter), words.map(|word| [word]));
        }
    }

    #[test]
    fn blocks_do_not_depend_on_their_neighbours() {
        for first in [0, 5, u64::from(u32::MAX) - 2, u64::MAX - 3] {
            let all = blocks::<8>(17, first);
            for i in 0..8 {
                let one = blocks::<1>(17, first.wrapping_add(i as u64));
                assert_eq!(all.map(|words| words[i]), one.map(|words| words[0]));
            }
        }
    }
}
