//! Random numbers as functions of (key, index): the one generator of the whole system.
//!
//! A key names what its numbers are for: (seed, place in the stream, purpose), made by [`key`],
//! [`derive()`] and [`text_key`]. Word `index` of a key is a word of Philox4x32-10, a counter-based
//! generator (Salmon et al. 2011): nothing is stored between draws, so no number depends on threads,
//! ranks, the batch, or what was drawn before elsewhere. [`uniform`] and [`normal`] make f32 of words,
//! with the same bits on every processor; `torch_ext::rand_keyed` and `randn_keyed` fill tensors with
//! the same numbers, on CPUs and GPUs. [`Rng`] walks over a key's words.
//!
//! Always holds: a key gives the same numbers in every later version, or [`GENERATION`] goes up.

mod key;
mod numbers;
mod philox;
mod walk;

pub use key::{derive, key, text_key};
pub use numbers::{normal, uniform};
pub use walk::Rng;

/// The generation of all numbers: what was begun with those of another is not continued with these.
/// 0 (libtorch's generators and xoshiro256++) until checkpoints recorded it; 1 is Philox.
pub const GENERATION: u32 = 1;
