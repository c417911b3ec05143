//! What a network costs, computed from its plan without allocating anything.
use super::config::{ModelConfig, Precision};
use super::plan::{Block, Layer, Plan, Resample};
use crate::Result;
use serde::Serialize;

/// The cost of a network for images of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cost {
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
    /// What a training step keeps of one image.
    pub activations: Activations,
    /// Bytes of weights, gradients, two moments and one EMA in f32: 20 a parameter.
    pub state_bytes: u64,
}

/// How many numbers a training step holds of one image at most: what its backward pass needs and the
/// gradients that it has under way. Without what the allocator loses and the workspaces of
/// convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Activations {
    /// On the CPU in f32, where norm, scale and shift, and SiLU are one operation.
    pub fused: u64,
    /// Elsewhere.
    pub plain: u64,
    /// With recomputation: what goes into each block, and the inside of the largest.
    pub recomputed: u64,
}

impl Activations {
    /// Bytes an image.
    pub fn bytes(&self, precision: Precision, recompute: bool, cpu: bool) -> u64 {
        let each = match precision {
            Precision::Fp32 => 4,
            Precision::Bf16 => 2,
        };
        let fused = cpu && precision == Precision::Fp32;
        let plain = if fused { self.fused } else { self.plain };
        each * if recompute { self.recomputed.min(plain) } else { plain }
    }
}

impl ModelConfig {
    /// The cost of this network for images of this height and width; also validates it.
    pub fn cost(&self, size: [u32; 2]) -> Result<Cost> {
        self.validate(size)?;
        let (short, long) = (size[0].min(size[1]), size[0].max(size[1]));
        let plan = Plan::new(self, short);
        let mut sum = Sum::default();
        let (sinusoids, embedding) = (u64::from(plan.sinusoids), u64::from(plan.embedding));
        sum.linear(sinusoids, embedding);
        sum.linear(embedding, embedding);
        // Sides are multiples of the whole downsampling, so this is exact.
        let area = |resolution: u32| {
            u64::from(resolution) * (u64::from(resolution) * u64::from(long) / u64::from(short))
        };
        let mut attention_at = Vec::new();
        let entering = |block: &Block| u64::from(block.entered()) * area(block.resolution);
        // What leaves a block of the way down enters the next one and is a skip connection.
        let skips: u64 = plan.blocks().skip(1).take(plan.input.len()).map(entering).sum();
        let between = plan.blocks().map(entering).sum::<u64>() - skips;
        // The backward pass holds gradients of the skip connections and of what it is at.
        let flowing = skips + 3 * plan.blocks().map(entering).max().unwrap_or(0);
        let mut largest = 0;
        for block in plan.blocks() {
            let mut pixels = area(block.resolution);
            let before = sum.plain;
            for layer in &block.layers {
                pixels = sum.layer(*layer, pixels, embedding);
                if matches!(layer, Layer::Attention { .. })
                    && !attention_at.contains(&block.resolution)
                {
                    attention_at.push(block.resolution);
                }
            }
            largest = largest.max(sum.plain - before);
        }
        let (width, pixels) = (u64::from(plan.width), area(plan.resolution));
        sum.norm(width);
        sum.keep(2 * width * pixels, width * pixels);
        sum.convolution(width, u64::from(plan.channels_out), 3, pixels);
        attention_at.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Cost {
            parameters: sum.parameters,
            tensors: sum.tensors,
            macs: sum.macs,
            resolutions: self.resolutions(short),
            attention_at,
            activations: Activations {
                fused: sum.fused + flowing,
                plain: sum.plain + flowing,
                recomputed: between + largest + 3 * width * pixels + flowing,
            },
            state_bytes: 20 * sum.parameters,
        })
    }
}

#[derive(Default)]
struct Sum {
    parameters: u64,
    tensors: u64,
    macs: u64,
    /// Numbers kept for the backward pass, as in [`Activations`].
    fused: u64,
    plain: u64,
}

impl Sum {
    fn linear(&mut self, from: u64, to: u64) {
        self.parameters += from * to + to;
        self.tensors += 2;
        self.macs += from * to;
        self.keep(from + to, 0);
    }

    /// A convolution with `kernel`² weights a channel pair; `pixels` are those of its output.
    fn convolution(&mut self, from: u64, to: u64, kernel: u64, pixels: u64) {
        self.parameters += from * to * kernel * kernel + to;
        self.tensors += 2;
        self.macs += from * to * kernel * kernel * pixels;
    }

