//! The processes of the papers: a step looks at its own estimate alone.

use super::{Levels, Process, combine};
use crate::{Prediction, Result};
use tch::Tensor;

/// Algorithm 2 of the paper, exactly: with α = γ/γ' of a step from γ to γ'
/// y' = (y − (1−α)/√(1−γ) · ε̂) / √α + √(1−α)·z, and z = 0 in the last step. Nothing is clipped.
pub fn ancestral(start: &Tensor, levels: &Levels, process: &mut Process) -> Result<Tensor> {
    let mut y = start.shallow_clone();
    for (gamma, after, left) in levels.walk() {
        let alpha = gamma / after;
        let output = (process.denoise)(&y, gamma)?;
        let epsilon = process.prediction.to_epsilon(&output, &y, gamma)?;
        let drift = (1.0 - alpha) / (1.0 - gamma).sqrt();
        let mut next = y.f_sub(&epsilon.f_mul_scalar(drift)?)?.f_mul_scalar(1.0 / alpha.sqrt())?;
        if left > 0 {
            next = next.f_add(&(process.noise)(left)?.f_mul_scalar((1.0 - alpha).sqrt())?)?;
        }
        let y0 = process.prediction.to_y0(&output, &y, gamma)?;
        y = process.done(next, &y0, levels, left)?;
    }
    Ok(y)
}

/// The posterior q(y' | y, ŷ0) of Ho et al. 2020 with ŷ0 clipped, as the PyTorch Palette samples:
/// with β = 1 − γ/γ' mean β√γ'/(1−γ)·ŷ0 + (1−γ')√(1−β)/(1−γ)·y, variance β(1−γ')/(1−γ).
pub fn posterior(start: &Tensor, levels: &Levels, process: &mut Process) -> Result<Tensor> {
    let mut y = start.shallow_clone();
    for (gamma, after, left) in levels.walk() {
        let beta = 1.0 - gamma / after;
        let y0 = process.estimate(&y, gamma)?;
        let of_y0 = beta * after.sqrt() / (1.0 - gamma);
        let of_y = (1.0 - after) * (1.0 - beta).sqrt() / (1.0 - gamma);
        let mut next = combine((of_y0, &y0), &[(of_y, &y)])?;
        if left > 0 {
            let variance = (beta * (1.0 - after) / (1.0 - gamma)).max(1e-20);
            next = next.f_add(&(process.noise)(left)?.f_mul_scalar(variance.sqrt())?)?;
        }
        y = process.done(next, &y0, levels, left)?;
    }
    Ok(y)
}

/// DDIM (Song et al. 2021): y' = √γ'·ŷ0 + √(1−γ'−σ²)·ε̂ + σ·z with
/// σ = η·√((1−γ')/(1−γ))·√(1−γ/γ'); the last step gives ŷ0 itself. η = 0 uses no noise, η = 1 as
/// much as [`posterior`].
pub fn ddim(start: &Tensor, levels: &Levels, eta: f64, process: &mut Process) -> Result<Tensor> {
    let mut y = start.shallow_clone();
    for (gamma, after, left) in levels.walk() {
        let y0 = process.estimate(&y, gamma)?;
        let mut next = y0.f_mul_scalar(after.sqrt())?;
        if left > 0 {
            // The noise that fits the estimate, clipped or not.
            let epsilon = Prediction::Y0.to_epsilon(&y0, &y, gamma)?;
            let variance = (1.0 - after) / (1.0 - gamma) * (1.0 - gamma / after);
            let sigma = eta * variance.max(0.0).sqrt();
            let direction = (1.0 - after - sigma * sigma).max(0.0).sqrt();
            next = next.f_add(&epsilon.f_mul_scalar(direction)?)?;
            if sigma > 0.0 {
                next = next.f_add(&(process.noise)(left)?.f_mul_scalar(sigma)?)?;
            }
        }
        y = process.done(next, &y0, levels, left)?;
    }
    Ok(y)
}
