//! The layers of the network, as in guided-diffusion: names, order of operations, statistics of
//! group norms in f32.
//!
//! A layer computes in the kind of what enters; weights are f32 and are cast where they are used.
//! Activations have their channels innermost in memory ([`torch_ext::to_channels_last`]), and so
//! have the weights of convolutions.
use super::architecture::{Layer, Resample};
use super::config::{AttentionOrder, ModelConfig};
use super::weight::Weight;
use crate::Result;
use tch::nn::Path;
use tch::{Device, Kind, Tensor};

#[derive(Debug)]
pub(crate) struct Linear {
    weight: Weight,
    bias: Weight,
}

impl Linear {
    pub(crate) fn new(path: &Path, from: u32, to: u32) -> Result<Linear> {
        Ok(Linear {
            weight: Weight::new(path, "weight", &[to, from])?,
            bias: Weight::new(path, "bias", &[to])?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight.like(x)?, Some(&self.bias.like(x)?))?)
    }
}

/// A convolution that keeps the size, or halves it with stride 2.
#[derive(Debug)]
pub(crate) struct Convolution {
    weight: Weight,
    bias: Weight,
    stride: i64,
    dilation: i64,
    padding: i64,
}

impl Convolution {
    pub(crate) fn new(path: &Path, from: u32, to: u32, kernel: u32) -> Result<Self> {
        let weight = Weight::new(path, "weight", &[to, from, kernel, kernel])?;
        torch_ext::set_channels_last(weight.own())?;
        let bias = Weight::new(path, "bias", &[to])?;
        Ok(Convolution { weight, bias, stride: 1, dilation: 1, padding: i64::from(kernel / 2) })
    }

    pub(crate) fn strided(self, stride: i64) -> Self {
        Convolution { stride, ..self }
    }

    pub(crate) fn dilated(self, dilation: u32) -> Self {
        let dilation = i64::from(dilation);
        Convolution { dilation, padding: self.padding * dilation, ..self }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.convolved(x, Some(&self.bias.like(x)?))
    }

    /// The convolution, and its bias where whoever takes the result must add it
    /// ([`torch_ext::folds_bias`]).
    fn without_bias(&self, x: &Tensor) -> Result<(Tensor, Option<&Tensor>)> {
        if torch_ext::folds_bias(x) {
            Ok((self.convolved(x, None)?, Some(self.bias.own())))
        } else {
            Ok((self.forward(x)?, None))
        }
    }

    fn convolved(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let (stride, padding, dilation) = ([self.stride; 2], [self.padding; 2], [self.dilation; 2]);
        let weight = self.weight.like(x)?;
        let sampling = !weight.requires_grad() && !x.requires_grad();
        if sampling && x.device() == Device::Cpu && x.kind() == Kind::Float {
            // Left to itself libtorch takes a slower way for one small image than for several, whose
            // bits are others.
            let x = torch_ext::to_channels_last(x)?;
            return Ok(x.f_mkldnn_convolution(&weight, bias, padding, stride, dilation, 1)?);
        }
        Ok(x.f_conv2d(&weight, bias, stride, padding, dilation, 1)?)
    }

