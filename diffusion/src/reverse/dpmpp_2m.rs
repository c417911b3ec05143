//! DPM-Solver++(2M) (Lu et al. 2022), and its multistep loop, which the stochastic one shares.
use super::levels::half_log_snr;
use super::{Levels, Process, Solver};
use crate::Result;
use tch::Tensor;
use torch_ext::t;

pub(super) const SOLVER: Solver =
    Solver { name: "dpmpp-2m", few_steps: Some(10), takes_eta: false, run: dpmpp_2m };

/// With λ = ½·log(γ/(1−γ)), h = λ'−λ and D the estimate carried on from this step and the one before,
/// y' = σ'/σ·y + √γ'·(1−e^{−h})·D, where σ = √(1−γ). The last step gives ŷ0 itself.
fn dpmpp_2m(start: &Tensor, levels: &Levels, process: &mut Process) -> Result<Tensor> {
    multistep(start, levels, false, process)
}

/// The loop of both DPM-Solver++(2M): `noisy` for the stochastic one.
pub(super) fn multistep(
    start: &Tensor,
    levels: &Levels,
    noisy: bool,
    process: &mut Process,
) -> Result<Tensor> {
    let mut y = start.shallow_clone();
    let mut before: Option<Past> = None;
    for (gamma, after, left) in levels.walk() {
        let y0 = process.estimate(&y, gamma)?;
        let next = if left == 0 {
            y0.shallow_clone()
        } else {
            let h = half_log_snr(after) - half_log_snr(gamma);
            let d = carried_on(&y0, h, before.as_ref())?;
            before = Some(Past { y0: y0.shallow_clone(), h });
            let ratio = ((1.0 - after) / (1.0 - gamma)).sqrt();
            let (kept, taken) = if noisy { (-h, -2.0 * h) } else { (0.0, -h) };
            let (of_y, of_d) = (ratio * kept.exp(), -after.sqrt() * taken.exp_m1());
            let mut next = of_y * t(&y) + of_d * t(&d);
            if noisy {
                let of_z = (-(1.0 - after) * taken.exp_m1()).sqrt();
                next = next + of_z * t((process.noise)(left)?);
            }
            next.value()?
        };
        y = process.done(next, &y0, levels, left)?;
    }
    Ok(y)
}

/// What a multistep process remembers of the step before.
struct Past {
    y0: Tensor,
    /// Its length in λ.
    h: f64,
}

/// ŷ0 carried on linearly in λ to the middle of a step of length h: ŷ0 + h/(2h₋)·(ŷ0 − ŷ0₋).
fn carried_on(y0: &Tensor, h: f64, before: Option<&Past>) -> Result<Tensor> {
    match before {
        Some(past) => {
            let weight = h / (2.0 * past.h);
            Ok(((1.0 + weight) * t(y0) - weight * t(&past.y0)).value()?)
        }
        None => Ok(y0.shallow_clone()),
    }
}
