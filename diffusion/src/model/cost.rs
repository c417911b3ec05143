//! What a network costs, computed from its plan without allocating anything.
use super::config::ModelConfig;
use super::plan::{Layer, Plan, Resample};
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
    /// Resolutions of the levels, from the finest.
    pub resolutions: Vec<u32>,
    /// Resolutions that carry attention (the middle block's included), from the finest.
    pub attention_at: Vec<u32>,
    /// Estimate of the bytes that forward and backward of one image keep in f32: every tensor that
    /// the backward pass reads again. Without the allocator's overhead and the workspaces of
    /// convolutions.
    pub activation_bytes: u64,
    /// Bytes of weights, gradients, two moments and the EMA in f32: 20 a parameter.
    pub state_bytes: u64,
}

impl ModelConfig {
    /// The cost of this network for square images of this side; also validates it.
    pub fn cost(&self, image_size: u32) -> Result<Cost> {
        self.validate(image_size)?;
        let plan = Plan::new(self, image_size);
        let mut sum = Sum::default();
        let (sinusoids, embedding) = (u64::from(plan.sinusoids), u64::from(plan.embedding));
        sum.linear(sinusoids, embedding);
        sum.linear(embedding, embedding);
        let mut attention_at = Vec::new();
        for block in plan.blocks() {
            let mut side = u64::from(block.resolution);
            for layer in &block.layers {
                side = sum.layer(*layer, side, embedding);
                if matches!(layer, Layer::Attention { .. })
                    && !attention_at.contains(&block.resolution)
                {
                    attention_at.push(block.resolution);
                }
            }
        }
        let (width, side) = (u64::from(plan.width), u64::from(plan.resolution));
        sum.norm(width, side);
        sum.keep(2 * width, side);
        sum.convolution(width, u64::from(plan.channels_out), 3, side);
        attention_at.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Cost {
            parameters: sum.parameters,
            tensors: sum.tensors,
            macs: sum.macs,
            resolutions: self.resolutions(image_size),
            attention_at,
            activation_bytes: 4 * sum.kept,
            state_bytes: 20 * sum.parameters,
        })
    }
}

#[derive(Default)]
struct Sum {
    parameters: u64,
    tensors: u64,
    macs: u64,
    /// Numbers kept for the backward pass.
    kept: u64,
}

impl Sum {
    fn linear(&mut self, from: u64, to: u64) {
        self.parameters += from * to + to;
        self.tensors += 2;
        self.macs += from * to;
        self.kept += from + to;
    }

    /// A convolution with `kernel`² weights a channel pair; `side` is that of its output.
    fn convolution(&mut self, from: u64, to: u64, kernel: u64, side: u64) {
        self.parameters += from * to * kernel * kernel + to;
        self.tensors += 2;
        self.macs += from * to * kernel * kernel * side * side;
    }

    fn norm(&mut self, channels: u64, side: u64) {
        self.parameters += 2 * channels;
        self.tensors += 2;
        self.kept += channels * side * side;
    }

    fn keep(&mut self, channels: u64, side: u64) {
        self.kept += channels * side * side;
    }

    /// Adds a layer that is entered at `side`; returns the side on leaving.
    fn layer(&mut self, layer: Layer, side: u64, embedding: u64) -> u64 {
        match layer {
            Layer::Convolution { from, to } => {
                self.convolution(u64::from(from), u64::from(to), 3, side);
                self.keep(u64::from(from), side);
                side
            }
            Layer::Residual { from, to, resample } => {
                let (from, to) = (u64::from(from), u64::from(to));
                let after = match resample {
                    Resample::Keep => side,
                    Resample::Down => side / 2,
                    Resample::Up => side * 2,
                };
                self.norm(from, side); // keeps the block's input
                self.keep(from, side); // input of SiLU
                self.keep(from, after); // input of the first convolution
                self.convolution(from, to, 3, after);
                self.linear(embedding, 2 * to);
                self.norm(to, after);
                self.keep(3 * to, after); // of scale and shift, of SiLU, of the second convolution
                self.convolution(to, to, 3, after);
                if from != to {
                    self.convolution(from, to, 1, after);
                }
                after
            }
            Layer::Attention { channels } => {
                let channels = u64::from(channels);
                self.norm(channels, side);
                self.keep(channels, side); // input of qkv
                self.convolution(channels, 3 * channels, 1, side);
                self.keep(3 * channels, side);
                self.macs += 2 * side.pow(4) * channels;
                self.keep(channels, side);
                self.convolution(channels, channels, 1, side);
                side
            }
            Layer::Downsample { channels } => {
                let channels = u64::from(channels);
                self.keep(channels, side);
                self.convolution(channels, channels, 3, side / 2);
                side / 2
            }
            Layer::Upsample { channels } => {
                let channels = u64::from(channels);
                self.keep(channels, side * 2);
                self.convolution(channels, channels, 3, side * 2);
                side * 2
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_network() {
        let cost = ModelConfig::default().cost(256).unwrap();
        assert_eq!((cost.parameters, cost.tensors), (552_814_083, 566));
        assert_eq!(cost.attention_at, [32, 16, 8]);
        assert_eq!(format!("{:.1}", cost.macs as f64 / 1e9), "1119.8");
        assert_eq!(cost.state_bytes, 20 * 552_814_083);
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        let check = |change: fn(&mut ModelConfig), size: u32, words: &[&str]| {
            let mut config = ModelConfig::default();
            change(&mut config);
            let message = config.cost(size).unwrap_err().to_string();
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
