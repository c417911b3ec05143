//! The training objective: Algorithm 1 of the paper, or the regression baseline.
//!
//! ‖fθ(x, √γ·y0 + √(1−γ)·ε, γ) − target‖ₚᵖ, a mean over the masked pixels of an image, then over
//! images. The known pixels of an image with a hole stay clean in the noisy image, as at sampling.
use crate::batch::{check_keys, columns};
use crate::config::{DiffusionConfig, Formulation, LossNorm};
use crate::noise::{self, Purpose};
use crate::{DeviceBatch, Pass, Pixels, Result, Schedule, UNet};
use tch::{Device, Kind, Tensor};
use torch_ext::t;

/// Parts of the training schedule that losses are told apart by; each is drawn equally often.
pub const NOISE_BINS: usize = 5;

/// The objective of one configuration.
#[derive(Debug, Clone)]
pub struct Objective {
    config: DiffusionConfig,
    training: Schedule,
}

/// A batch that is ready for the network: images on the device, and what was drawn for each of them.
#[derive(Debug)]
pub struct Staged {
    /// The images.
    pub images: DeviceBatch,
    drawn: Drawn,
}

/// What is drawn for each image of a batch, a function of its key.
#[derive(Debug)]
struct Drawn {
    keys: Vec<u64>,
    gammas: Vec<f32>,
    /// None for regression.
    levels: Option<Levels>,
}

/// Noise levels on the device, f32 `[B,1,1,1]` each.
#[derive(Debug)]
struct Levels {
    gamma: Tensor,
    /// √γ.
    signal: Tensor,
    /// √(1−γ).
    sigma: Tensor,
    /// The time step, for networks that want it.
    time: Tensor,
    /// The loss's weight.
    weight: Tensor,
}

/// What a batch cost.
#[derive(Debug)]
pub struct Losses {
    /// Mean over the images, a scalar to call `backward` on.
    pub loss: Tensor,
    /// Loss of each image (after weighting), detached, f32 `[B]`.
    pub per_image: Tensor,
    /// What it were if the network's output were zero, f32 `[B]`: what predicting nothing costs.
    pub nothing: Tensor,
    /// The γ drawn for each image, B numbers; all 0 for regression.
    pub gammas: Vec<f32>,
}

impl Objective {
    /// The objective of a configuration; validates it.
    pub fn new(config: &DiffusionConfig) -> Result<Objective> {
        config.validate()?;
        Ok(Objective { config: config.clone(), training: Schedule::new(&config.training)? })
    }

    /// Brings a batch to the device, the images and all that is drawn for them in one copy that nobody
    /// waits for. `keys[i]` ([`noise::sample_keys`]) determines γ, ε, the fill of the hole and the
    /// dropout of image i.
    pub fn stage(&self, pixels: &Pixels, keys: &[u64], device: Device) -> Result<Staged> {
        check_keys(pixels.hole.len(), keys)?;
        let gammas = self.gammas(keys);
        let (images, numbers) = DeviceBatch::upload(pixels, &self.rows(&gammas), device)?;
        Ok(Staged { images, drawn: self.drawn(keys, &gammas, &numbers)? })
    }

    /// The loss of a staged batch, with dropout if `train`.
    pub fn loss_of(&self, unet: &UNet, staged: &Staged, train: bool) -> Result<Losses> {
        self.compute(unet, &staged.images, &staged.drawn, train)
    }

    /// The loss of a batch that is on the device already; otherwise as [`Self::stage`] and
    /// [`Self::loss_of`].
    pub fn loss(
        &self,
        unet: &UNet,
        batch: &DeviceBatch,
        keys: &[u64],
        train: bool,
    ) -> Result<Losses> {
        batch.check_keys(keys)?;
        let gammas = self.gammas(keys);
        let numbers = columns(&self.rows(&gammas), batch.device())?;
        self.compute(unet, batch, &self.drawn(keys, &gammas, &numbers)?, train)
    }

    /// Which fifth of the training schedule's time a noise level falls into: 0 is the least noise.
    pub fn noise_bin(&self, gamma: f64) -> usize {
        let share = self.training.time_of(gamma) / self.training.steps() as f64;
        ((share * NOISE_BINS as f64) as usize).min(NOISE_BINS - 1)
    }

    /// A noise level for each image.
    fn gammas(&self, keys: &[u64]) -> Vec<f64> {
        match self.config.kind {
            Formulation::Diffusion => keys.iter().map(|&key| self.level(key)).collect(),
            Formulation::Regression => vec![0.0; keys.len()],
        }
    }

    /// What the device needs of them, in the order of [`Levels`]; computed in f64.
    fn rows(&self, gammas: &[f64]) -> Vec<Vec<f32>> {
        let row = |number: &dyn Fn(f64) -> f64| -> Vec<f32> {
            gammas.iter().map(|&gamma| number(gamma) as f32).collect()
        };
        match self.config.kind {
            Formulation::Regression => Vec::new(),
            Formulation::Diffusion => vec![
                row(&|gamma| gamma),
                row(&|gamma| gamma.sqrt()),
                row(&|gamma| (1.0 - gamma).sqrt()),
                row(&|gamma| timestep(&self.training, gamma)),
                row(&|gamma| self.weight(gamma)),
            ],
        }
    }

