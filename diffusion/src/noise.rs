//! What the random numbers of an image are for: each purpose has a key of its own ([`random`]), derived
//! from the key of the sample or of the image. None depends on the batch, the rank or the thread that
//! draws. Tensors come from [`torch_ext::randn_keyed`], one call for a whole batch.
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
    positions.iter().map(|&at| random::key(&[SAMPLE, seed, stream, at])).collect()
}

/// The key of a sample of a named image, from which [`crate::restore()`] derives all of its noise.
pub fn image_key(seed: u64, image: &str, sample: u64) -> u64 {
    random::key(&[IMAGE, seed, random::text_key(image), sample])
}

/// First parts of keys, so that samples and images never share one.
const SAMPLE: u64 = 0x7361_6d70;
const IMAGE: u64 = 0x696d_6167;

/// The key of one purpose of an image.
pub fn derive(key: u64, purpose: Purpose) -> u64 {
    random::derive(key, purpose.code())
}

/// Standard normal `[B, shape...]`, row i for `derive(keys[i], purpose)`.
pub fn normal(keys: &[u64], purpose: Purpose, shape: &[i64], device: Device) -> Result<Tensor> {
    let keys: Vec<u64> = keys.iter().map(|&key| derive(key, purpose)).collect();
    Ok(torch_ext::randn_keyed(&keys, shape, device)?)
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
        assert_eq!(sample_keys(7, Stream::Training(0), &[3]), [0x4540_27db_fa32_99d1]);
        assert_eq!(derive(image_key(7, "a", 0), Purpose::Step(2)), 0x5c9f_7d28_e2b4_0779);
    }
}
