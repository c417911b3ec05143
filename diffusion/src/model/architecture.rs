//! Which layers the network has: the U-Net of guided-diffusion, unrolled. No tensors here.
use super::config::{AttentionKind, ModelConfig};

/// One layer inside a block, with its channels in and out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    /// 3×3 convolution, stride 1.
    Convolution { from: u32, to: u32 },
    /// Residual block, possibly changing the resolution.
    Residual { from: u32, to: u32, resample: Resample, dilation: u32 },
    /// Self-attention over all pixels, or within each quarter of the image.
    Attention { channels: u32, local: bool },
    /// 3×3 convolution, stride 2 (`op`).
    Downsample { channels: u32 },
    /// Nearest neighbour ×2, then a 3×3 convolution (`conv`).
    Upsample { channels: u32 },
}

/// What a residual block does to the resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resample {
    Keep,
    Down,
    Up,
}

/// A block: layers that run one after the other, at one resolution on entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Name in the state dict: `input_blocks.3`.
    pub name: String,
    /// Shorter side of what enters.
    pub resolution: u32,
    pub layers: Vec<Layer>,
}

impl Block {
    /// Channels of what enters, on the way up with the skip connection.
    pub(crate) fn entered(&self) -> u32 {
        match self.layers.first() {
            Some(Layer::Convolution { from, .. } | Layer::Residual { from, .. }) => *from,
            Some(
                Layer::Attention { channels, .. }
                | Layer::Downsample { channels }
                | Layer::Upsample { channels },
            ) => *channels,
            None => 0,
        }
    }
}

/// The whole network between its two ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Architecture {
    pub input: Vec<Block>,
    pub middle: Block,
    pub output: Vec<Block>,
    /// Channels and side of what leaves the last block.
    pub width: u32,
    pub resolution: u32,
    /// Channels of the network's input and output after patching.
    pub channels_in: u32,
    pub channels_out: u32,
    /// Width of the sinusoids, and of the embedding made of them.
    pub sinusoids: u32,
    pub embedding: u32,
}

impl Architecture {
    /// The architecture of a configuration that [`ModelConfig::validate`] has accepted, for images of this
    /// shorter side.
    pub(crate) fn new(config: &ModelConfig, short_side: u32) -> Architecture {
        let area = config.patch * config.patch;
        let (channels_in, channels_out) = (6 * area, 3 * area);
        let resolutions = config.resolutions(short_side);
        let kind = config.attention_kind;
        let far = |resolution: u32| config.attention.contains(&resolution);
        let attention =
            |channels: u32| Layer::Attention { channels, local: kind == AttentionKind::Local };
        // Where attention is left out, residual blocks stand in for it.
        let blocks_at = |resolution: u32| {
            let instead = !kind.attends() && far(resolution);
            if instead { 2 * config.res_blocks } else { config.res_blocks }
        };
        let dilation = |resolution: u32, block: u32| {
            let dilated = kind == AttentionKind::Dilated;
            if dilated { (1 << block.min(16)).min(resolution / 2).max(1) } else { 1 }
        };
        let width_of = |level: usize| config.model_channels * config.channel_mult[level];
        let last = resolutions.len() - 1;

        // The way down. `skips` are the channels that the way up takes back.
        let mut channels = width_of(0);
        let mut skips = vec![channels];
        let mut input: Vec<Block> = Vec::new();
        let push = |list: &mut Vec<Block>, kind: &str, resolution: u32, layers: Vec<Layer>| {
            list.push(Block { name: format!("{kind}.{}", list.len()), resolution, layers });
        };
        let first = Layer::Convolution { from: channels_in, to: channels };
        push(&mut input, "input_blocks", resolutions[0], vec![first]);
        for (level, &resolution) in resolutions.iter().enumerate() {
            for i in 0..blocks_at(resolution) {
                let to = width_of(level);
                let dilation = if far(resolution) { dilation(resolution, i) } else { 1 };
                let resample = Resample::Keep;
                let mut layers = vec![Layer::Residual { from: channels, to, resample, dilation }];
                channels = to;
                if kind.attends() && far(resolution) {
                    layers.push(attention(channels));
                }
                push(&mut input, "input_blocks", resolution, layers);
                skips.push(channels);
            }
            if level != last {
                let layer = if config.resblock_updown {
                    let resample = Resample::Down;
                    Layer::Residual { from: channels, to: channels, resample, dilation: 1 }
                } else {
                    Layer::Downsample { channels }
                };
                push(&mut input, "input_blocks", resolution, vec![layer]);
                skips.push(channels);
            }
        }

        let lowest = resolutions[last];
        let residual = |block: u32| {
            let (resample, dilation) = (Resample::Keep, dilation(lowest, block));
            Layer::Residual { from: channels, to: channels, resample, dilation }
        };
        let middle = Block {
            name: "middle_block".to_owned(),
            resolution: lowest,
            layers: if kind.attends() {
                vec![residual(0), attention(channels), residual(0)]
            } else {
                (0..4).map(residual).collect()
            },
        };

        // The way up, each block with a skip connection concatenated.
        let mut output: Vec<Block> = Vec::new();
        for (level, &resolution) in resolutions.iter().enumerate().rev() {
            for i in 0..=blocks_at(resolution) {
                let from = channels + skips.pop().unwrap_or(0);
                let to = width_of(level);
                let dilation = if far(resolution) { dilation(resolution, i) } else { 1 };
                let resample = Resample::Keep;
                let mut layers = vec![Layer::Residual { from, to, resample, dilation }];
                channels = to;
                if kind.attends() && far(resolution) {
                    layers.push(attention(channels));
                }
                if level > 0 && i == blocks_at(resolution) {
                    layers.push(if config.resblock_updown {
                        let resample = Resample::Up;
                        Layer::Residual { from: channels, to: channels, resample, dilation: 1 }
                    } else {
                        Layer::Upsample { channels }
                    });
                }
                push(&mut output, "output_blocks", resolution, layers);
            }
        }
        Architecture {
            input,
            middle,
            output,
            width: channels,
            resolution: resolutions[0],
            channels_in,
            channels_out,
            sinusoids: config.model_channels,
            embedding: 4 * config.model_channels,
        }
    }

    /// All blocks in the order in which they run.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.input.iter().chain(std::iter::once(&self.middle)).chain(&self.output)
    }
}
