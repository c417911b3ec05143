//! The few libtorch functions that [`tch`] does not bind, as safe Rust, and operators on tensors that
//! cannot panic ([`formula`]).
//!
//! Owns the C++ of the project (`cpp/`), the run path to libtorch (`build.rs`,
//! `rpath.rs`) and the question which device there is. What always holds: no C++ exception
//! crosses into Rust (each becomes an [`Error`]), and nothing here keeps state of its own except
//! [`Adam`]'s moments and which stream of a GPU is for copies.
mod adam;
pub mod buckets;
mod card;
mod cuda;
mod ffi;
pub mod flat;
mod foreach;
pub mod formula;
pub mod group;
mod layout;
mod memory;
mod message;
mod norm;
mod numerics;
mod process;
mod random;
mod resample;
mod residual;
mod segment;
mod stream;
mod weights;

pub use adam::{Adam, AdamOptions, MOMENTS, STEPS};
pub use card::card_name;
pub use cuda::{cuda_missing, device, device_named, idle_gpu, load_cuda, test_device};
pub use foreach::{
    clip_gradients, drop_gradients, gradient_norm, lerp, mark_changed, set_gradients,
};
pub use formula::{Term, t};
pub use layout::{set_channels_last, to_channels_last};
pub use memory::{
    Memory, Reserved, explain_out_of_memory, free_memory, is_out_of_memory, memory, release_device,
    release_memory, reserved_memory, reset_peak_memory,
};
pub use message::one_line;
pub use norm::{Norm, norm, norm_in_blocks};
pub use numerics::Numerics;
pub use process::{keep_memory, wait_briefly};
pub use random::{rand_keyed, randn_keyed};
pub use resample::{half, twice};
pub use residual::{add_with_bias, folds_bias};
pub use segment::segment;
pub use stream::{Download, upload};
pub use weights::{copy_of, wide_product};

/// The version of libtorch that this was built with, such as `2.11.0`.
pub fn version() -> &'static str {
    ffi::version()
}

/// What can go wrong at the boundary to libtorch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch refused the operation; the text is its own.
    #[error("libtorch: {0}")]
    Torch(String),
    /// The parameters, moments or keys given do not belong together.
    #[error("{0}")]
    Mismatch(String),
    /// A device was asked for that this machine does not offer.
    #[error("device `{device}` cannot be used: {reason}")]
    Device {
        /// The name as it was asked for.
        device: String,
        /// Why not, and what is allowed.
        reason: String,
    },
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Error {
        Error::Torch(one_line(&error.to_string()))
    }
}
