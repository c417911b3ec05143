//! From a degraded image to a restored one: the network, a reverse process and the noise of each
//! image put together. This is what the sampler calls.
use crate::config::{DiffusionConfig, Kind};
use crate::noise::{self, Purpose};
use crate::objective::timestep;
use crate::reverse::{self, Known, Levels, Process, Spacing, Step};
use crate::{DeviceBatch, Error, Pass, Result, Schedule, UNet, Windows};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use tch::{Kind as Dtype, Tensor};

/// The reverse process ([`crate::reverse`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Algorithm 2 of the paper, over the sampling schedule.
    #[default]
    Ancestral,
    /// Posterior mean and variance, over the sampling schedule.
    Posterior,
    /// DDIM. Like all that follow over the *training* schedule, whose noise levels the network has
    /// seen.
    Ddim,
    /// DPM-Solver++(2M).
    #[serde(rename = "dpmpp-2m")]
    Dpmpp2m,
    /// SDE-DPM-Solver++(2M).
    #[serde(rename = "dpmpp-2m-sde")]
    Dpmpp2mSde,
    /// Heun's method; two passes of the network in a step.
    Heun,
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 6] = [
        Method::Ancestral,
        Method::Posterior,
        Method::Ddim,
        Method::Dpmpp2m,
        Method::Dpmpp2mSde,
        Method::Heun,
    ];

    /// Its name in configurations and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Method::Ancestral => "ancestral",
            Method::Posterior => "posterior",
            Method::Ddim => "ddim",
            Method::Dpmpp2m => "dpmpp-2m",
            Method::Dpmpp2mSde => "dpmpp-2m-sde",
            Method::Heun => "heun",
        }
    }

    /// Steps where no number is given: the fewest of 5, 10, 20 and 50 whose pictures are as good as
    /// those of the paper's 1000, as measured on a small network (docs/sampling.md). None for those
    /// that take every step of the sampling schedule.
    fn few_steps(self) -> Option<u32> {
        match self {
            Method::Ancestral | Method::Posterior => None,
            Method::Dpmpp2m => Some(10),
            Method::Ddim => Some(20),
            Method::Dpmpp2mSde | Method::Heun => Some(50),
        }
    }

    /// Whether it goes over the sampling schedule, whose every step it takes where no number is given.
    fn takes_every_step(self) -> bool {
        self.few_steps().is_none()
    }
}

/// How to sample. The default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingConfig {
    /// The reverse process.
    pub method: Method,
    /// Number of steps. Without: those of the sampling schedule for `ancestral` and `posterior`, 10 for
    /// `dpmpp-2m`, 20 for `ddim`, 50 for `dpmpp-2m-sde` and `heun`.
    pub steps: Option<u32>,
    /// How the noise levels lie when they are not every step of the schedule.
    pub spacing: Spacing,
    /// Noise of `ddim`, 0 to 1: 0 none, 1 as much as the posterior's.
    pub eta: f64,
    /// Clip ŷ0 to `[-1,1]` (all but `ancestral`).
    pub clip: bool,
}

impl Default for SamplingConfig {
    fn default() -> SamplingConfig {
        SamplingConfig {
            method: Method::Ancestral,
            steps: None,
            spacing: Spacing::Linear,
            eta: 0.0,
            clip: true,
        }
    }
}

impl SamplingConfig {
    /// Refuses values that cannot work, naming the key and what is allowed.
    pub fn validate(&self) -> Result<()> {
        if let Some(steps) = self.steps
            && !(1..=100_000).contains(&steps)
        {
            return Err(Error::config("sampling.steps", steps, "1 to 100000"));
        }
        if !(0.0..=1.0).contains(&self.eta) {
            return Err(Error::config("sampling.eta", self.eta, "0 to 1"));
        }
        if self.eta > 0.0 && self.method != Method::Ddim {
            let allowed = format!("only ddim takes it, not {}", self.method.name());
            return Err(Error::config("sampling.eta", self.eta, allowed));
        }
        Ok(())
    }

