//! Numbers of words, the same f32 bits everywhere: whole numbers and + − × ÷ √, each rounded as
//! IEEE 754 says, in a fixed order. `torch-ext/cuda/random.h` is the same for the tensors of CPUs and
//! GPUs; a test of that crate compares them.

use crate::philox::blocks;

/// Number `index` of a key, uniform in [0, 1): the upper 24 bits of a word.
pub fn uniform(key: u64, index: u64) -> f32 {
    let word = blocks::<1>(key, index / 4)[(index % 4) as usize][0];
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Number `index` of a key, standard normal (Box and Muller 1958, from two words): at most 6.66 from 0.
/// Numbers 2n and 2n + 1 are one pair.
pub fn normal(key: u64, index: u64) -> f32 {
    let words = blocks::<1>(key, index / 4);
    let first = (index % 4 / 2 * 2) as usize;
    pair(words[first][0], words[first + 1][0])[(index % 2) as usize]
}

/// Two independent standard normal numbers.
pub(crate) fn pair(length: u32, turn: u32) -> [f32; 2] {
    let radius = radius(length);
    direction(turn).map(|part| radius * part)
}

/// √(−2 ln u) for u = (k + ½)·2⁻³¹, k the upper 31 bits of the word. The logarithm is that of FreeBSD's
/// `logf`: ln(2ᵉ(1+f)) with s = f/(2+f), to one unit in the last place.
fn radius(word: u32) -> f32 {
    let u = ((word >> 1) as f32 + 0.5) * (1.0 / 2_147_483_648.0);
    // 1+f is between √½ and √2.
    let shifted = u.to_bits() + (0x3f80_0000 - ROOT_HALF);
    let exponent = ((shifted >> 23) as i32 - 127) as f32;
    let f = f32::from_bits((shifted & 0x007f_ffff) + ROOT_HALF) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (LOGARITHM[1] + w * LOGARITHM[3]);
    let odd = z * (LOGARITHM[0] + w * LOGARITHM[2]);
    let half = 0.5 * f * f;
    let small = s * (half + (odd + even)) + exponent * LN_2[1];
    let logarithm = small - half + f + exponent * LN_2[0];
    (-2.0 * logarithm).sqrt()
}

/// √½, as bits.
const ROOT_HALF: u32 = 0x3f35_04f3;
/// (ln(1+s) − ln(1−s))/s = 2 + s²·this, in powers of s².
const LOGARITHM: [f32; 4] = [
    0xaa_aaaa as f32 / (1 << 24) as f32,
    0xcc_ce13 as f32 / (1 << 25) as f32,
    0x91_e9ee as f32 / (1 << 25) as f32,
    0xf8_9e26 as f32 / (1 << 26) as f32,
];
/// ln 2 in two parts; products of the upper one and small whole numbers are exact.
const LN_2: [f32; 2] = [f32::from_bits(0x3f31_7180), f32::from_bits(0x3717_f7d1)];

/// Cosine and sine of 2π·word/2³², by the polynomials of Cephes within an eighth of a turn.
fn direction(word: u32) -> [f32; 2] {
    // What is left beside whole quarters, between −π/4 and π/4.
    let x = (word << 2).cast_signed() as f32 * (std::f32::consts::PI / 8_589_934_592.0);
    let z = x * x;
    let sine = ((z * -1.951_529_6e-4 + 8.332_161e-3) * z + -1.666_665_5e-1) * z * x + x;
    let cosine =
        ((z * 2.443_315_7e-5 + -1.388_731_6e-3) * z + 4.166_664_6e-2) * z * z + z * -0.5 + 1.0;
    match word.wrapping_add(0x2000_0000) >> 30 {
        0 => [cosine, sine],
        1 => [-sine, cosine],
        2 => [-cosine, -sine],
        _ => [sine, -cosine],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_are_what_they_stand_for() {
        for word in (0..=u32::MAX).step_by(65_521).chain([0, 1, 2, u32::MAX]) {
            // The f32 nearest to (k + ½)·2⁻³¹; the rest is within some units in the last place.
            let u = ((word >> 1) as f32 + 0.5) / 2_147_483_648.0;
            let exact = (-2.0 * f64::from(u).ln()).sqrt();
            assert!((f64::from(radius(word)) - exact).abs() <= 2e-7 * exact.max(1e-3), "{word}");
            let angle = std::f64::consts::TAU * f64::from(word) / 4_294_967_296.0;
            let [cosine, sine] = direction(word).map(f64::from);
            assert!((cosine - angle.cos()).abs() < 1.2e-7, "{word}");
            assert!((sine - angle.sin()).abs() < 1.2e-7, "{word}");
        }
    }

    /// Written down once: what processors and compilers must agree on, and later versions.
    #[test]
    fn bits_are_fixed_for_good() {
        let table = [
            (0, 0, 0x3ecc_4fd0, 0x3f7d_bb31),
            (0, 1, 0x3f61_69c5, 0xbf6c_b6b0),
            (0, 2, 0x3f3c_57ac, 0xbf1e_1b9f),
            (0, 3, 0x3f1b_00db, 0xbef6_d1b2),
            (1, 0, 0x3f63_e806, 0x3ec2_c3e4),
            (1, 1, 0x3f65_0a0e, 0xbe97_b1be),
            (u64::MAX, 0, 0x3ee5_48ee, 0x3f8c_9ec9),
            (u64::MAX, 4_097, 0x3e11_f038, 0x3ff6_924c),
            (0x0123_4567_89ab_cdef, 196_607, 0x3e64_96d8, 0x3fba_fb9d),
            (0x0123_4567_89ab_cdef, 17_179_869_185, 0x3eb3_ba7e, 0x3eec_2e8b),
        ];
        for (key, index, expected_uniform, expected_normal) in table {
            let (u, n) = (uniform(key, index), normal(key, index));
            assert_eq!(u.to_bits(), expected_uniform, "uniform({key}, {index}) = {u}");
            assert_eq!(n.to_bits(), expected_normal, "normal({key}, {index}) = {n}");
        }
    }
}
