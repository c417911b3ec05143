//! Noise schedules: γ_t = Π_{s≤t} (1 − β_s) for a linear β, and its continuation between steps.
//!
//! γ_0 = 1 is the clean image, γ strictly falls with t, and nothing here is random.
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A linear schedule: β runs evenly from `start` to `end` in `steps` steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Number of steps T, 1 to 100,000.
    pub steps: u32,
    /// β_1, in (0, 1).
    pub start: f64,
    /// β_T, in (0, 1), not below `start`.
    pub end: f64,
}

impl ScheduleConfig {
    /// The paper's schedule for training: 2000 steps, (1e-6, 0.01).
    pub const TRAINING: ScheduleConfig = ScheduleConfig { steps: 2000, start: 1e-6, end: 0.01 };
    /// The paper's schedule for inference: 1000 steps, (1e-4, 0.09).
    pub const SAMPLING: ScheduleConfig = ScheduleConfig { steps: 1000, start: 1e-4, end: 0.09 };
    /// The linear schedule of ADM and DDPM: 1000 steps, (1e-4, 0.02).
    pub const ADM: ScheduleConfig = ScheduleConfig { steps: 1000, start: 1e-4, end: 0.02 };

    /// Reads `STEPS,FIRST,LAST`: `1000,1e-4,0.02`.
    fn parse(text: &str) -> Option<ScheduleConfig> {
        let mut parts = text.split(',').map(str::trim);
        let steps = parts.next()?.parse().ok()?;
        let (start, end) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(ScheduleConfig { steps, start, end })
    }

    pub(crate) fn validate(&self, keys: [&'static str; 3]) -> Result<()> {
        if !(1..=100_000).contains(&self.steps) {
            return Err(Error::config(keys[0], self.steps, "1 to 100000 steps"));
        }
        if !(self.start > 0.0 && self.start < 1.0) {
            return Err(Error::config(keys[1], self.start, "β between 0 and 1"));
        }
        if !(self.end >= self.start && self.end < 1.0) {
            let allowed = format!("β that rises: {} up to, not including, 1", self.start);
            return Err(Error::config(keys[2], self.end, allowed));
        }
        Ok(())
    }
}

impl std::str::FromStr for ScheduleConfig {
    type Err = Error;

    fn from_str(text: &str) -> Result<ScheduleConfig> {
        let schedule = ScheduleConfig::parse(text).ok_or_else(|| {
            let allowed = "STEPS,FIRST,LAST: the number of steps, the first and the last β";
            Error::config("schedule", text, allowed)
        })?;
        Schedule::new(&schedule).map(|_| schedule)
    }
}

/// The γ of a schedule, from γ_0 = 1 to γ_T.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    gammas: Vec<f64>,
    betas: Vec<f64>,
}

impl Schedule {
    /// The schedule of a configuration.
    pub fn new(config: &ScheduleConfig) -> Result<Schedule> {
        config.validate(["schedule.steps", "schedule.start", "schedule.end"])?;
        let last = f64::from(config.steps.saturating_sub(1).max(1));
        let betas: Vec<f64> = (0..config.steps)
            .map(|i| config.start + (config.end - config.start) * f64::from(i) / last)
            .collect();
        let gammas = std::iter::once(1.0)
            .chain(betas.iter().scan(1.0, |gamma, beta| {
                *gamma *= 1.0 - beta;
                Some(*gamma)
            }))
            .collect::<Vec<f64>>();
        if gammas.last().is_some_and(|&gamma| gamma < f64::MIN_POSITIVE) {
            let allowed =
                "fewer steps or smaller β: the noise grows until no signal is representable";
            return Err(Error::config("schedule.end", config.end, allowed));
        }
        Ok(Schedule { gammas, betas })
    }

    /// T.
    pub fn steps(&self) -> usize {
        self.betas.len()
    }

    /// γ_t for t in 0..=T; beyond T it stays γ_T.
    pub fn gamma(&self, t: usize) -> f64 {
        self.gammas[t.min(self.steps())]
    }

    /// β_t = 1 − α_t for t in 1..=T (t is brought into that range).
    pub fn beta(&self, t: usize) -> f64 {
        self.betas[t.clamp(1, self.steps()) - 1]
    }

