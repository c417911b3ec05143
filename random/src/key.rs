//! Keys: chains of the finalizer of SplitMix64 (Steele et al. 2014), a bijection of 64 bits. Keys of
//! other parts, or of the same parts in another order, are unrelated.

/// Mixes parts into one key; every part and its place counts.
pub fn key(parts: &[u64]) -> u64 {
    parts.iter().fold(0x243f_6a88_85a3_08d3, |key, &part| derive(key, part))
}

/// The key of one more part: `key(&[a, b])` is `derive(key(&[a]), b)`.
pub fn derive(key: u64, part: u64) -> u64 {
    finalize(key.rotate_left(23) ^ finalize(part.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// A part of a key from text (FNV-1a, then mixed), for draws that depend on a record's name.
pub fn text_key(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    finalize(hash)
}

fn finalize(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_and_its_place_counts() {
        assert_eq!(key(&[1, 2]), derive(key(&[1]), 2));
        assert_ne!(key(&[1, 2]), key(&[2, 1]));
        assert_ne!(key(&[1]), key(&[1, 0]));
        assert_ne!(key(&[0]), key(&[]));
        assert_ne!(text_key("a"), text_key("b"));
    }

    /// Orders of data, cuts and stored outputs are reproducible only while these are.
    #[test]
    fn keys_are_fixed_for_good() {
        // The finalizer's published value for 1, and FNV-1a of nothing.
        assert_eq!(finalize(1), 0x5692_161d_100b_05e5);
        assert_eq!(text_key(""), finalize(0xcbf2_9ce4_8422_2325));
        assert_eq!(key(&[7, 0, 3]), 0x4a34_b35a_ba9e_0671);
        assert_eq!(text_key("n01440764_10026"), 0x2cdd_bf2f_8fe8_de00);
    }
}
