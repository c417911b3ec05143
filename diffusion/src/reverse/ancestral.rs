//! Algorithm 2 of the paper.
use super::{Levels, Process, Solver};
use crate::Result;
use tch::Tensor;
use torch_ext::t;

pub(super) const SOLVER: Solver =
    Solver { name: "ancestral", few_steps: None, takes_eta: false, run: ancestral };

/// Algorithm 2 of the paper, exactly: with α = γ/γ' of a step from γ to γ'
/// y' = (y − (1−α)/√(1−γ) · ε̂) / √α + √(1−α)·z, and z = 0 in the last step. Nothing is clipped.
fn ancestral(start: &Tensor, levels: &Levels, process: &mut Process) -> Result<Tensor> {
    let mut y = start.shallow_clone();
    for (gamma, after, left) in levels.walk() {
        let alpha = gamma / after;
        let output = (process.denoise)(&y, gamma)?;
        let epsilon = process.prediction.to_epsilon(&output, &y, gamma)?;
        let drift = (1.0 - alpha) / (1.0 - gamma).sqrt();
        let mut next = (t(&y) - drift * t(&epsilon)) * (1.0 / alpha.sqrt());
        if left > 0 {
            next = next + (1.0 - alpha).sqrt() * t((process.noise)(left)?);
        }
        let y0 = process.prediction.to_y0(&output, &y, gamma)?;
        y = process.done(next.value()?, &y0, levels, left)?;
    }
    Ok(y)
}