    /// The last convolution, f32 whatever x is: its few output channels are the answer and shall not be
    /// rounded to bf16.
    ///
    /// cuDNN has no convolution of bf16 with an f32 result, but there is such a product: every pixel's
    /// share in its neighbours, `[B·H·W, C]·[C, 9·to]`, which are then summed where they belong.
    pub(crate) fn widened(&self, x: &Tensor) -> Result<Tensor> {
        if x.kind() != Kind::BFloat16 || !x.device().is_cuda() {
            return self.forward(&x.f_to_kind(Kind::Float)?);
        }
        let (b, c, h, w) = x.size4()?;
        let (side, padding) = (2 * self.padding + 1, [self.padding; 2]);
        let taps = self.weight.own().size()[0] * side * side;
        // A pixel's share in its left neighbour is what that one's kernel has on the right: turned round.
        let shares = self.weight.own().f_flip([2, 3])?.f_permute([1, 0, 2, 3])?;
        let shares = shares.f_reshape([c, taps])?.f_to_kind(Kind::BFloat16)?;
        // Rows of 16 bytes, as tensor cores want them.
        let wide = (taps + 7) / 8 * 8;
        let shares = shares.f_constant_pad_nd([0, wide - taps])?;
        let pixels = torch_ext::to_channels_last(x)?.f_permute([0, 2, 3, 1])?;
        let parts = torch_ext::wide_product(&pixels.f_reshape([b * h * w, c])?, &shares)?;
        let parts = parts.f_view([b, h * w, wide])?.f_narrow(2, 0, taps)?.f_transpose(1, 2)?;
        let y = parts.f_col2im([h, w], [side; 2], [1; 2], padding, [1; 2])?;
        Ok(y.f_add(&self.bias.own().f_view([1, -1, 1, 1])?)?)
    }
}

const NORM_EPSILON: f64 = 1e-5;

#[derive(Debug)]
pub(crate) struct Norm {
    weight: Weight,
    bias: Weight,
    groups: i64,
}

