//! Which layers the network has: the U-Net of guided-diffusion, unrolled. No tensors here.
use super::config::ModelConfig;

/// One layer inside a block, with its channels in and out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    /// 3×3 convolution, stride 1.
    Convolution { from: u32, to: u32 },
    /// Residual block, possibly changing the resolution.
    Residual { from: u32, to: u32, resample: Resample },
    /// Self-attention over all pixels.
    Attention { channels: u32 },
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
    /// Side of the square that enters.
    pub resolution: u32,
    pub layers: Vec<Layer>,
}

/// The whole network between its two ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
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

impl Plan {
    /// The plan of a configuration that [`ModelConfig::validate`] has accepted.
    pub(crate) fn new(config: &ModelConfig, image_size: u32) -> Plan {
        let area = config.patch * config.patch;
        let (channels_in, channels_out) = (6 * area, 3 * area);
        let resolutions = config.resolutions(image_size);
        let attends = |resolution: u32| config.attention.contains(&resolution);
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
            for _ in 0..config.res_blocks {
                let to = width_of(level);
                let mut layers =
                    vec![Layer::Residual { from: channels, to, resample: Resample::Keep }];
                channels = to;
                if attends(resolution) {
                    layers.push(Layer::Attention { channels });
                }
                push(&mut input, "input_blocks", resolution, layers);
                skips.push(channels);
            }
            if level != last {
                let layer = if config.resblock_updown {
                    Layer::Residual { from: channels, to: channels, resample: Resample::Down }
                } else {
                    Layer::Downsample { channels }
                };
                push(&mut input, "input_blocks", resolution, vec![layer]);
                skips.push(channels);
            }
        }

        let residual = Layer::Residual { from: channels, to: channels, resample: Resample::Keep };
        let middle = Block {
            name: "middle_block".to_owned(),
            resolution: resolutions[last],
            layers: vec![residual, Layer::Attention { channels }, residual],
        };

        // The way up, each block with a skip connection concatenated.
        let mut output: Vec<Block> = Vec::new();
        for (level, &resolution) in resolutions.iter().enumerate().rev() {
            for i in 0..=config.res_blocks {
                let from = channels + skips.pop().unwrap_or(0);
                let to = width_of(level);
                let mut layers = vec![Layer::Residual { from, to, resample: Resample::Keep }];
                channels = to;
                if attends(resolution) {
                    layers.push(Layer::Attention { channels });
                }
                if level > 0 && i == config.res_blocks {
                    layers.push(if config.resblock_updown {
                        Layer::Residual { from: channels, to: channels, resample: Resample::Up }
                    } else {
                        Layer::Upsample { channels }
                    });
                }
                push(&mut output, "output_blocks", resolution, layers);
            }
        }
        Plan {
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
