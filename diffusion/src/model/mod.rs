//! The ADM U-Net (Dhariwal & Nichol 2021, guided-diffusion) without classes, with the source
//! image concatenated to its input.
//!
//! Variables carry the state-dict names of its authors (`input_blocks.3.1.qkv.weight`), so that
//! weights go in and out unchanged. One list (`architecture`) says which layers there are; the network,
//! its [`Complexity`] and its [`Memory`] follow it.
mod architecture;
mod complexity;
mod config;
mod embedding;
mod layers;
mod memory;
mod unet;
mod weight;

pub use complexity::Complexity;
pub use config::{AttentionKind, AttentionOrder, ModelConfig, NoiseEmbedding, Precision};
pub use memory::{Memory, TrainingStep};
pub use unet::{Execution, Pass, UNet};