    /// Number of steps that a run of this diffusion configuration takes (1 for regression).
    pub fn steps(&self, diffusion: &DiffusionConfig) -> usize {
        let own = self.method.few_steps().unwrap_or(diffusion.sampling.steps);
        match diffusion.kind {
            Kind::Regression => 1,
            Kind::Diffusion => self.steps.unwrap_or(own) as usize,
        }
    }

    /// The noise levels of those steps.
    pub fn levels(&self, diffusion: &DiffusionConfig) -> Result<Levels> {
        let schedule = match self.method.takes_every_step() {
            true => &diffusion.sampling,
            false => &diffusion.training,
        };
        Ok(Levels::spaced(&Schedule::new(schedule)?, self.steps(diffusion), self.spacing))
    }
}

/// A network, and how it looks at images.
#[derive(Debug, Clone, Copy)]
pub struct Denoiser<'a> {
    /// The network.
    pub unet: &'a UNet,
    /// How images larger than the network's are cut; without, they go through it whole.
    pub windows: Option<Windows>,
}

impl<'a> From<&'a UNet> for Denoiser<'a> {
    fn from(unet: &'a UNet) -> Self {
        Self { unet, windows: None }
    }
}

/// Restores the images of a batch: f32 `[B,3,H,W]`, clamped to `[-1,1]`, known pixels of images with a
/// hole those of `batch.source`. The target is never looked at.
///
/// `keys[i]` ([`noise::image_key`]) determines all noise of image i: its start, its steps, the fill
/// of its hole. So the result does not depend on what else is in the batch: on a CPU not a bit of it,
/// where the weights are frozen; on a GPU but for rounding. Regression calls the network once.
pub fn restore(
    denoiser: Denoiser<'_>,
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
        let cut = denoiser.windows.map(|windows| windows.cut(&generated)).transpose()?;
        // The answer for y at a level, γ or the time step of all images.
        let answer = |y: &Tensor, level: f64| -> Result<Tensor> {
            let level = Tensor::f_full([1], level, (Dtype::Float, device))?;
            let pass = |y: &Tensor, condition: &Tensor| {
                denoiser.unet.denoise(y, condition, &level, Pass::Evaluate)
            };
            let output = match &cut {
                Some(cut) => cut.denoise(y, &condition, &pass)?,
                None => pass(y, &condition)?,
            };
            batch.answer(output, diffusion.residual)
        };
        let denoise = |y: &Tensor, gamma: f64| -> Result<Tensor> {
            // The network has never seen noise levels beyond those of its training.
            let gamma = gamma.max(faintest);
            let wants_timestep = denoiser.unet.wants_timestep();
            answer(y, if wants_timestep { timestep(&training, gamma) } else { gamma })
        };
        let shape = &condition.size()[1..];
        let mut noise =
            |step: usize| noise::normal(keys, Purpose::Step(step as u32), shape, device);

        let restored = if diffusion.kind == Kind::Regression {
            let image = answer(&condition.f_zeros_like()?, 0.0)?;
            let step = Step { left: 0, total: 1, gamma: 1.0, y: &image, y0: &image };
            if on_step(&step).is_break() {
                return Err(Error::Stopped);
            }
            batch.keep_known(&batch.source, &image)?
        } else {
            let start = noise::normal(keys, Purpose::Start, shape, device)?;
            let start = batch.keep_known(&batch.source, &start)?;
            let levels = sampling.levels(diffusion)?;
            let mut process = Process {
                prediction: diffusion.prediction,
                clip: sampling.clip,
                known,
                denoise: &denoise,
                noise: &mut noise,
                on_step,
            };
            match sampling.method {
                Method::Ancestral => reverse::ancestral(&start, &levels, &mut process)?,
                Method::Posterior => reverse::posterior(&start, &levels, &mut process)?,
                Method::Ddim => reverse::ddim(&start, &levels, sampling.eta, &mut process)?,
                Method::Dpmpp2m => reverse::dpmpp_2m(&start, &levels, &mut process)?,
                Method::Dpmpp2mSde => reverse::dpmpp_2m_sde(&start, &levels, &mut process)?,
                Method::Heun => reverse::heun(&start, &levels, &mut process)?,
            }
        };
        Ok(restored.f_clamp(-1.0, 1.0)?)
    })
}
