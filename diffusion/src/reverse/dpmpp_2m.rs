//! Solvers of higher order, for few steps.

use super::levels::half_log_snr;
use super::{Levels, Process, combine};
use crate::Result;
use tch::Tensor;

/// DPM-Solver++(2M) (Lu et al. 2022): with λ = ½·log(γ/(1−γ)), h = λ'−λ and D the estimate carried on
/// from this step and the one before, y' = σ'/σ·y + √γ'·(1−e^{−h})·D, where σ = √(1−γ). The last
/// step gives ŷ0 itself.
pub fn dpmpp_2m(start: &Tensor, levels: &Levels, process: &mut Process) -> Result<Tensor> {
    multistep(start, levels, false, process)
}

/// SDE-DPM-Solver++(2M) (Lu et al. 2022, with the second order by the midpoint as in the reference
/// code): as [`dpmpp_2m`], with y' = σ'/σ·e^{−h}·y + √γ'·(1−e^{−2h})·D + σ'·√(1−e^{−2h})·z. The last
/// step gives ŷ0 itself.
pub fn dpmpp_2m_sde(start: &Tensor, levels: &Levels, process: &mut Process) -> Result<Tensor> {
    multistep(start, levels, true, process)
}

fn multistep(
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
            let of_d = -after.sqrt() * taken.exp_m1();
            let next = combine((ratio * kept.exp(), &y), &[(of_d, &d)])?;
            if noisy {
                let of_z = (-(1.0 - after) * taken.exp_m1()).sqrt();
                next.f_add(&(process.noise)(left)?.f_mul_scalar(of_z)?)?
            } else {
                next
            }
        };
        y = process.done(next, &y0, levels, left)?;
    }
    Ok(y)
}

/// Heun's method on dx/ds = (x − ŷ0)/s with x = y/√γ and s = √((1−γ)/γ) (Karras et al. 2022,
/// Algorithm 1): Euler's step from s to s' gives a trial, and the slope there, averaged in, moves it
/// by (s−s')/(2s')·(ŷ0' − ŷ0). The network is called twice in every step but the last, which is
/// Euler's and gives ŷ0 itself.
pub fn heun(start: &Tensor, levels: &Levels, process: &mut Process) -> Result<Tensor> {
    let mut y = start.shallow_clone();
    for (gamma, after, left) in levels.walk() {
        let y0 = process.estimate(&y, gamma)?;
        let next = if left == 0 {
            y0.shallow_clone()
        } else {
            let ratio = ((1.0 - after) * gamma / ((1.0 - gamma) * after)).sqrt();
            let of_y = (after / gamma).sqrt() * ratio;
            let trial = combine((of_y, &y), &[(after.sqrt() * (1.0 - ratio), &y0)])?;
            let trial = process.keep(trial)?;
            let turned = process.estimate(&trial, after)?.f_sub(&y0)?;
            combine((1.0, &trial), &[(after.sqrt() * (1.0 / ratio - 1.0) / 2.0, &turned)])?
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
            combine((1.0 + weight, y0), &[(-weight, &past.y0)])
        }
        None => Ok(y0.shallow_clone()),
    }
}
