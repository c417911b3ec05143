//! The network as the configuration names it: the `[model]` table. The default is the paper's
//! 256×256 network.
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What of the noise level enters the sinusoids of the time embedding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum), value(rename_all = "snake_case"))]
#[serde(rename_all = "snake_case")]
pub enum NoiseEmbedding {
    /// γ itself, as the PyTorch Palette has it.
    #[default]
    Gamma,
    /// 1000·√γ, so that every frequency is used.
    SqrtGamma,
    /// ln(γ/(1−γ)).
    LogSnr,
    /// The time step, counted from 0, for weights of ADM. Training and sampling translate γ into
    /// the time of the training schedule.
    Timestep,
}

/// What lets the network see far at the resolutions of `attention`: the paper's ablation (section 5.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionKind {
    /// Self-attention over the whole feature map.
    #[default]
    Global,
    /// Self-attention within each quarter of it (four query blocks that do not overlap).
    Local,
    /// No attention, twice the residual blocks; in the middle four of them.
    MoreBlocks,
    /// As `more_blocks`, with convolutions dilated 1, 2, 4, 8 from block to block, up to half of the
    /// feature map's side.
    Dilated,
}

impl AttentionKind {
    /// Whether there is self-attention at all.
    pub fn attends(self) -> bool {
        matches!(self, AttentionKind::Global | AttentionKind::Local)
    }
}

/// In which numbers the network computes. Weights are f32 whatever this is, and so are the noise
/// embedding, the statistics of group norms and the loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Everything in f32, on a GPU too.
    #[default]
    Fp32,
    /// f32, but convolutions and matrix products on a GPU round their factors to TF32 (10 bits of
    /// mantissa). On the CPU the same as `fp32`.
    Tf32,
    /// Activations and products in bf16 (7 bits of mantissa); gradients of weights arrive in f32.
    Bf16,
}

impl Precision {
    /// All of them, from the most exact.
    pub const ALL: [Precision; 3] = [Precision::Fp32, Precision::Tf32, Precision::Bf16];

    /// As configurations and arguments spell it.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Fp32 => "fp32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        }
    }

    /// Bytes of an activation.
    pub fn bytes(self) -> u64 {
        match self {
            Precision::Fp32 | Precision::Tf32 => 4,
            Precision::Bf16 => 2,
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Precision> {
        Precision::ALL
            .into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| Error::config("precision", text, "fp32, tf32 and bf16"))
    }
}

/// How the channels of `qkv` are ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum AttentionOrder {
    /// `[head][q,k,v]`: the published weights.
    #[default]
    Legacy,
    /// `[q,k,v][head]`.
    New,
}

/// The hyper-parameters of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Channels of the first level; a multiple of `norm_groups`.
    pub model_channels: u32,
    /// Multiplier of each level, from the finest; each further level halves the resolution.
    pub channel_mult: Vec<u32>,
    /// Residual blocks a level (the way up has one more).
    pub res_blocks: u32,
    /// Resolutions in pixels (of the shorter side, after patching) that carry attention. The middle
    /// block always has it.
    pub attention: Vec<u32>,
    /// What stands at these resolutions.
    pub attention_kind: AttentionKind,
    /// Channels of an attention head, where `num_heads` is 0.
    pub head_channels: u32,
    /// Heads of every attention, however many channels it has, as in networks that were not built with
    /// channels a head; 0 for `head_channels`.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_heads: u32,
    /// Groups of every group norm, 32 in ADM. Where that leaves a group few channels, each loses its
    /// own brightness: small networks want fewer groups.
    pub norm_groups: u32,
    /// Dropout in the residual blocks, in [0, 1).
    pub dropout: f64,
    /// What of the noise level is embedded.
    pub noise_embedding: NoiseEmbedding,
    /// Order of the attention channels.
    pub attention_order: AttentionOrder,
    /// 1, 2 or 4: patches of that side become channels before the network (pixel-unshuffle) and
    /// pixels after it. Resolutions in `attention` are those after patching.
    pub patch: u32,
    /// Residual blocks change the resolution (BigGAN); otherwise convolutions do.
    pub resblock_updown: bool,
    /// The condition stands before the noisy image in the network's input.
    pub condition_first: bool,
}

