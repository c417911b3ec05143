//! Palette's mathematics: the network, the noise schedules, the objective, the reverse processes
//! and the weights.
//!
//! Knows tensors, keys and numbers; knows no files but weights and checkpoints, no datasets, no database.
//! The trainer calls [`Objective::stage`] and [`Objective::loss_of`], the sampler [`restore()`]; both
//! build a [`UNet`] from a [`ModelConfig`] and fill it through [`weights`].
//!
//! What always holds:
//! - images are f32 `[B,3,H,W]` in `[-1,1]`, masks f32 `[B,1,H,W]` with 1 where pixels are generated;
//! - γ is the share of signal in a noisy image, y = √γ·y0 + √(1−γ)·ε, so γ = 1 is the clean image;
//! - every random number of an image is a function of a key of its own ([`noise`]), never of the
//!   batch it travels in;
//! - nothing panics on configurations, files or shapes from outside: they give an [`Error`].
mod batch;
pub mod checkpoint;
mod config;
mod error;
pub mod model;
pub mod noise;
mod objective;
mod prediction;
mod regular;
pub mod restore;
pub mod reverse;
mod schedule;
pub mod weights;
mod windows;

pub use batch::{DeviceBatch, Pixels, to_u8};
pub use config::{DiffusionConfig, Formulation, LossNorm, Weighting};
pub use error::Error;
pub use model::{
    AttentionKind, AttentionOrder, Complexity, Execution, Memory, ModelConfig, NoiseEmbedding,
    Pass, Precision, TrainingStep, UNet,
};
pub use objective::{Losses, NOISE_BINS, Objective, Staged};
pub use prediction::Prediction;
pub use restore::{Denoiser, SamplingConfig, restore};
pub use reverse::{Levels, Method, Spacing};
pub use schedule::{Schedule, ScheduleConfig};
pub use windows::Windows;

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;
