//! Four RGB pixels at a time, as three words: where every third byte is changed or moved compilers make
//! vector code of words, five to seven times faster, and none of bytes.

/// From the lowest byte: `a = r0 g0 b0 r1`, `b = g1 b1 r2 g2`, `c = b2 r3 g3 b3`.
pub(crate) fn words(quad: &[u8; 12]) -> [u32; 3] {
    let word = |at: usize| u32::from_le_bytes([quad[at], quad[at + 1], quad[at + 2], quad[at + 3]]);
    [word(0), word(4), word(8)]
}

/// Three such words as pixels.
pub(crate) fn set(quad: &mut [u8; 12], words: [u32; 3]) {
    for (bytes, word) in quad.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
}