impl Default for ModelConfig {
    fn default() -> ModelConfig {
        ModelConfig {
            model_channels: 256,
            channel_mult: vec![1, 1, 2, 2, 4, 4],
            res_blocks: 2,
            attention: vec![32, 16, 8],
            attention_kind: AttentionKind::Global,
            head_channels: 64,
            num_heads: 0,
            norm_groups: 32,
            dropout: 0.0,
            noise_embedding: NoiseEmbedding::Gamma,
            attention_order: AttentionOrder::Legacy,
            patch: 1,
            resblock_updown: true,
            condition_first: false,
        }
    }
}

impl ModelConfig {
    /// Refuses a network that cannot be built for images of this height and width, naming the key
    /// and what is allowed.
    pub fn validate(&self, [height, width]: [u32; 2]) -> Result<()> {
        self.validate_widths()?;
        if ![1, 2, 4].contains(&self.patch) {
            return Err(Error::config("model.patch", self.patch, "1, 2 and 4"));
        }
        let factor = self.factor();
        for side in [height, width] {
            if side == 0 || side > 8192 || !side.is_multiple_of(factor) {
                return Err(Error::config(
                    "data.image_size",
                    side,
                    format!(
                        "multiples of {factor} up to 8192: the network halves its input {} times after \
                         patches of {}{}",
                        self.channel_mult.len() - 1,
                        self.patch,
                        if self.quarters() { " and cuts it into quarters" } else { "" }
                    ),
                ));
            }
        }
        let resolutions = self.resolutions(height.min(width));
        for &resolution in &self.attention {
            if !resolutions.contains(&resolution) {
                return Err(Error::config(
                    "model.attention",
                    format!("{:?}", self.attention),
                    format!(
                        "resolutions of the network, {}; it never has {resolution}",
                        join(&resolutions),
                    ),
                ));
            }
        }
        if self.attention_kind.attends() { self.validate_heads(&resolutions) } else { Ok(()) }
    }

    /// Sides of images are multiples of this: patches, then a halving for each level but the first,
    /// then quarters where attention is local.
    pub fn factor(&self) -> u32 {
        self.patch << (self.channel_mult.len().max(1) - 1) << u32::from(self.quarters())
    }

    fn quarters(&self) -> bool {
        self.attention_kind == AttentionKind::Local
    }

    fn validate_widths(&self) -> Result<()> {
        if !(1..=64).contains(&self.norm_groups) {
            return Err(Error::config("model.norm_groups", self.norm_groups, "1 to 64"));
        }
        let multiple = |n: u32| n > 0 && n <= 4096 && n.is_multiple_of(self.norm_groups);
        if !multiple(self.model_channels) {
            let groups = self.norm_groups;
            let allowed = format!("multiples of {groups} up to 4096, as group norm needs");
            return Err(Error::config("model.model_channels", self.model_channels, allowed));
        }
        let mults = &self.channel_mult;
        if mults.is_empty() || mults.len() > 10 || !mults.iter().all(|m| (1..=64).contains(m)) {
            let allowed = "1 to 10 levels with multipliers from 1 to 64";
            return Err(Error::config("model.channel_mult", format!("{mults:?}"), allowed));
        }
        if !(1..=16).contains(&self.res_blocks) {
            return Err(Error::config("model.res_blocks", self.res_blocks, "1 to 16"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let allowed = "0 up to, not including, 1";
            return Err(Error::config("model.dropout", self.dropout, allowed));
        }
        Ok(())
    }

    fn validate_heads(&self, resolutions: &[u32]) -> Result<()> {
        let middle = resolutions.len() - 1;
        for (level, (&resolution, &mult)) in resolutions.iter().zip(&self.channel_mult).enumerate()
        {
            let attends = level == middle || self.attention.contains(&resolution);
            let channels = self.model_channels * mult;
            let (key, value) = match self.num_heads {
                0 => ("model.head_channels", self.head_channels),
                heads => ("model.num_heads", heads),
            };
            if attends && (value == 0 || !channels.is_multiple_of(value)) {
                return Err(Error::config(
                    key,
                    value,
                    format!("divisors of the {channels} channels of the attention at {resolution}"),
                ));
            }
        }
        Ok(())
    }

    /// How many heads an attention of `channels` channels has, at least 1.
    pub fn heads(&self, channels: u32) -> u32 {
        match self.num_heads {
            0 => channels.checked_div(self.head_channels).unwrap_or(1).max(1),
            heads => heads,
        }
    }

    /// The resolutions of the network's levels for images of this shorter side, from the finest.
    pub fn resolutions(&self, image_size: u32) -> Vec<u32> {
        (0..self.channel_mult.len())
            .map(|level| (image_size / self.patch.max(1)) >> level)
            .collect()
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn join(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
