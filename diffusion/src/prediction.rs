//! The three meanings of a network's output, and the conversions between them: the only place
//! that knows them.
//!
//! With y = √γ·y0 + √(1−γ)·ε: v = √γ·ε − √(1−γ)·y0 (Salimans & Ho 2022), so that
//! y0 = √γ·y − √(1−γ)·v and ε = √(1−γ)·y + √γ·v.
use crate::Result;
use serde::{Deserialize, Serialize};
use tch::Tensor;
use torch_ext::t;

/// What the network's output means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum), value(rename_all = "snake_case"))]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise ε (the paper).
    #[default]
    Epsilon,
    /// v = √γ·ε − √(1−γ)·y0.
    V,
    /// The clean image y0.
    Y0,
}

impl Prediction {
    /// What the network should have said: `[B,3,H,W]` for the clean image and the noise `[B,3,H,W]`,
    /// with √γ and √(1−γ) as `[B,1,1,1]`.
    pub fn target(
        self,
        y0: &Tensor,
        epsilon: &Tensor,
        signal: &Tensor,
        sigma: &Tensor,
    ) -> Result<Tensor> {
        Ok(match self {
            Prediction::Epsilon => epsilon.shallow_clone(),
            Prediction::V => (t(signal) * epsilon - t(sigma) * y0).value()?,
            Prediction::Y0 => y0.shallow_clone(),
        })
    }

    /// The clean image that an output at (y, γ) stands for; γ in (0, 1].
    pub fn to_y0(self, output: &Tensor, y: &Tensor, gamma: f64) -> Result<Tensor> {
        let (signal, sigma) = (gamma.sqrt(), (1.0 - gamma).sqrt());
        Ok(match self {
            Prediction::Epsilon => ((t(y) - sigma * t(output)) * (1.0 / signal)).value()?,
            Prediction::V => (signal * t(y) - sigma * t(output)).value()?,
            Prediction::Y0 => output.shallow_clone(),
        })
    }

    /// The noise that an output at (y, γ) stands for; γ in [0, 1).
    pub fn to_epsilon(self, output: &Tensor, y: &Tensor, gamma: f64) -> Result<Tensor> {
        let (signal, sigma) = (gamma.sqrt(), (1.0 - gamma).sqrt());
        Ok(match self {
            Prediction::Epsilon => output.shallow_clone(),
            Prediction::V => (sigma * t(y) + signal * t(output)).value()?,
            Prediction::Y0 => ((t(y) - signal * t(output)) * (1.0 / sigma)).value()?,
        })
    }
}