impl Norm {
    pub(crate) fn new(path: &Path, channels: u32, config: &ModelConfig) -> Result<Norm> {
        Ok(Norm {
            groups: i64::from(config.norm_groups),
            weight: Weight::new(path, "weight", &[channels])?,
            bias: Weight::new(path, "bias", &[channels])?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(torch_ext::norm(x, &self.plain())?)
    }

    /// SiLU of the normalised x.
    pub(crate) fn silu(&self, x: &Tensor) -> Result<Tensor> {
        Ok(torch_ext::norm(x, &torch_ext::Norm { silu: true, ..self.plain() })?)
    }

    /// SiLU(h·(1 + scale) + shift) of the normalised x, or x + `added`; scale and shift `[B,C]`.
    fn modulated(
        &self,
        x: &Tensor,
        modulation: (&Tensor, &Tensor),
        added: Option<&Tensor>,
    ) -> Result<Tensor> {
        let norm =
            torch_ext::Norm { modulation: Some(modulation), added, silu: true, ..self.plain() };
        Ok(torch_ext::norm(x, &norm)?)
    }

    fn plain(&self) -> torch_ext::Norm<'_> {
        torch_ext::Norm {
            weight: self.weight.own(),
            bias: self.bias.own(),
            groups: self.groups,
            epsilon: NORM_EPSILON,
            modulation: None,
            added: None,
            silu: false,
        }
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
        (from, to): (u32, u32),
        resample: Resample,
        dilation: u32,
        config: &ModelConfig,
        embedding: u32,
    ) -> Result<Self> {
        let (inside, outside) = (path / "in_layers", path / "out_layers");
        Ok(Residual {
            in_norm: Norm::new(&(&inside / 0), from, config)?,
            in_conv: Convolution::new(&(&inside / 2), from, to, 3)?.dilated(dilation),
            embedding: Linear::new(&(path / "emb_layers" / 1), embedding, 2 * to)?,
            out_norm: Norm::new(&(&outside / 0), to, config)?,
            out_conv: Convolution::new(&(&outside / 3), to, to, 3)?.dilated(dilation),
            skip: if from == to {
                None
            } else {
                Some(Convolution::new(&(path / "skip_connection"), from, to, 1)?)
            },
            resample,
            dropout: config.dropout,
        })
    }

    fn resampled(&self, x: Tensor) -> Result<Tensor> {
        Ok(match self.resample {
            Resample::Keep => x,
            Resample::Down => torch_ext::half(&x)?,
            Resample::Up => torch_ext::twice(&x)?,
        })
    }

    fn forward(&self, x: &Tensor, embedding: &Tensor, keys: &[u64]) -> Result<Tensor> {
        let h = self.resampled(self.in_norm.silu(x)?)?;
        let x = self.resampled(x.shallow_clone())?;
        let (h, added) = self.in_conv.without_bias(&h)?;
        // [B, 2C] is scale, then shift, of the normalised activations.
        let modulation = self.embedding.forward(embedding)?.f_expand([h.size()[0], -1], false)?;
        let parts = modulation.f_chunk(2, 1)?;
        let mut h = self.out_norm.modulated(&h, (&parts[0], &parts[1]), added)?;
        if !keys.is_empty() {
            h = dropped(&h, self.dropout, keys)?;
        }
        let (h, own) = self.out_conv.without_bias(&h)?;
        let (x, skipped) = match &self.skip {
            Some(skip) => skip.without_bias(&x)?,
            None => (x, None),
        };
        match (own, skipped) {
            (Some(own), Some(skipped)) => {
                Ok(torch_ext::add_with_bias(&x, &h, &own.f_add(skipped)?)?)
            }
            (Some(bias), None) | (None, Some(bias)) => Ok(torch_ext::add_with_bias(&x, &h, bias)?),
            (None, None) => Ok(x.f_add(&h)?),
        }
    }
}

/// Self-attention over all pixels or within each quarter of the image, one-dimensional convolutions
/// as linear layers.
#[derive(Debug)]
pub(crate) struct Attention {
    norm: Norm,
    qkv_weight: Weight,
    qkv_bias: Weight,
    out_weight: Weight,
    out_bias: Weight,
    heads: i64,
    order: AttentionOrder,
    local: bool,
}

impl Attention {
    fn new(path: &Path, channels: u32, local: bool, config: &ModelConfig) -> Result<Attention> {
        let (qkv, out) = (path / "qkv", path / "proj_out");
        Ok(Attention {
            norm: Norm::new(&(path / "norm"), channels, config)?,
            qkv_weight: Weight::new(&qkv, "weight", &[3 * channels, channels, 1])?,
            qkv_bias: Weight::new(&qkv, "bias", &[3 * channels])?,
            out_weight: Weight::new(&out, "weight", &[channels, channels, 1])?,
            out_bias: Weight::new(&out, "bias", &[channels])?,
            heads: i64::from(config.heads(channels)),
            order: config.attention_order,
            local,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, c, h, w) = x.size4()?;
        let pixels = self.norm.forward(x)?.f_permute([0, 2, 3, 1])?;
        // [B,HW,C], or [4B,HW/4,C] of the quarters.
        let (groups, seen) = if self.local { (4 * b, h * w / 4) } else { (b, h * w) };
        let tokens = if self.local {
            let quarters = pixels.f_reshape([b, 2, h / 2, 2, w / 2, c])?;
            quarters.f_permute([0, 1, 3, 2, 4, 5])?.f_reshape([groups, seen, c])?
        } else {
            pixels.f_reshape([groups, seen, c])?
        };
        let mixed = self.attend(&tokens)?;
        let out = if self.local {
            let quarters = mixed.f_view([b, 2, 2, h / 2, w / 2, c])?;
            quarters.f_permute([0, 1, 3, 2, 4, 5])?.f_reshape([b, h, w, c])?
        } else {
            mixed.f_view([b, h, w, c])?
        };
        Ok(x.f_add(&out.f_permute([0, 3, 1, 2])?)?)
    }

    /// Attention among the tokens `[B,N,C]` of each image.
    fn attend(&self, tokens: &Tensor) -> Result<Tensor> {
        let (b, n, c) = tokens.size3()?;
        let (d, heads) = (c / self.heads, self.heads);
        let layer = |weight: &Weight, bias: &Weight, x: &Tensor| -> Result<Tensor> {
            let weight = weight.like(x)?.f_squeeze_dim(-1)?;
            Ok(x.f_linear(&weight, Some(&bias.like(x)?))?)
        };
        let qkv = layer(&self.qkv_weight, &self.qkv_bias, tokens)?;
        // Each of q, k, v becomes [B,heads,N,d].
        let (shape, part) = match self.order {
            AttentionOrder::Legacy => ([b, n, heads, 3, d], 3),
            AttentionOrder::New => ([b, n, 3, heads, d], 2),
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
        let mixed = mixed.f_transpose(1, 2)?.f_reshape([b, n, c])?;
        layer(&self.out_weight, &self.out_bias, &mixed)
    }
}

/// Each number of image i is 0 with this probability, drawn by `keys[i]`; the others grow to keep
/// the mean.
fn dropped(x: &Tensor, probability: f64, keys: &[u64]) -> Result<Tensor> {
    let drawn = torch_ext::rand_keyed(keys, &x.size()[1..], x.device())?;
    let kept = drawn.f_ge(probability)?.f_to_kind(x.kind())?.f_div_scalar(1.0 - probability)?;
    Ok(x.f_mul(&torch_ext::to_channels_last(&kept)?)?)
}

/// A built layer.
#[derive(Debug)]
pub(crate) enum Built {
    Convolution(Convolution),
    Residual(Box<Residual>),
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
                Built::Convolution(Convolution::new(path, from, to, 3)?)
            }
            Layer::Residual { from, to, resample, dilation } => Built::Residual(Box::new(
                Residual::new(path, (from, to), resample, dilation, config, embedding)?,
            )),
            Layer::Attention { channels, local } => {
                Built::Attention(Attention::new(path, channels, local, config)?)
            }
            Layer::Downsample { channels } => {
                let convolution = Convolution::new(&(path / "op"), channels, channels, 3)?;
                Built::Convolution(convolution.strided(2))
            }
            Layer::Upsample { channels } => {
                Built::Upsample(Convolution::new(&(path / "conv"), channels, channels, 3)?)
            }
        })
    }

    /// With a key for each image there is dropout.
    pub(crate) fn forward(&self, x: &Tensor, embedding: &Tensor, keys: &[u64]) -> Result<Tensor> {
        match self {
            Built::Convolution(layer) => layer.forward(x),
            Built::Residual(layer) => layer.forward(x, embedding, keys),
            Built::Attention(layer) => layer.forward(x),
            Built::Upsample(layer) => layer.forward(&torch_ext::twice(x)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, nn::VarStore};

    /// Four quarters q, −q, −q, q have the statistics of q, so that the norm tells them nothing of
    /// each other: local attention answers as to q alone, global attention does not.
    #[test]
    fn local_attention_sees_its_quarter_alone() {
        let config = ModelConfig { norm_groups: 4, head_channels: 8, ..ModelConfig::default() };
        let build = |local: bool| {
            let store = VarStore::new(Device::Cpu);
            let attention = Attention::new(&store.root(), 16, local, &config).unwrap();
            for (name, variable) in store.variables() {
                let key = random::text_key(&name);
                let drawn = torch_ext::randn_keyed(&[key], &variable.size(), Device::Cpu).unwrap();
                tch::no_grad(|| variable.shallow_clone().copy_(&drawn.squeeze_dim(0)));
            }
            move |x: &Tensor| {
                let _store = &store;
                tch::no_grad(|| attention.forward(x)).unwrap()
            }
        };
        let q = torch_ext::randn_keyed(&[1, 2], &[16, 4, 6], Device::Cpu).unwrap();
        let groups = q.view([2, 4, -1]);
        let q = (&groups - groups.mean_dim(-1, true, Kind::Float)).view_as(&q);
        let (above, below) = (Tensor::cat(&[&q, &-&q], 3), Tensor::cat(&[&-&q, &q], 3));
        let x = Tensor::cat(&[above, below], 2);
        let alone = build(false)(&q);
        let off = |y: Tensor| {
            let corner = y.narrow(2, 4, 4).narrow(3, 6, 6);
            (corner - &alone).abs().max().double_value(&[])
        };
        let (local, global) = (off(build(true)(&x)), off(build(false)(&x)));
        assert!(local < 1e-2 && global > 1.0, "{local}, {global}");
    }
}
