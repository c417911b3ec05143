//! Damaged copies of sound files, each a function of its seed.

/// A few bytes changed, cut out, doubled, put in, or the end cut off.
pub fn mutant(sound: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed;
    // SplitMix64 (Steele, Lea, Flood 2014): this crate uses none of ours.
    let mut draw = move |last: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % (last as u64 + 1)) as usize
    };
    let mut bytes = sound.to_vec();
    for _ in 0..=draw(5) {
        let Some(last) = bytes.len().checked_sub(1) else { break };
        // Headers are short and decide most: half of the changes are there.
        let at = if draw(1) == 0 { draw(last.min(600)) } else { draw(last) };
        let length = (draw(39) + 1).min(bytes.len() - at);
        match draw(5) {
            0 => bytes[at] = draw(255) as u8,
            1 => bytes[at] ^= 1 << draw(7),
            2 => bytes[at] = [0, 0xff, 0x7f, 0x80][draw(3)],
            3 => drop(bytes.drain(at..at + length)),
            4 => {
                let part = bytes[at..at + length].to_vec();
                bytes.splice(at..at, part);
            }
            _ if draw(9) < 3 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, std::iter::repeat_n(0xffu8, length))),
        }
    }
    bytes
}
