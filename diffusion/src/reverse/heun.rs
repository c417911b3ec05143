//! Heun's method (Karras et al. 2022, Algorithm 1).
use super::{Levels, Process, Solver};
use crate::Result;
use tch::Tensor;
use torch_ext::t;

pub(super) const SOLVER: Solver =
    Solver { name: "heun", few_steps: Some(50), takes_eta: false, run: heun };

/// Heun's method on dx/ds = (x − ŷ0)/s with x = y/√γ and s = √((1−γ)/γ): Euler's step from s to s' gives a
/// trial, and the slope there, averaged in, moves it by (s−s')/(2s')·(ŷ0' − ŷ0). The network is called
/// twice in every step but the last, which is Euler's and gives ŷ0 itself.
fn heun(start: &Tensor, levels: &Levels, process: &mut Process) -> Result<Tensor> {
    let mut y = start.shallow_clone();
    for (gamma, after, left) in levels.walk() {
        let y0 = process.estimate(&y, gamma)?;
        let next = if left == 0 {
            y0.shallow_clone()
        } else {
            let ratio = ((1.0 - after) * gamma / ((1.0 - gamma) * after)).sqrt();
            let (of_y, of_y0) = ((after / gamma).sqrt() * ratio, after.sqrt() * (1.0 - ratio));
            let trial = process.keep((of_y * t(&y) + of_y0 * t(&y0)).value()?)?;
            let slope = t(process.estimate(&trial, after)?) - &y0;
            (t(&trial) + after.sqrt() * (1.0 / ratio - 1.0) / 2.0 * slope).value()?
        };
        y = process.done(next, &y0, levels, left)?;
    }
    Ok(y)
}
