//! Keyed random numbers. Every draw of the crate is a function of a key made of (seed, place in the
//! stream, purpose), never of threads or of what was drawn before elsewhere. The generator is fixed
//! here for good: a stored seed must give the same stream in every later version.

/// Mixes parts into one key; every part and its place counts.
pub fn key(parts: &[u64]) -> u64 {
    parts.iter().fold(0x243f_6a88_85a3_08d3, |state, &part| {
        finalize(state.rotate_left(23) ^ finalize(part.wrapping_add(0x9e37_79b9_7f4a_7c15)))
    })
}

/// A key from text (FNV-1a, then mixed), for draws that hang on a record's name.
pub fn text_key(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    finalize(hash)
}

/// The finalizer of SplitMix64: a bijection of 64 bits.
fn finalize(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A small generator (xoshiro256++) seeded from a key.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// The generator of a key.
    pub fn new(key: u64) -> Self {
        let mut state = key;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            finalize(state)
        }))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform integer in 0..count; 0 where count is 0.
    pub fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(count)) >> 64) as u64
    }

    /// Uniform integer in [low, high], both ends included.
    pub fn integer(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(u64::from(high.saturating_sub(low)) + 1) as u32
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Index drawn in proportion to the weights (none negative); 0 where all are zero.
    pub fn weighted(&mut self, weights: impl Iterator<Item = f64> + Clone) -> usize {
        let mut left = self.unit() * weights.clone().sum::<f64>();
        let mut last = 0;
        for (index, weight) in weights.enumerate() {
            if weight > 0.0 {
                last = index;
                if left < weight {
                    return index;
                }
            }
            left -= weight;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_fixed_for_good() {
        let mut rng = Rng::new(key(&[7, 0, 3]));
        let first = [rng.bits(), rng.bits()];
        let mut again = Rng::new(key(&[7, 0, 3]));
        assert_eq!(first, [again.bits(), again.bits()]);
        assert_ne!(key(&[1, 2]), key(&[2, 1]));
        assert_ne!(key(&[1]), key(&[1, 0]));
    }

    #[test]
    fn moments_are_right() {
        let mut rng = Rng::new(1);
        let count = 200_000;
        let (mut mean, mut square, mut uniform) = (0.0, 0.0, 0.0);
        for _ in 0..count {
            let x = rng.normal();
            mean += x / f64::from(count);
            square += x * x / f64::from(count);
            uniform += rng.unit() / f64::from(count);
        }
        assert!(mean.abs() < 0.01 && (square - 1.0).abs() < 0.02, "{mean} {square}");
        assert!((uniform - 0.5).abs() < 0.005, "{uniform}");
        assert_eq!(Rng::new(2).weighted([0.0, 0.0, 1.0, 0.0].into_iter()), 2);
    }
}
