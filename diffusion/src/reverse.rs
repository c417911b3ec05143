//! The reverse processes: from noise to an image, step by step. Pure functions: everything random
//! comes in through a closure, everything seen goes out through a callback.
//!
//! None of them touches `start`; a caller who wants known pixels in it puts them there. After every
//! step the known pixels are put back as they are.
use crate::{Error, Prediction, Result, Schedule};
use std::ops::ControlFlow;
use tch::Tensor;

/// What a reverse process works with.
pub struct Process<'a> {
    /// The meaning of what `denoise` returns.
    pub prediction: Prediction,
    /// Whether ŷ0 is clipped to `[-1,1]` (`posterior` and `ddim`; Algorithm 2 does not).
    pub clip: bool,
    /// Known pixels.
    pub known: Option<Known<'a>>,
    /// The network: y `[B,3,H,W]` and γ (the same for all images) to its output `[B,3,H,W]`.
    pub denoise: &'a dyn Fn(&Tensor, f64) -> Result<Tensor>,
    /// Standard normal `[B,3,H,W]` for a step; steps count down, the last one is 0 and asks for none.
    pub noise: &'a mut dyn FnMut(usize) -> Result<Tensor>,
    /// Sees every step; may end the process, which then returns [`Error::Stopped`].
    pub on_step: &'a mut dyn FnMut(&Step) -> ControlFlow<()>,
}

/// Known pixels of the images.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// 1 where pixels are generated, 0 where they are known; `[B,1,H,W]`.
    pub mask: &'a Tensor,
    /// The known pixels, `[B,3,H,W]`; not looked at where the mask is 1.
    pub pixels: &'a Tensor,
}

/// One step that has been done.
#[derive(Debug)]
pub struct Step<'a> {
    /// Steps left.
    pub left: usize,
    /// Steps in all.
    pub total: usize,
    /// γ of `y`; 1 after the last step.
    pub gamma: f64,
    /// The images after the step, known pixels put back; `[B,3,H,W]`.
    pub y: &'a Tensor,
    /// The clean images as estimated in this step, `[B,3,H,W]`.
    pub y0: &'a Tensor,
}

/// Algorithm 2 of the paper, exactly: for t = T..1
/// y_{t−1} = (y_t − (1−α_t)/√(1−γ_t) · ε̂) / √α_t + √(1−α_t)·z, with z = 0 at t = 1.
pub fn ancestral(start: &Tensor, schedule: &Schedule, process: &mut Process) -> Result<Tensor> {
    let mut y = start.shallow_clone();
    for t in (1..=schedule.steps()).rev() {
        let (alpha, gamma) = (schedule.alpha(t), schedule.gamma(t));
        let output = (process.denoise)(&y, gamma)?;
        let epsilon = process.prediction.to_epsilon(&output, &y, gamma)?;
        let drift = (1.0 - alpha) / (1.0 - gamma).sqrt();
        let mut next = y.f_sub(&epsilon.f_mul_scalar(drift)?)?.f_mul_scalar(1.0 / alpha.sqrt())?;
        if t > 1 {
            next = next.f_add(&(process.noise)(t - 1)?.f_mul_scalar((1.0 - alpha).sqrt())?)?;
        }
        let y0 = process.prediction.to_y0(&output, &y, gamma)?;
        y = process.done(next, &y0, t - 1, schedule.steps(), schedule.gamma(t - 1))?;
    }
    Ok(y)
}

/// The posterior q(y_{t−1} | y_t, ŷ0) of Ho et al. 2020 with ŷ0 clipped, as the PyTorch Palette
/// samples: mean β_t√γ_{t−1}/(1−γ_t)·ŷ0 + (1−γ_{t−1})√α_t/(1−γ_t)·y_t, variance
/// β_t(1−γ_{t−1})/(1−γ_t).
pub fn posterior(start: &Tensor, schedule: &Schedule, process: &mut Process) -> Result<Tensor> {
    let mut y = start.shallow_clone();
    for t in (1..=schedule.steps()).rev() {
        let (gamma, before) = (schedule.gamma(t), schedule.gamma(t - 1));
        let output = (process.denoise)(&y, gamma)?;
        let y0 = process.estimate(&output, &y, gamma)?;
        let of_y0 = schedule.beta(t) * before.sqrt() / (1.0 - gamma);
        let of_y = (1.0 - before) * schedule.alpha(t).sqrt() / (1.0 - gamma);
        let mut next = y0.f_mul_scalar(of_y0)?.f_add(&y.f_mul_scalar(of_y)?)?;
        if t > 1 {
            let variance = (schedule.beta(t) * (1.0 - before) / (1.0 - gamma)).max(1e-20);
            next = next.f_add(&(process.noise)(t - 1)?.f_mul_scalar(variance.sqrt())?)?;
        }
        y = process.done(next, &y0, t - 1, schedule.steps(), before)?;
    }
    Ok(y)
}

/// DDIM (Song et al. 2021) in `steps` steps over continuous γ: times run evenly from T to 0 of the
/// schedule. From γ to γ' y' = √γ'·ŷ0 + √(1−γ'−σ²)·ε̂ + σ·z with
/// σ = η·√((1−γ')/(1−γ))·√(1−γ/γ'); the last step gives ŷ0 itself. η = 0 uses no noise.
pub fn ddim(
    start: &Tensor,
    schedule: &Schedule,
    steps: usize,
    eta: f64,
    process: &mut Process,
) -> Result<Tensor> {
    let mut y = start.shallow_clone();
    let gamma_after = |left: usize| {
        schedule.gamma_at(schedule.steps() as f64 * left as f64 / steps.max(1) as f64)
    };
    for left in (0..steps).rev() {
        let (gamma, next_gamma) = (gamma_after(left + 1), gamma_after(left));
        let output = (process.denoise)(&y, gamma)?;
        let y0 = process.estimate(&output, &y, gamma)?;
        let mut next = y0.f_mul_scalar(next_gamma.sqrt())?;
        if left > 0 {
            // The noise that fits the estimate, clipped or not.
            let epsilon = Prediction::Y0.to_epsilon(&y0, &y, gamma)?;
            let variance = (1.0 - next_gamma) / (1.0 - gamma) * (1.0 - gamma / next_gamma);
            let sigma = eta * variance.max(0.0).sqrt();
            let direction = (1.0 - next_gamma - sigma * sigma).max(0.0).sqrt();
            next = next.f_add(&epsilon.f_mul_scalar(direction)?)?;
            if sigma > 0.0 {
                next = next.f_add(&(process.noise)(left)?.f_mul_scalar(sigma)?)?;
            }
        }
        y = process.done(next, &y0, left, steps, next_gamma)?;
    }
    Ok(y)
}

impl Process<'_> {
    fn estimate(&self, output: &Tensor, y: &Tensor, gamma: f64) -> Result<Tensor> {
        let y0 = self.prediction.to_y0(output, y, gamma)?;
        Ok(if self.clip { y0.f_clamp(-1.0, 1.0)? } else { y0 })
    }

    /// Puts the known pixels back and tells the caller.
    fn done(
        &mut self,
        y: Tensor,
        y0: &Tensor,
        left: usize,
        total: usize,
        gamma: f64,
    ) -> Result<Tensor> {
        let y = match &self.known {
            Some(known) => known.pixels.f_lerp_tensor(&y, known.mask)?,
            None => y,
        };
        match (self.on_step)(&Step { left, total, gamma, y: &y, y0 }) {
            ControlFlow::Continue(()) => Ok(y),
            ControlFlow::Break(()) => Err(Error::Stopped),
        }
    }
}
