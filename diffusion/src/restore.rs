//! From a degraded image to a restored one: the network, a reverse process and the noise of each
//! image put together. This is what the sampler calls.
use crate::config::{DiffusionConfig, Kind};
use crate::noise::{self, Purpose};
use crate::objective::timestep;
use crate::reverse::{self, Known, Process, Step};
use crate::{DeviceBatch, Error, Pass, Prediction, Result, Schedule, UNet};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use tch::{Kind as Dtype, Tensor};

/// The reverse process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Algorithm 2 of the paper, over the sampling schedule.
    #[default]
    Ancestral,
    /// Posterior mean and variance, over the sampling schedule.
    Posterior,
    /// Few steps, evenly over the *training* schedule, whose noise levels the network has seen.
    Ddim,
}

/// How to sample. The default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingConfig {
    /// The reverse process.
    pub method: Method,
    /// Number of steps. Without: those of the sampling schedule, 50 for `ddim`. With `ancestral`
    /// and `posterior` the schedule is drawn anew with that many steps from the same β.
    pub steps: Option<u32>,
    /// Noise of `ddim`, 0 to 1: 0 none, 1 as much as the posterior's.
    pub eta: f64,
    /// Clip ŷ0 to `[-1,1]` (`posterior`, `ddim`).
    pub clip: bool,
}

impl Default for SamplingConfig {
    fn default() -> SamplingConfig {
        SamplingConfig { method: Method::Ancestral, steps: None, eta: 0.0, clip: true }
    }
}

impl SamplingConfig {
    /// Refuses values that cannot work, naming the key and what is allowed.
    pub fn validate(&self) -> Result<()> {
        if let Some(steps) = self.steps
            && !(1..=100_000).contains(&steps)
        {
            return Err(Error::config("sampling.steps", steps, "allowed are 1 to 100000"));
        }
        if !(0.0..=1.0).contains(&self.eta) {
            return Err(Error::config("sampling.eta", self.eta, "allowed are 0 to 1"));
        }
        Ok(())
    }

    /// Number of steps that a run of this diffusion configuration takes (1 for regression).
    pub fn steps(&self, diffusion: &DiffusionConfig) -> usize {
        match (diffusion.kind, self.method) {
            (Kind::Regression, _) => 1,
            (_, Method::Ddim) => self.steps.unwrap_or(50) as usize,
            _ => self.steps.unwrap_or(diffusion.sampling.steps) as usize,
        }
    }
}

/// Restores the images of a batch: f32 `[B,3,H,W]`, clamped to `[-1,1]`, known pixels of images with a
/// hole those of `batch.source`. The target is never looked at.
///
/// `keys[i]` ([`noise::image_key`]) determines all noise of image i: its start, its steps, the fill
/// of its hole. So the result does not depend on what else is in the batch (but for the rounding
/// of convolutions, which libtorch may order by batch size). Regression calls the network once.
pub fn restore(
    unet: &UNet,
    diffusion: &DiffusionConfig,
    sampling: &SamplingConfig,
    batch: &DeviceBatch,
    keys: &[u64],
    on_step: &mut dyn FnMut(&Step) -> ControlFlow<()>,
) -> Result<Tensor> {
    diffusion.validate()?;
    sampling.validate()?;
    tch::no_grad(|| {
        let condition = batch.condition(keys)?;
        let generated = batch.generated()?;
        let known = batch.has_hole().then_some(Known { mask: &generated, pixels: &batch.source });
        let training = Schedule::new(&diffusion.training)?;
        let faintest = training.gamma(training.steps());
        let device = batch.device();
        let denoise = |y: &Tensor, gamma: f64| -> Result<Tensor> {
            // The network has never seen noise levels beyond those of its training.
            let gamma = gamma.max(faintest);
            let level = if unet.wants_timestep() { timestep(&training, gamma) } else { gamma };
            let level = Tensor::f_full([batch.len() as i64], level, (Dtype::Float, device))?;
            let output = unet.denoise(y, &condition, &level, Pass::Evaluate)?;
            batch.answer(output, diffusion.residual)
        };
        let shape = &condition.size()[1..];
        let mut noise =
            |step: usize| noise::normal(keys, Purpose::Step(step as u32), shape, device);

        let restored = if diffusion.kind == Kind::Regression {
            let gamma = Tensor::f_zeros([batch.len() as i64], (Dtype::Float, device))?;
            let output =
                unet.denoise(&condition.f_zeros_like()?, &condition, &gamma, Pass::Evaluate)?;
            let image = batch.answer(output, diffusion.residual)?;
            let step = Step { left: 0, total: 1, gamma: 1.0, y: &image, y0: &image };
            if on_step(&step).is_break() {
                return Err(Error::Stopped);
            }
            batch.keep_known(&batch.source, &image)?
        } else {
            let start = noise::normal(keys, Purpose::Start, shape, device)?;
            let start = batch.keep_known(&batch.source, &start)?;
            let steps = sampling.steps(diffusion);
            let prediction: Prediction = diffusion.prediction;
            let mut process = Process {
                prediction,
                clip: sampling.clip,
                known,
                denoise: &denoise,
                noise: &mut noise,
                on_step,
            };
            let mut schedule = diffusion.sampling;
            schedule.steps = steps as u32;
            match sampling.method {
                Method::Ancestral => {
                    reverse::ancestral(&start, &Schedule::new(&schedule)?, &mut process)?
                }
                Method::Posterior => {
                    reverse::posterior(&start, &Schedule::new(&schedule)?, &mut process)?
                }
                Method::Ddim => {
                    reverse::ddim(&start, &training, steps, sampling.eta, &mut process)?
                }
            }
        };
        Ok(restored.f_clamp(-1.0, 1.0)?)
    })
}
