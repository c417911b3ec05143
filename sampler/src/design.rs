//! A network without its weights.

use diffusion::{DiffusionConfig, ModelConfig};

/// What a network is, but for its weights.
#[derive(Clone, Debug)]
pub struct Design {
    /// Its layers.
    pub model: ModelConfig,
    /// What it was trained to say.
    pub diffusion: DiffusionConfig,
    /// Height and width of the images that it was trained on.
    pub image_size: [u32; 2],
}
