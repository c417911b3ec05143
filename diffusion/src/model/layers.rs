//! The layers of the network, as in guided-diffusion: names, order of operations, group norm in
//! f32.
use super::config::{AttentionOrder, ModelConfig};
use super::plan::{Layer, Resample};
use crate::Result;
use tch::nn::{Init, Path};
use tch::{Kind, Tensor};

/// A variable, all zero until weights are initialised or loaded.
fn variable(path: &Path, name: &str, shape: &[u32]) -> Result<Tensor> {
    let shape: Vec<i64> = shape.iter().map(|&n| i64::from(n)).collect();
    Ok(path.f_var(name, &shape, Init::Const(0.0))?)
}

#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub(crate) fn new(path: &Path, from: u32, to: u32) -> Result<Linear> {
        Ok(Linear {
            weight: variable(path, "weight", &[to, from])?,
            bias: variable(path, "bias", &[to])?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, Some(&self.bias))?)
    }
}

#[derive(Debug)]
pub(crate) struct Convolution {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Convolution {
    pub(crate) fn new(path: &Path, from: u32, to: u32, kernel: u32, stride: i64) -> Result<Self> {
        Ok(Convolution {
            weight: variable(path, "weight", &[to, from, kernel, kernel])?,
            bias: variable(path, "bias", &[to])?,
            stride,
            padding: i64::from(kernel / 2),
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        Ok(x.f_conv2d(&self.weight, Some(&self.bias), stride, padding, [1, 1], 1)?)
    }
}

#[derive(Debug)]
pub(crate) struct Norm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
}

impl Norm {
    pub(crate) fn new(path: &Path, channels: u32, config: &ModelConfig) -> Result<Norm> {
        Ok(Norm {
            groups: i64::from(config.norm_groups),
            weight: variable(path, "weight", &[channels])?,
            bias: variable(path, "bias", &[channels])?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        if x.kind() == Kind::Float {
            return Ok(x.f_group_norm(self.groups, weight, bias, 1e-5, true)?);
        }
        let norm = x.f_to_kind(Kind::Float)?.f_group_norm(self.groups, weight, bias, 1e-5, true)?;
        Ok(norm.f_to_kind(x.kind())?)
    }
}

/// ResBlock: `in_layers`, the embedding as scale and shift, `out_layers`, a skip connection.
#[derive(Debug)]
pub(crate) struct Residual {
    in_norm: Norm,
    in_conv: Convolution,
    embedding: Linear,
    out_norm: Norm,
    out_conv: Convolution,
    skip: Option<Convolution>,
    resample: Resample,
    dropout: f64,
}

impl Residual {
    fn new(
        path: &Path,
        from: u32,
        to: u32,
        resample: Resample,
        config: &ModelConfig,
        embedding: u32,
    ) -> Result<Self> {
        let (inside, outside) = (path / "in_layers", path / "out_layers");
        Ok(Residual {
            in_norm: Norm::new(&(&inside / 0), from, config)?,
            in_conv: Convolution::new(&(&inside / 2), from, to, 3, 1)?,
            embedding: Linear::new(&(path / "emb_layers" / 1), embedding, 2 * to)?,
            out_norm: Norm::new(&(&outside / 0), to, config)?,
            out_conv: Convolution::new(&(&outside / 3), to, to, 3, 1)?,
            skip: if from == to {
                None
            } else {
                Some(Convolution::new(&(path / "skip_connection"), from, to, 1, 1)?)
            },
            resample,
            dropout: config.dropout,
        })
    }

    fn resampled(&self, x: Tensor) -> Result<Tensor> {
        Ok(match self.resample {
            Resample::Keep => x,
            Resample::Down => x.f_avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)?,
            Resample::Up => twice(&x)?,
        })
    }

    fn forward(&self, x: &Tensor, embedding: &Tensor, train: bool) -> Result<Tensor> {
        let h = self.resampled(self.in_norm.forward(x)?.f_silu()?)?;
        let x = self.resampled(x.shallow_clone())?;
        let h = self.in_conv.forward(&h)?;
        // [B, 2C] is scale, then shift, of the normalised activations.
        let both = self.embedding.forward(embedding)?.f_unsqueeze(-1)?.f_unsqueeze(-1)?;
        let parts = both.f_chunk(2, 1)?;
        let scale = parts[0].f_add_scalar(1.0)?;
        let mut h = parts[1].f_addcmul(&self.out_norm.forward(&h)?, &scale)?.f_silu()?;
        if train && self.dropout > 0.0 {
            h = h.f_dropout(self.dropout, true)?;
        }
        let h = self.out_conv.forward(&h)?;
        match &self.skip {
            Some(skip) => Ok(skip.forward(&x)?.f_add(&h)?),
            None => Ok(x.f_add(&h)?),
        }
    }
}

/// Self-attention over all pixels, one-dimensional convolutions as linear layers.
#[derive(Debug)]
pub(crate) struct Attention {
    norm: Norm,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    head_channels: i64,
    order: AttentionOrder,
}

impl Attention {
    fn new(path: &Path, channels: u32, config: &ModelConfig) -> Result<Attention> {
        let (qkv, out) = (path / "qkv", path / "proj_out");
        Ok(Attention {
            norm: Norm::new(&(path / "norm"), channels, config)?,
            qkv_weight: variable(&qkv, "weight", &[3 * channels, channels, 1])?,
            qkv_bias: variable(&qkv, "bias", &[3 * channels])?,
            out_weight: variable(&out, "weight", &[channels, channels, 1])?,
            out_bias: variable(&out, "bias", &[channels])?,
            head_channels: i64::from(config.head_channels),
            order: config.attention_order,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, c, h, w) = x.size4()?;
        let (d, heads) = (self.head_channels, c / self.head_channels);
        // [B,C,H,W] → [B,HW,C] → [B,HW,3C]
        let pixels = self.norm.forward(x)?.f_flatten(2, 3)?.f_transpose(1, 2)?;
        let qkv = pixels.f_linear(&self.qkv_weight.f_squeeze_dim(-1)?, Some(&self.qkv_bias))?;
        // Each of q, k, v becomes [B,heads,HW,d].
        let (shape, part) = match self.order {
            AttentionOrder::Legacy => ([b, h * w, heads, 3, d], 3),
            AttentionOrder::New => ([b, h * w, 3, heads, d], 2),
        };
        let qkv = qkv.f_view(shape)?;
        let pick = |i: i64| -> Result<Tensor> { Ok(qkv.f_select(part, i)?.f_transpose(1, 2)?) };
        let mixed = Tensor::f_scaled_dot_product_attention(
            &pick(0)?,
            &pick(1)?,
            &pick(2)?,
            None::<Tensor>,
            0.0,
            false,
            None,
            false,
        )?;
        let mixed = mixed.f_transpose(1, 2)?.f_reshape([b, h * w, c])?;
        let out = mixed.f_linear(&self.out_weight.f_squeeze_dim(-1)?, Some(&self.out_bias))?;
        Ok(x.f_add(&out.f_transpose(1, 2)?.f_reshape([b, c, h, w])?)?)
    }
}

/// Nearest neighbour, twice the size.
fn twice(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = x.size4()?;
    Ok(x.f_upsample_nearest2d([2 * h, 2 * w], None, None)?)
}

/// A built layer.
#[derive(Debug)]
pub(crate) enum Built {
    Convolution(Convolution),
    Residual(Residual),
    Attention(Attention),
    Upsample(Convolution),
}

impl Built {
    pub(crate) fn new(
        path: &Path,
        layer: Layer,
        config: &ModelConfig,
        embedding: u32,
    ) -> Result<Self> {
        Ok(match layer {
            Layer::Convolution { from, to } => {
                Built::Convolution(Convolution::new(path, from, to, 3, 1)?)
            }
            Layer::Residual { from, to, resample } => {
                Built::Residual(Residual::new(path, from, to, resample, config, embedding)?)
            }
            Layer::Attention { channels } => {
                Built::Attention(Attention::new(path, channels, config)?)
            }
            Layer::Downsample { channels } => {
                Built::Convolution(Convolution::new(&(path / "op"), channels, channels, 3, 2)?)
            }
            Layer::Upsample { channels } => {
                Built::Upsample(Convolution::new(&(path / "conv"), channels, channels, 3, 1)?)
            }
        })
    }

    pub(crate) fn forward(&self, x: &Tensor, embedding: &Tensor, train: bool) -> Result<Tensor> {
        match self {
            Built::Convolution(layer) => layer.forward(x),
            Built::Residual(layer) => layer.forward(x, embedding, train),
            Built::Attention(layer) => layer.forward(x),
            Built::Upsample(layer) => layer.forward(&twice(x)?),
        }
    }
}