    /// `numbers` is [`Self::rows`] on the device.
    fn drawn(&self, keys: &[u64], gammas: &[f64], numbers: &Tensor) -> Result<Drawn> {
        let row = |number| numbers.f_select(0, number);
        let levels = match self.config.kind {
            Formulation::Regression => None,
            Formulation::Diffusion => Some(Levels {
                gamma: row(0)?,
                signal: row(1)?,
                sigma: row(2)?,
                time: row(3)?,
                weight: row(4)?,
            }),
        };
        let gammas = gammas.iter().map(|&gamma| gamma as f32).collect();
        Ok(Drawn { keys: keys.to_vec(), gammas, levels })
    }

    fn compute(
        &self,
        unet: &UNet,
        batch: &DeviceBatch,
        drawn: &Drawn,
        train: bool,
    ) -> Result<Losses> {
        let pass = if train { Pass::Train(&drawn.keys) } else { Pass::Evaluate };
        let (per_image, nothing) = match &drawn.levels {
            Some(levels) => self.diffusion(unet, batch, &drawn.keys, levels, pass)?,
            None => self.regression(unet, batch, &drawn.keys, pass)?,
        };
        Ok(Losses {
            loss: per_image.f_mean(Kind::Float)?,
            per_image: per_image.detach(),
            nothing,
            gammas: drawn.gammas.clone(),
        })
    }

    /// The loss of each image and that of predicting nothing, `[B]` each.
    fn diffusion(
        &self,
        unet: &UNet,
        batch: &DeviceBatch,
        keys: &[u64],
        levels: &Levels,
        pass: Pass,
    ) -> Result<(Tensor, Tensor)> {
        let Levels { gamma, signal, sigma, time, weight } = levels;

        // The noisy image; known pixels stay.
        let y0 = &batch.target;
        let epsilon = noise::normal(keys, Purpose::Epsilon, &y0.size()[1..], batch.device())?;
        let noisy = (t(y0) * signal).map(|y| y.f_addcmul(&epsilon, sigma)).value()?;
        let y = batch.keep_known(y0, &noisy)?;
        let condition = batch.condition(keys)?;

        // What the network says of it, and what it should have said.
        let level = if unet.wants_timestep() { time } else { gamma };
        let output = unet.denoise(&y, &condition, &level.f_flatten(0, -1)?, pass)?;
        let output = batch.answer(output, self.config.residual)?;
        let target = self.config.prediction.target(y0, &epsilon, signal, sigma)?;
        let weight = weight.f_flatten(0, -1)?;
        let weighted = |losses: Tensor| (t(losses) * &weight).value();
        let nothing = self.nothing(&target, batch)?;
        Ok((weighted(self.losses(&output, &target, batch)?)?, weighted(nothing)?))
    }

    fn regression(
        &self,
        unet: &UNet,
        batch: &DeviceBatch,
        keys: &[u64],
        pass: Pass,
    ) -> Result<(Tensor, Tensor)> {
        let condition = batch.condition(keys)?;
        let gamma = Tensor::f_zeros([batch.len() as i64], (Kind::Float, batch.device()))?;
        let output = unet.denoise(&condition.f_zeros_like()?, &condition, &gamma, pass)?;
        let output = batch.answer(output, self.config.residual)?;
        let nothing = self.nothing(&batch.target, batch)?;
        Ok((self.losses(&output, &batch.target, batch)?, nothing))
    }

    /// The loss of each image if the network's output were zero, `[B]`.
    fn nothing(&self, target: &Tensor, batch: &DeviceBatch) -> Result<Tensor> {
        tch::no_grad(|| {
            let output = batch.answer(target.f_zeros_like()?, self.config.residual)?;
            self.losses(&output, target, batch)
        })
    }

    /// Mean over the masked pixels of each image, `[B]`.
    fn losses(&self, output: &Tensor, target: &Tensor, batch: &DeviceBatch) -> Result<Tensor> {
        let norm = match self.config.loss {
            LossNorm::L2 => Tensor::f_square,
            LossNorm::L1 => Tensor::f_abs,
        };
        let axes: &[i64] = &[1, 2, 3];
        let over_image = |x: &Tensor| x.f_sum_dim_intlist(axes, false, Kind::Float);
        let error = (t(output) - target).map(norm) * &batch.mask;
        let count = 3.0 * t(&batch.mask).map(over_image).map(|pixels| pixels.f_clamp_min(1.0));
        Ok((error.map(over_image) / count).value()?)
    }

    fn level(&self, key: u64) -> f64 {
        let mut rng = random::Rng::new(noise::derive(key, Purpose::Level));
        let (step, within) = (rng.unit(), rng.unit());
        self.training.draw(step, within)
    }

    fn weight(&self, gamma: f64) -> f64 {
        let config = &self.config;
        let factor = config.weighting.factor(config.prediction, gamma, config.min_snr);
        match config.loss {
            LossNorm::L2 => factor,
            LossNorm::L1 => factor.sqrt(),
        }
    }
}

/// The time step, counted from 0, that stands for γ in weights trained on discrete steps.
pub(crate) fn timestep(schedule: &Schedule, gamma: f64) -> f64 {
    (schedule.time_of(gamma) - 1.0).max(0.0)
}
