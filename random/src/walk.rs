//! A walk over the words of a key, for draws whose number is not known beforehand.

use crate::numbers;
use crate::philox::blocks;

/// Blocks that are computed together: 64-bit numbers come in groups of twice as many.
const BLOCKS: usize = 8;

/// Draws one number after the other from a key: draw n of 64 bits is words 2n (lower) and 2n + 1.
#[derive(Clone, Debug)]
pub struct Rng {
    key: u64,
    /// Draws so far.
    drawn: u64,
    /// Draws of the current group of blocks.
    group: [u64; 2 * BLOCKS],
}

impl Rng {
    /// At the beginning of a key.
    pub fn new(key: u64) -> Self {
        Self { key, drawn: 0, group: [0; 2 * BLOCKS] }
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        let at = (self.drawn % self.group.len() as u64) as usize;
        if at == 0 {
            self.refill();
        }
        self.drawn += 1;
        self.group[at]
    }

    #[inline(never)]
    fn refill(&mut self) {
        let [a, b, c, d] = blocks::<BLOCKS>(self.key, self.drawn / 2);
        let joined = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        for i in 0..BLOCKS {
            self.group[2 * i] = joined(a[i], b[i]);
            self.group[2 * i + 1] = joined(c[i], d[i]);
        }
    }

    /// Uniform in [0, 1), 53 bits.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform integer in 0..count; 0 where count is 0.
    #[inline]
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

    /// Standard normal: number 2n of [`crate::normal`] for draw n.
    pub fn normal(&mut self) -> f64 {
        let bits = self.bits();
        f64::from(numbers::pair(bits as u32, (bits >> 32) as u32)[0])
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
    fn a_walk_goes_over_the_words_of_its_key() {
        let mut rng = Rng::new(7);
        for n in 0..100_u64 {
            let words = blocks::<1>(7, n / 2);
            let half = (n % 2 * 2) as usize;
            let expected = u64::from(words[half][0]) | u64::from(words[half + 1][0]) << 32;
            assert_eq!(rng.bits(), expected);
        }
        assert_eq!(rng.normal() as f32, crate::normal(7, 200));
        assert_eq!(Rng::new(7).unit() as f32, Rng::new(7).between(0.0, 1.0) as f32);
    }

    #[test]
    fn ranges_are_kept() {
        let mut rng = Rng::new(1);
        for _ in 0..10_000 {
            assert!((2..=5).contains(&rng.integer(2, 5)));
            assert!((-1.0..3.0).contains(&rng.between(-1.0, 3.0)));
            assert!(rng.below(3) < 3);
        }
        assert_eq!((rng.below(0), rng.integer(4, 4)), (0, 4));
        assert!(!rng.chance(0.0) && rng.chance(1.0));
        assert_eq!(rng.weighted([0.0, 0.0, 1.0, 0.0].into_iter()), 2);
        assert_eq!(rng.weighted([0.0, 0.0].into_iter()), 0);
    }
}
