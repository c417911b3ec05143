//! Keys: every random number of an image is a function of a `u64` that names it.
//!
//! A key is a chain of SplitMix64 finalisers: `derive(k, x) = mix(k ⊕ mix(x + 0x9e3779b97f4a7c15))`,
//! where `mix` is the finaliser of Steele et al. 2014 (a bijection of 64 bits). Keys of different
//! images, steps and purposes are therefore unrelated, and none depends on the batch, the rank or
//! the thread that draws. Tensors come from [`torch_ext::randn_keyed`].
use crate::Result;
use tch::{Device, Tensor};

/// What a random number is for. Two purposes never share numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The training noise level (t, and γ within t).
    Level,
    /// The training noise ε.
    Epsilon,
    /// The Gaussian fill of the hole in the condition.
    Fill,
    /// The pure noise that a reverse process starts from.
    Start,
    /// The noise of one reverse step; steps count down to 0.
    Step(u32),
    /// Dropout in one layer of one block of the network.
    Dropout {
        /// Number of the block.
        block: u32,
        /// Number of the layer in it.
        layer: u32,
    },
    /// Initial weights.
    Weights,
}

impl Purpose {
    fn code(self) -> u64 {
        match self {
            Purpose::Level => 1,
            Purpose::Epsilon => 2,
            Purpose::Fill => 3,
            Purpose::Start => 4,
            Purpose::Weights => 6,
            Purpose::Dropout { block, layer } => {
                (2 << 60) | (u64::from(block) << 30) | u64::from(layer)
            }
            Purpose::Step(step) => (1 << 32) | u64::from(step),
        }
    }
}

/// Independent streams of the random numbers of one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Training; the number tells how often a run went back and took other noise.
    Training(u32),
    /// Validation.
    Validation,
}

/// The keys of samples at these global positions of a stream: all noise of a sample follows from its
/// own.
pub fn sample_keys(seed: u64, stream: Stream, positions: &[u64]) -> Vec<u64> {
    let stream = match stream {
        Stream::Training(0) => 0,
        Stream::Validation => 1,
        Stream::Training(again) => 1 + u64::from(again),
    };
    let root = chain(chain(0, seed), stream);
    positions.iter().map(|&at| derive(chain(root, at), Purpose::Level)).collect()
}

/// The key of a sample of a named image, from which [`crate::restore()`] derives all of its noise.
pub fn image_key(seed: u64, image: &str, sample: u64) -> u64 {
    chain(chain(chain(1, seed), text(image)), sample)
}

/// The key of one purpose of an image.
pub fn derive(key: u64, purpose: Purpose) -> u64 {
    chain(key, purpose.code())
}

/// A stable 64-bit number of a name (FNV-1a, then mixed).
pub fn text(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(hash)
}

/// A uniform number in [0, 1) of a key (its upper 53 bits).
pub fn unit(key: u64) -> f64 {
    (mix(key) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Standard normal `[B, shape...]`, row i for `derive(keys[i], purpose)`.
pub fn normal(keys: &[u64], purpose: Purpose, shape: &[i64], device: Device) -> Result<Tensor> {
    let keys: Vec<u64> = keys.iter().map(|&key| derive(key, purpose)).collect();
    Ok(torch_ext::randn_keyed(&keys, shape, device)?)
}

fn chain(key: u64, value: u64) -> u64 {
    mix(key ^ mix(value.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_differ_in_every_part() {
        let mut seen = HashSet::new();
        for seed in 0..8 {
            let streams = [Stream::Validation, Stream::Training(0), Stream::Training(1)];
            for stream in streams {
                for key in sample_keys(seed, stream, &(0..64).collect::<Vec<_>>()) {
                    assert!(seen.insert(key));
                    for purpose in [Purpose::Level, Purpose::Epsilon, Purpose::Step(0)] {
                        assert!(seen.insert(derive(key, purpose)));
                    }
                }
            }
        }
        assert_ne!(image_key(1, "a", 0), image_key(1, "b", 0));
        assert_ne!(image_key(1, "a", 0), image_key(1, "a", 1));
    }

    /// Checkpoints and outputs of older versions stay reproducible only while these stand.
    #[test]
    fn keys_are_stable() {
        assert_eq!(mix(1), 0x5692_161d_100b_05e5);
        assert_eq!(text(""), mix(0xcbf2_9ce4_8422_2325));
    }

    #[test]
    fn units_are_uniform() {
        let mean = (0..10_000).map(unit).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
