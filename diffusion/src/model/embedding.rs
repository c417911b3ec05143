//! The embedding of the noise level: sinusoids, then two linear layers.
use super::config::{ModelConfig, NoiseEmbedding};
use super::layers::Linear;
use crate::Result;
use tch::nn::Path;
use tch::{Device, Kind, Tensor};
use torch_ext::t;

/// Longest period of the sinusoids.
const MAX_PERIOD: f64 = 10_000.0;

#[derive(Debug)]
pub(crate) struct Embedding {
    input: NoiseEmbedding,
    /// f32 `[1, sinusoids/2]`.
    frequencies: Tensor,
    first: Linear,
    second: Linear,
}

impl Embedding {
    pub(crate) fn new(
        path: &Path,
        config: &ModelConfig,
        width: u32,
        out: u32,
    ) -> Result<Embedding> {
        let path = path / "time_embed";
        Ok(Embedding {
            input: config.noise_embedding,
            frequencies: frequencies(i64::from(width / 2), path.device())?,
            first: Linear::new(&(&path / 0), width, out)?,
            second: Linear::new(&(&path / 2), out, out)?,
        })
    }

    /// `[B]` (γ, or the time step) to `[B, embedding]`, already through the SiLU that every residual
    /// block applies first.
    pub(crate) fn forward(&self, noise: &Tensor) -> Result<Tensor> {
        let value = match self.input {
            NoiseEmbedding::Gamma | NoiseEmbedding::Timestep => noise.shallow_clone(),
            NoiseEmbedding::SqrtGamma => (1000.0 * t(noise).map(Tensor::f_sqrt)).value()?,
            NoiseEmbedding::LogSnr => {
                let gamma = noise.f_clamp(1e-8, 1.0 - 1e-7)?;
                (t(&gamma) / (1.0 - t(&gamma))).map(Tensor::f_log).value()?
            }
        };
        let angles = (t(value.f_unsqueeze(1)?) * &self.frequencies).value()?;
        let sinusoids = Tensor::f_cat(&[angles.f_cos()?, angles.f_sin()?], 1)?;
        self.second
            .forward(&self.first.forward(&sinusoids)?.f_silu()?)?
            .f_silu()
            .map_err(Into::into)
    }
}

/// exp(−ln 10000 · i/half), in f32 as the reference computes it.
fn frequencies(half: i64, device: Device) -> Result<Tensor> {
    let index = Tensor::f_arange(half, (Kind::Float, device))?;
    let exponent = -MAX_PERIOD.ln() * t(&index) / half as f64;
    Ok(exponent.map(Tensor::f_exp).value()?.f_unsqueeze(0)?)
}
