//! The posterior of the forward process, as the PyTorch Palette samples.
use super::{Levels, Process, Solver};
use crate::Result;
use tch::Tensor;
use torch_ext::t;

pub(super) const SOLVER: Solver =
    Solver { name: "posterior", few_steps: None, takes_eta: false, run: posterior };

/// The posterior q(y' | y, ŷ0) of Ho et al. 2020 with ŷ0 clipped, as the PyTorch Palette samples:
/// with β = 1 − γ/γ' mean β√γ'/(1−γ)·ŷ0 + (1−γ')√(1−β)/(1−γ)·y, variance β(1−γ')/(1−γ).
fn posterior(start: &Tensor, levels: &Levels, process: &mut Process) -> Result<Tensor> {
    let mut y = start.shallow_clone();
    for (gamma, after, left) in levels.walk() {
        let beta = 1.0 - gamma / after;
        let y0 = process.estimate(&y, gamma)?;
        let of_y0 = beta * after.sqrt() / (1.0 - gamma);
        let of_y = (1.0 - after) * (1.0 - beta).sqrt() / (1.0 - gamma);
        let mut next = of_y0 * t(&y0) + of_y * t(&y);
        if left > 0 {
            let variance = (beta * (1.0 - after) / (1.0 - gamma)).max(1e-20);
            next = next + variance.sqrt() * t((process.noise)(left)?);
        }
        y = process.done(next.value()?, &y0, levels, left)?;
    }
    Ok(y)
}
