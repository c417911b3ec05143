//! From a degraded image to a restored one: the network, a reverse process and the noise of each
//! image put together. This is what the sampler calls.
use crate::config::{DiffusionConfig, Formulation};
use crate::noise::{self, Purpose};
use crate::objective::timestep;
use crate::reverse::{Known, Levels, Method, Process, Spacing, Step};
use crate::{DeviceBatch, Error, Pass, Result, Schedule, UNet, Windows};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use tch::{Device, Kind, Tensor};

/// How to sample. The default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingConfig {
    /// The reverse process.
    pub method: Method,
    /// Number of steps. Without: [`Method::few_steps`], or every step of the sampling schedule.
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
        if self.eta > 0.0 && !self.method.takes_eta() {
            let takers = Method::ALL.into_iter().filter(|method| method.takes_eta());
            let takers = takers.map(|method| method.name()).collect::<Vec<_>>().join(", ");
            let allowed = format!("only {takers} takes it, not {}", self.method);
            return Err(Error::config("sampling.eta", self.eta, allowed));
        }
        Ok(())
    }

    /// Number of steps that a run of this diffusion configuration takes (1 for regression).
    pub fn steps(&self, diffusion: &DiffusionConfig) -> usize {
        let own = self.method.few_steps().unwrap_or(diffusion.sampling.steps);
        match diffusion.kind {
            Formulation::Regression => 1,
            Formulation::Diffusion => self.steps.unwrap_or(own) as usize,
        }
    }

    /// The noise levels of those steps.
    pub fn levels(&self, diffusion: &DiffusionConfig) -> Result<Levels> {
        let schedule = match self.method.few_steps() {
            None => &diffusion.sampling,
            Some(_) => &diffusion.training,
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
///
/// # Errors
/// [`Error::LostImage`] when the network's answer for an image is NaN or infinite: nothing is made of it.
/// On a GPU, which is not waited for, that shows after the last step.
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
        let lost = Lost::new(batch.len(), sampling.steps(diffusion), device)?;
        // The answer for y at a level, γ or the time step of all images.
        let answer = |y: &Tensor, level: f64| -> Result<Tensor> {
            let level = Tensor::f_full([1], level, (Kind::Float, device))?;
            let pass = |y: &Tensor, condition: &Tensor| {
                denoiser.unet.denoise(y, condition, &level, Pass::Evaluate)
            };
            let output = match &cut {
                Some(cut) => cut.denoise(y, &condition, &pass)?,
                None => pass(y, &condition)?,
            };
            lost.see(&output)?;
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

        let restored = if diffusion.kind == Formulation::Regression {
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
                eta: sampling.eta,
                known,
                denoise: &denoise,
                noise: &mut noise,
                on_step: &mut |step: &Step| {
                    lost.done();
                    on_step(step)
                },
            };
            sampling.method.run(&start, &levels, &mut process)?
        };
        lost.see(&restored)?;
        lost.check()?;
        Ok(restored.f_clamp(-1.0, 1.0)?)
    })
}

/// Which images of a batch were lost to values that are NaN or infinite, and in which step first. Clipping
/// would turn an infinity into a colour, so that what the network says is looked at, not the images.
struct Lost {
    /// The first step, counted from 1, in which an image was lost, 0 for none; i64 `[B]`.
    first: RefCell<Tensor>,
    /// Steps that are done.
    done: Cell<usize>,
    total: usize,
}

impl Lost {
    fn new(images: usize, total: usize, device: Device) -> Result<Lost> {
        let first = Tensor::f_zeros([images as i64], (Kind::Int64, device))?;
        Ok(Lost { first: RefCell::new(first), done: Cell::new(0), total })
    }

    /// Looks at what the network says in the step that is under way, `[B,3,H,W]`. Only a CPU is asked at
    /// once, as it has nothing to wait for.
    fn see(&self, output: &Tensor) -> Result<()> {
        // Of finite f32 the sum in f64 is finite.
        let sums = output.f_sum_dim_intlist([1, 2, 3].as_slice(), false, Kind::Double)?;
        let step = (self.done.get() + 1).min(self.total) as i64;
        let mut first = self.first.borrow_mut();
        let new = sums.f_isfinite()?.f_logical_not()?.f_logical_and(&first.f_eq(0)?)?;
        *first = first.f_add(&new.f_to_kind(Kind::Int64)?.f_mul_scalar(step)?)?;
        drop(first);
        if output.device() == Device::Cpu { self.check() } else { Ok(()) }
    }

    fn done(&self) {
        self.done.set(self.done.get() + 1);
    }

    /// The error that images were lost: of those that were first the first.
    fn check(&self) -> Result<()> {
        let first = Vec::<i64>::try_from(self.first.borrow().f_to_device(Device::Cpu)?)?;
        let lost = first.iter().enumerate().filter(|(_, step)| **step > 0);
        match lost.min_by_key(|(_, step)| **step) {
            Some((image, &step)) => {
                Err(Error::LostImage { step: step as usize, total: self.total, image })
            }
            None => Ok(()),
        }
    }
}
