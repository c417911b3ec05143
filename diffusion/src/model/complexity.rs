//! Size and FLOPs of a network, computed from its architecture without allocating anything.
use super::architecture::{Architecture, Layer, Resample};
use super::config::ModelConfig;
use crate::Result;
use serde::Serialize;

/// Weights and FLOPs of a network for images of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Complexity {
    /// Number of weights.
    pub parameters: u64,
    /// Number of weight tensors.
    pub tensors: u64,
    /// Multiply-accumulates of one forward pass of one image: convolutions, linear layers and the
    /// two products of attention.
    pub macs: u64,
    /// Resolutions of the levels (their shorter sides), from the finest.
    pub resolutions: Vec<u32>,
    /// Resolutions that carry attention (the middle block's included), from the finest.
    pub attention_at: Vec<u32>,
    /// Bytes of weights, gradients, two moments and one EMA in f32: 20 a parameter.
    pub state_bytes: u64,
    /// Numbers of each weight tensor.
    #[serde(skip)]
    pub(crate) weights: Vec<u64>,
}

impl ModelConfig {
    /// Weights and FLOPs of this network for images of this height and width; also validates it.
    pub fn complexity(&self, size: [u32; 2]) -> Result<Complexity> {
        self.validate(size)?;
        let (short, long) = (size[0].min(size[1]), size[0].max(size[1]));
        let architecture = Architecture::new(self, short);
        let mut sum = Sum::default();
        let (sinusoids, embedding) =
            (u64::from(architecture.sinusoids), u64::from(architecture.embedding));
        sum.linear(sinusoids, embedding);
        sum.linear(embedding, embedding);
        // Sides are multiples of the whole downsampling, so this is exact.
        let area = |resolution: u32| {
            u64::from(resolution) * (u64::from(resolution) * u64::from(long) / u64::from(short))
        };
        let mut attention_at = Vec::new();
        for block in architecture.blocks() {
            let mut pixels = area(block.resolution);
            for layer in &block.layers {
                pixels = sum.layer(*layer, pixels, embedding);
                if matches!(layer, Layer::Attention { .. })
                    && !attention_at.contains(&block.resolution)
                {
                    attention_at.push(block.resolution);
                }
            }
        }
        let (width, pixels) = (u64::from(architecture.width), area(architecture.resolution));
        sum.norm(width);
        sum.convolution(width, u64::from(architecture.channels_out), 3, pixels);
        attention_at.sort_unstable_by(|a, b| b.cmp(a));
        let parameters = sum.weights.iter().sum();
        Ok(Complexity {
            parameters,
            tensors: sum.weights.len() as u64,
            macs: sum.macs,
            resolutions: self.resolutions(short),
            attention_at,
            state_bytes: 20 * parameters,
            weights: sum.weights,
        })
    }
}

#[derive(Default)]
struct Sum {
    /// Numbers of each weight tensor.
    weights: Vec<u64>,
    macs: u64,
}

impl Sum {
    fn linear(&mut self, from: u64, to: u64) {
        self.weights.extend([from * to, to]);
        self.macs += from * to;
    }

    /// A convolution with `kernel`² weights a channel pair; `pixels` are those of its output.
    fn convolution(&mut self, from: u64, to: u64, kernel: u64, pixels: u64) {
        self.weights.extend([from * to * kernel * kernel, to]);
        self.macs += from * to * kernel * kernel * pixels;
    }

    fn norm(&mut self, channels: u64) {
        self.weights.extend([channels, channels]);
    }

