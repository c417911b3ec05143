//! DDIM (Song et al. 2021).
use super::{Levels, Process, Solver};
use crate::{Prediction, Result};
use tch::Tensor;
use torch_ext::t;

pub(super) const SOLVER: Solver =
    Solver { name: "ddim", few_steps: Some(20), takes_eta: true, run: ddim };

/// y' = √γ'·ŷ0 + √(1−γ'−σ²)·ε̂ + σ·z with σ = η·√((1−γ')/(1−γ))·√(1−γ/γ'); the last step gives ŷ0
/// itself. η = 0 uses no noise, η = 1 as much as the posterior.
fn ddim(start: &Tensor, levels: &Levels, process: &mut Process) -> Result<Tensor> {
    let mut y = start.shallow_clone();
    for (gamma, after, left) in levels.walk() {
        let y0 = process.estimate(&y, gamma)?;
        let mut next = after.sqrt() * t(&y0);
        if left > 0 {
            // The noise that fits the estimate, clipped or not.
            let epsilon = Prediction::Y0.to_epsilon(&y0, &y, gamma)?;
            let variance = (1.0 - after) / (1.0 - gamma) * (1.0 - gamma / after);
            let sigma = process.eta * variance.max(0.0).sqrt();
            let direction = (1.0 - after - sigma * sigma).max(0.0).sqrt();
            next = next + direction * t(&epsilon);
            if sigma > 0.0 {
                next = next + sigma * t((process.noise)(left)?);
            }
        }
        y = process.done(next.value()?, &y0, levels, left)?;
    }
    Ok(y)
}