    /// α_t for t in 1..=T.
    pub fn alpha(&self, t: usize) -> f64 {
        1.0 - self.beta(t)
    }

    /// γ at any time in `[0, T]`: log γ runs straight between the steps.
    pub fn gamma_at(&self, time: f64) -> f64 {
        let time = time.clamp(0.0, self.steps() as f64);
        let below = time.floor() as usize;
        let (a, b) = (self.gamma(below), self.gamma(below + 1));
        let part = time - below as f64;
        if part == 0.0 { a } else { (a.ln() + part * (b.ln() - a.ln())).exp() }
    }

    /// The time in `[0, T]` at which γ has this value: the inverse of [`Schedule::gamma_at`].
    pub fn time_of(&self, gamma: f64) -> f64 {
        let above = self.gammas.partition_point(|&g| g > gamma);
        if above == 0 {
            return 0.0;
        }
        if above > self.steps() {
            return self.steps() as f64;
        }
        let (a, b) = (self.gammas[above - 1].ln(), self.gammas[above].ln());
        (above - 1) as f64 + (gamma.ln() - a) / (b - a)
    }

    /// The γ of training for two uniform numbers in [0, 1): t ~ U{1..T}, γ ~ U(γ_{t−1}, γ_t), as in
    /// SR3 and WaveGrad.
    pub fn draw(&self, step: f64, within: f64) -> f64 {
        let t = ((step * self.steps() as f64) as usize).min(self.steps() - 1) + 1;
        let (a, b) = (self.gamma(t - 1), self.gamma(t));
        a + (b - a) * within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_schedules() {
        let training = Schedule::new(&ScheduleConfig::TRAINING).unwrap();
        assert_eq!(training.steps(), 2000);
        assert!(
            (training.beta(1) - 1e-6).abs() < 1e-18 && (training.beta(2000) - 0.01).abs() < 1e-15
        );
        assert!((training.gamma(2000).ln() + 10.04).abs() < 0.05, "{}", training.gamma(2000));
        let sampling = Schedule::new(&ScheduleConfig::SAMPLING).unwrap();
        assert!(sampling.gamma(1000) < 1e-19 && sampling.gamma(1000) > 0.0);
    }

    #[test]
    fn time_and_gamma_are_inverse() {
        let schedule = Schedule::new(&ScheduleConfig::TRAINING).unwrap();
        for time in [0.0, 0.25, 1.0, 17.5, 1000.0, 1999.75, 2000.0] {
            let back = schedule.time_of(schedule.gamma_at(time));
            assert!((back - time).abs() < 1e-6, "{time} came back as {back}");
        }
        assert_eq!(schedule.gamma_at(500.0), schedule.gamma(500));
    }

    #[test]
    fn draws_lie_between_neighbours() {
        let schedule = Schedule::new(&ScheduleConfig { steps: 4, start: 0.1, end: 0.4 }).unwrap();
        assert_eq!(schedule.draw(0.0, 0.0), 1.0);
        let gamma = schedule.draw(0.999, 0.5);
        assert!(gamma < schedule.gamma(3) && gamma > schedule.gamma(4));
    }

    #[test]
    fn schedules_are_read_as_they_are_typed() {
        assert_eq!("1000,1e-4,0.02".parse::<ScheduleConfig>().unwrap(), ScheduleConfig::ADM);
        for bad in
            ["", "1000", "1000,1e-4", "1000,1e-4,0.02,1", "0,1e-4,0.02", "9,0.2,0.1", "a,b,c"]
        {
            assert!(bad.parse::<ScheduleConfig>().is_err(), "{bad}");
        }
    }

    #[test]
    fn impossible_schedules_are_refused() {
        for (steps, start, end) in [
            (0, 0.1, 0.2),
            (10, 0.0, 0.2),
            (10, 0.2, 0.1),
            (10, 0.1, 1.0),
            (10, f64::NAN, 0.5),
            (100_000, 0.5, 0.9),
        ] {
            assert!(Schedule::new(&ScheduleConfig { steps, start, end }).is_err());
        }
    }
}
