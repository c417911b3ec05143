//! SDE-DPM-Solver++(2M) (Lu et al. 2022), with the second order by the midpoint as in the reference code.
use super::dpmpp_2m::multistep;
use super::{Levels, Process, Solver};
use crate::Result;
use tch::Tensor;

pub(super) const SOLVER: Solver =
    Solver { name: "dpmpp-2m-sde", few_steps: Some(50), takes_eta: false, run: dpmpp_2m_sde };

/// As DPM-Solver++(2M), with y' = σ'/σ·e^{−h}·y + √γ'·(1−e^{−2h})·D + σ'·√(1−e^{−2h})·z. The last step
/// gives ŷ0 itself.
fn dpmpp_2m_sde(start: &Tensor, levels: &Levels, process: &mut Process) -> Result<Tensor> {
    multistep(start, levels, true, process)
}
