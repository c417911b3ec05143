//! The noise levels that a reverse process visits.

use crate::Schedule;
use serde::{Deserialize, Serialize};

/// How the noise levels of a process lie between the noisiest of the schedule and the clean image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Spacing {
    /// Times run evenly from T to 0; between its steps the schedule's log γ runs straight.
    #[default]
    Linear,
    /// λ = ½·log(γ/(1−γ)) runs evenly from γ_T to γ_1; the last step goes from there to the image.
    LogSnr,
}

/// γ before and after every step of a process: it rises strictly to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Levels {
    /// By steps left, so that the first is 1.
    gammas: Vec<f64>,
}

impl Levels {
    /// Every step of a schedule.
    pub fn every(schedule: &Schedule) -> Levels {
        Levels { gammas: (0..=schedule.steps()).map(|t| schedule.gamma(t)).collect() }
    }

    /// So many steps (at least one) over a schedule of any number of steps. As many as it has, evenly
    /// in time, are its own.
    pub fn spaced(schedule: &Schedule, steps: usize, spacing: Spacing) -> Levels {
        let steps = steps.max(1);
        let part = |left: usize, of: usize| left as f64 / of as f64;
        let gamma = |left: usize| match spacing {
            _ if left == 0 => 1.0,
            Spacing::Linear => schedule.gamma_at(schedule.steps() as f64 * part(left, steps)),
            _ if left == steps => schedule.gamma(schedule.steps()),
            Spacing::LogSnr => {
                let clean = half_log_snr(schedule.gamma(1));
                let noisy = half_log_snr(schedule.gamma(schedule.steps()));
                let lambda = clean + (noisy - clean) * part(left - 1, steps - 1);
                1.0 / (1.0 + (-2.0 * lambda).exp())
            }
        };
        Levels { gammas: (0..=steps).map(gamma).collect() }
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.gammas.len() - 1
    }

    /// γ when so many steps are left; that of the start for more than there are.
    pub fn after(&self, left: usize) -> f64 {
        self.gammas[left.min(self.steps())]
    }

    /// (γ before, γ after, steps left) of every step, the noisiest first.
    pub(super) fn walk(&self) -> impl Iterator<Item = (f64, f64, usize)> {
        (0..self.steps()).rev().map(|left| (self.after(left + 1), self.after(left), left))
    }
}

/// λ = ½·log(γ/(1−γ)): ∞ at γ = 1.
pub(super) fn half_log_snr(gamma: f64) -> f64 {
    0.5 * (gamma.ln() - (1.0 - gamma).ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ScheduleConfig;
    use proptest::prelude::*;

    #[test]
    fn a_schedules_own_steps_are_a_spacing_of_it() {
        let schedule = Schedule::new(&ScheduleConfig::SAMPLING).unwrap();
        assert_eq!(Levels::every(&schedule), Levels::spaced(&schedule, 1000, Spacing::Linear));
    }

    proptest! {
        #[test]
        fn levels_rise_from_the_noisiest_to_the_image(steps in 1_usize..3000, log_snr: bool, adm: bool) {
            let config = if adm { ScheduleConfig::ADM } else { ScheduleConfig::TRAINING };
            let schedule = Schedule::new(&config).unwrap();
            let spacing = if log_snr { Spacing::LogSnr } else { Spacing::Linear };
            let levels = Levels::spaced(&schedule, steps, spacing);
            prop_assert_eq!(levels.steps(), steps);
            prop_assert_eq!(levels.after(steps), schedule.gamma(schedule.steps()));
            prop_assert_eq!(levels.after(0), 1.0);
            for (before, after, _) in levels.walk() {
                prop_assert!(before < after && before > 0.0, "{} to {}", before, after);
            }
        }
    }

    #[test]
    fn log_snr_runs_evenly_to_the_first_step() {
        let schedule = Schedule::new(&ScheduleConfig::TRAINING).unwrap();
        let levels = Levels::spaced(&schedule, 9, Spacing::LogSnr);
        assert!((levels.after(1) - schedule.gamma(1)).abs() < 1e-15);
        let lambdas: Vec<f64> = (1..=9).map(|left| half_log_snr(levels.after(left))).collect();
        let steps: Vec<f64> = lambdas.windows(2).map(|pair| pair[0] - pair[1]).collect();
        assert!(steps.iter().all(|step| (step - steps[0]).abs() < 1e-6), "{steps:?}");
    }
}
