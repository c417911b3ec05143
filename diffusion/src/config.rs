//! What is learnt and how: the `[diffusion]` table of an experiment. The default is the paper's.
use crate::{Error, Prediction, Result, ScheduleConfig};
use serde::{Deserialize, Serialize};

/// Diffusion, or the paper's regression baseline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum Formulation {
    /// The network removes noise step by step.
    #[default]
    Diffusion,
    /// The same network maps the source to the image at once. Its noisy input is all zero and its
    /// noise level constant (γ = 0; timestep 0), so that the architecture is identical. The output
    /// is the image; `prediction` and the schedules are not used.
    Regression,
}

/// The norm of the error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossNorm {
    /// Squared error.
    #[default]
    L2,
    /// Absolute error (the ablation of the paper).
    L1,
}

/// How much an error counts at each noise level.
///
/// With the signal-to-noise ratio s = γ/(1−γ), an error d of ŷ0 is an error √s·d of ε̂ and
/// √(s+1)·d of v̂. `weighting` says in which of these terms squared errors are equal:
///
/// | | `epsilon` | `v` | `y0` |
/// |---|---|---|---|
/// | `none` | 1 | 1 | 1 |
/// | `epsilon` | 1 | s/(s+1) = γ | s |
/// | `min_snr` | min(s,k)/s | min(s,k)/(s+1) | min(s,k) |
///
/// The factors are for squared errors; with `loss = "l1"` their roots are taken. With `epsilon` or
/// `min_snr` the losses of the three predictions are the same function of ŷ0 and can be compared;
/// `none` lets each prediction have its natural one. `none` with `prediction = "y0"` is what works
/// at small budgets, `epsilon` with `epsilon` is the paper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// Errors of what is predicted count as they are.
    #[default]
    None,
    /// Errors count as errors of ε. With `y0` the weight is limited to 1000, see
    /// [`Weighting::factor`].
    Epsilon,
    /// As `epsilon`, with the ratio clamped at `min_snr` (Hang et al. 2023).
    MinSnr,
}

/// The objective and the schedules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiffusionConfig {
    /// Diffusion or the regression baseline.
    pub kind: Formulation,
    /// What the network's output means.
    pub prediction: Prediction,
    /// The network's output is added to the source (holes count as grey) to give ŷ0, so that it need
    /// not learn to copy what it is shown. With `prediction = "y0"` or `kind = "regression"` only; not
    /// of the paper, for small budgets.
    pub residual: bool,
    /// LossNorm of the error.
    pub loss: LossNorm,
    /// Weight of the noise levels.
    pub weighting: Weighting,
    /// The clamp k of `weighting = "min_snr"`, above 0.
    pub min_snr: f64,
    /// Schedule that training draws γ from.
    pub training: ScheduleConfig,
    /// Schedule that `ancestral` and `posterior` walk down.
    pub sampling: ScheduleConfig,
}

impl Default for DiffusionConfig {
    fn default() -> DiffusionConfig {
        DiffusionConfig {
            kind: Formulation::Diffusion,
            prediction: Prediction::Epsilon,
            residual: false,
            loss: LossNorm::L2,
            weighting: Weighting::None,
            min_snr: 5.0,
            training: ScheduleConfig::TRAINING,
            sampling: ScheduleConfig::SAMPLING,
        }
    }
}

impl DiffusionConfig {
    /// Refuses values that cannot work, naming the key and what is allowed.
    pub fn validate(&self) -> Result<()> {
        if !(self.min_snr > 0.0 && self.min_snr.is_finite()) {
            let allowed = "finite numbers above 0 (5 is usual)";
            return Err(Error::config("diffusion.min_snr", self.min_snr, allowed));
        }
        if self.residual && self.kind == Formulation::Diffusion && self.prediction != Prediction::Y0
        {
            let allowed = "only with prediction = \"y0\" or kind = \"regression\"";
            return Err(Error::config("diffusion.residual", true, allowed));
        }
        self.training.validate([
            "diffusion.training.steps",
            "diffusion.training.start",
            "diffusion.training.end",
        ])?;
        self.sampling.validate([
            "diffusion.sampling.steps",
            "diffusion.sampling.start",
            "diffusion.sampling.end",
        ])?;
        crate::Schedule::new(&self.training)?;
        crate::Schedule::new(&self.sampling)?;
        Ok(())
    }
}

impl Weighting {
    /// The factor of the squared error of a prediction at γ, as the table says. The ratio is
    /// limited to 1000 (γ = 0.999) where it would multiply, lest a clean image drown all others.
    pub fn factor(self, prediction: Prediction, gamma: f64, min_snr: f64) -> f64 {
        let snr = gamma / (1.0 - gamma).max(1e-12);
        let weight = match self {
            Weighting::None => return 1.0,
            Weighting::Epsilon => snr,
            Weighting::MinSnr => snr.min(min_snr),
        };
        match prediction {
            Prediction::Epsilon => {
                if snr > 0.0 {
                    weight / snr
                } else {
                    1.0
                }
            }
            Prediction::V => weight / (snr + 1.0),
            Prediction::Y0 => weight.min(1000.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_make_predictions_comparable() {
        for gamma in [0.01, 0.3, 0.7, 0.99] {
            let snr = gamma / (1.0 - gamma);
            for weighting in [Weighting::Epsilon, Weighting::MinSnr] {
                // One error of ŷ0, told as an error of each prediction, costs the same.
                let y0 = weighting.factor(Prediction::Y0, gamma, 5.0);
                let epsilon = weighting.factor(Prediction::Epsilon, gamma, 5.0) * snr;
                let v = weighting.factor(Prediction::V, gamma, 5.0) * (snr + 1.0);
                assert!((y0 - epsilon).abs() < 1e-9 * y0 && (y0 - v).abs() < 1e-9 * y0);
            }
        }
    }

    #[test]
    fn impossible_values_name_their_key() {
        let mut config = DiffusionConfig { min_snr: 0.0, ..DiffusionConfig::default() };
        assert!(config.validate().unwrap_err().to_string().contains("diffusion.min_snr"));
        config = DiffusionConfig::default();
        config.sampling.steps = 0;
        let message = config.validate().unwrap_err().to_string();
        assert!(
            message.contains("diffusion.sampling.steps") && message.contains("100000"),
            "{message}"
        );
        assert!(serde_json::from_str::<DiffusionConfig>(r#"{"predicton": "v"}"#).is_err());
        assert!(DiffusionConfig::default().validate().is_ok());
    }
}