    /// Adds a layer that is entered with so many pixels; returns their number on leaving.
    fn layer(&mut self, layer: Layer, pixels: u64, embedding: u64) -> u64 {
        match layer {
            Layer::Convolution { from, to } => {
                self.convolution(u64::from(from), u64::from(to), 3, pixels);
                pixels
            }
            Layer::Residual { from, to, resample, .. } => {
                let (from, to) = (u64::from(from), u64::from(to));
                let after = match resample {
                    Resample::Keep => pixels,
                    Resample::Down => pixels / 4,
                    Resample::Up => pixels * 4,
                };
                self.norm(from);
                self.convolution(from, to, 3, after);
                self.linear(embedding, 2 * to);
                self.norm(to);
                self.convolution(to, to, 3, after);
                if from != to {
                    self.convolution(from, to, 1, after);
                }
                after
            }
            Layer::Attention { channels, local } => {
                let channels = u64::from(channels);
                self.norm(channels);
                self.convolution(channels, 3 * channels, 1, pixels);
                let seen = if local { pixels / 4 } else { pixels };
                self.macs += 2 * pixels * seen * channels;
                self.convolution(channels, channels, 1, pixels);
                pixels
            }
            Layer::Downsample { channels } => {
                let channels = u64::from(channels);
                self.convolution(channels, channels, 3, pixels / 4);
                pixels / 4
            }
            Layer::Upsample { channels } => {
                let channels = u64::from(channels);
                self.convolution(channels, channels, 3, pixels * 4);
                pixels * 4
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::AttentionKind;
    use super::*;

    #[test]
    fn the_papers_network() {
        let complexity = ModelConfig::default().complexity([256, 256]).unwrap();
        assert_eq!((complexity.parameters, complexity.tensors), (552_814_083, 566));
        assert_eq!(complexity.attention_at, [32, 16, 8]);
        assert_eq!(format!("{:.1}", complexity.macs as f64 / 1e9), "1119.8");
        assert_eq!(complexity.state_bytes, 20 * 552_814_083);
    }

    /// The four networks of the ablation have the same sight at their attention's resolutions, at
    /// different costs.
    #[test]
    fn the_attention_ablation() {
        let complexity = |attention_kind| {
            ModelConfig { attention_kind, ..ModelConfig::default() }.complexity([256, 256]).unwrap()
        };
        let [global, local, more, dilated] = [
            AttentionKind::Global,
            AttentionKind::Local,
            AttentionKind::MoreBlocks,
            AttentionKind::Dilated,
        ]
        .map(complexity);
        assert_eq!(global.parameters, local.parameters);
        assert!(local.macs < global.macs);
        assert_eq!((more.parameters, more.macs), (dilated.parameters, dilated.macs));
        assert!(more.parameters > global.parameters && more.attention_at.is_empty());
        // No attention to divide into heads.
        let odd = ModelConfig {
            attention_kind: AttentionKind::Dilated,
            head_channels: 96,
            ..ModelConfig::default()
        };
        assert!(odd.complexity([256, 256]).is_ok());
    }

    #[test]
    fn wide_images_cost_by_their_pixels() {
        let config = ModelConfig::default();
        let (square, wide) =
            (config.complexity([256, 256]).unwrap(), config.complexity([256, 512]).unwrap());
        assert_eq!((wide.parameters, &wide.resolutions), (square.parameters, &square.resolutions));
        assert!(wide.macs > 2 * square.macs, "attention grows with the square");
        assert_eq!(config.complexity([512, 256]).unwrap(), wide);
        assert!(config.complexity([256, 500]).is_err());
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        let check = |change: fn(&mut ModelConfig), size: u32, words: &[&str]| {
            let mut config = ModelConfig::default();
            change(&mut config);
            let message = config.complexity([size, 256]).unwrap_err().to_string();
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        };
        check(
            |c| c.attention = vec![48],
            256,
            &["model.attention", "it never has 48", "256, 128, 64, 32, 16, 8"],
        );
        check(|c| c.model_channels = 48, 256, &["model.model_channels", "48", "32"]);
        check(|c| c.head_channels = 96, 256, &["model.head_channels", "96", "divisors"]);
        check(|c| c.head_channels = 0, 256, &["model.head_channels"]);
        check(|c| c.num_heads = 3, 256, &["model.num_heads", "divisors"]);
        // With a number of heads the channels of each do not count.
        let heads = ModelConfig { num_heads: 4, head_channels: 0, ..ModelConfig::default() };
        assert!(heads.validate([256; 2]).is_ok());
        assert_eq!([256, 1024].map(|channels| heads.heads(channels)), [4, 4]);
        check(|c| c.channel_mult = vec![], 256, &["model.channel_mult"]);
        check(|c| c.channel_mult = vec![1; 40], 256, &["model.channel_mult"]);
        check(|c| c.res_blocks = 0, 256, &["model.res_blocks"]);
        check(|c| c.dropout = 1.0, 256, &["model.dropout"]);
        check(|c| c.patch = 3, 256, &["model.patch", "1, 2 and 4"]);
        check(|_| (), 250, &["data.image_size", "250", "32"]);
        check(|_| (), 0, &["data.image_size"]);
        assert!(serde_json::from_str::<ModelConfig>(r#"{"atention": [32]}"#).is_err());
    }
}