    fn norm(&mut self, channels: u64) {
        self.parameters += 2 * channels;
        self.tensors += 2;
    }

    /// Numbers that are kept, and those that the fused operation spares.
    fn keep(&mut self, always: u64, spared: u64) {
        self.fused += always;
        self.plain += always + spared;
    }

    /// Adds a layer that is entered with so many pixels; returns their number on leaving.
    fn layer(&mut self, layer: Layer, pixels: u64, embedding: u64) -> u64 {
        match layer {
            Layer::Convolution { from, to } => {
                self.convolution(u64::from(from), u64::from(to), 3, pixels);
                self.keep(u64::from(from) * pixels, 0);
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
                self.keep(from * pixels, from * pixels); // the block's input; the input of SiLU
                if resample == Resample::Down {
                    self.keep(from * pixels, 0); // the input of pooling
                }
                self.keep(from * after, 0); // the input of the first convolution
                self.convolution(from, to, 3, after);
                self.linear(embedding, 2 * to);
                self.norm(to);
                // The inputs of the norm and of the second convolution; of scale and shift, of SiLU.
                self.keep(2 * to * after, 2 * to * after);
                self.convolution(to, to, 3, after);
                if from != to {
                    self.convolution(from, to, 1, after);
                }
                after
            }
            Layer::Attention { channels, local } => {
                let channels = u64::from(channels);
                self.norm(channels);
                // The inputs of the norm and of qkv, its outputs, what attention gives, as the last
                // layer wants it.
                self.keep(7 * channels * pixels, 0);
                self.convolution(channels, 3 * channels, 1, pixels);
                let seen = if local { pixels / 4 } else { pixels };
                self.macs += 2 * pixels * seen * channels;
                self.convolution(channels, channels, 1, pixels);
                pixels
            }
            Layer::Downsample { channels } => {
                let channels = u64::from(channels);
                self.keep(channels * pixels, 0);
                self.convolution(channels, channels, 3, pixels / 4);
                pixels / 4
            }
            Layer::Upsample { channels } => {
                let channels = u64::from(channels);
                self.keep(channels * pixels * 4, 0);
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
        let cost = ModelConfig::default().cost([256, 256]).unwrap();
        assert_eq!((cost.parameters, cost.tensors), (552_814_083, 566));
        assert_eq!(cost.attention_at, [32, 16, 8]);
        assert_eq!(format!("{:.1}", cost.macs as f64 / 1e9), "1119.8");
        assert_eq!(cost.state_bytes, 20 * 552_814_083);
    }

    /// The four networks of the ablation have the same sight at their attention's resolutions, at
    /// different costs.
    #[test]
    fn the_attention_ablation() {
        let cost = |attention_kind| {
            ModelConfig { attention_kind, ..ModelConfig::default() }.cost([256, 256]).unwrap()
        };
        let [global, local, more, dilated] = [
            AttentionKind::Global,
            AttentionKind::Local,
            AttentionKind::MoreBlocks,
            AttentionKind::Dilated,
        ]
        .map(cost);
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
        assert!(odd.cost([256, 256]).is_ok());
    }

    #[test]
    fn wide_images_cost_by_their_pixels() {
        let config = ModelConfig::default();
        let (square, wide) = (config.cost([256, 256]).unwrap(), config.cost([256, 512]).unwrap());
        assert_eq!((wide.parameters, &wide.resolutions), (square.parameters, &square.resolutions));
        assert!(wide.macs > 2 * square.macs, "attention grows with the square");
        assert_eq!(config.cost([512, 256]).unwrap(), wide);
        assert!(config.cost([256, 500]).is_err());
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        let check = |change: fn(&mut ModelConfig), size: u32, words: &[&str]| {
            let mut config = ModelConfig::default();
            change(&mut config);
            let message = config.cost([size, 256]).unwrap_err().to_string();
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        };
        check(
            |c| c.attention = vec![48],
            256,
            &["model.attention", "attention at 48 never happens", "256, 128, 64, 32, 16, 8"],
        );
        check(|c| c.model_channels = 48, 256, &["model.model_channels", "48", "32"]);
        check(|c| c.head_channels = 96, 256, &["model.head_channels", "96", "divide"]);
        check(|c| c.head_channels = 0, 256, &["model.head_channels"]);
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
