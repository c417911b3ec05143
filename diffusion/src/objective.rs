//! The training objective: Algorithm 1 of the paper, or the regression baseline.
//!
//! ‖fθ(x, √γ·y0 + √(1−γ)·ε, γ) − target‖ₚᵖ, a mean over the masked pixels of an image, then over
//! images. The known pixels of an image with a hole stay clean in the noisy image, as at sampling.
use crate::config::{DiffusionConfig, Kind, Norm};
use crate::noise::{self, Purpose};
use crate::{DeviceBatch, Pass, Result, Schedule, UNet};
use tch::{Kind as Dtype, Tensor};

/// Parts of the training schedule that losses are told apart by; each is drawn equally often.
pub const NOISE_BINS: usize = 5;

/// The objective of one configuration.
#[derive(Debug, Clone)]
pub struct Objective {
    config: DiffusionConfig,
    training: Schedule,
}

/// What a batch cost.
#[derive(Debug)]
pub struct Losses {
    /// Mean over the images, a scalar to call `backward` on.
    pub loss: Tensor,
    /// Loss of each image (after weighting), detached, f32 `[B]`.
    pub per_image: Tensor,
    /// The γ drawn for each image, f32 `[B]` on the device; all 0 for regression.
    pub gamma: Tensor,
}

impl Objective {
    /// The objective of a configuration; validates it.
    pub fn new(config: &DiffusionConfig) -> Result<Objective> {
        config.validate()?;
        Ok(Objective { config: config.clone(), training: Schedule::new(&config.training)? })
    }

    /// The loss of a batch. `keys[i]` ([`noise::sample_keys`]) determines γ, ε, the fill of the hole
    /// and, with `train`, the dropout of image i.
    pub fn loss(
        &self,
        unet: &UNet,
        batch: &DeviceBatch,
        keys: &[u64],
        train: bool,
    ) -> Result<Losses> {
        batch.check_keys(keys)?;
        let pass = if train { Pass::Train(keys) } else { Pass::Evaluate };
        match self.config.kind {
            Kind::Diffusion => self.diffusion(unet, batch, keys, pass),
            Kind::Regression => self.regression(unet, batch, keys, pass),
        }
    }

    /// Which fifth of the training schedule's time a noise level falls into: 0 is the least noise.
    pub fn noise_bin(&self, gamma: f64) -> usize {
        let share = self.training.time_of(gamma) / self.training.steps() as f64;
        ((share * NOISE_BINS as f64) as usize).min(NOISE_BINS - 1)
    }

    fn diffusion(
        &self,
        unet: &UNet,
        batch: &DeviceBatch,
        keys: &[u64],
        pass: Pass,
    ) -> Result<Losses> {
        // A noise level for each image.
        let gammas: Vec<f64> = keys.iter().map(|&key| self.level(key)).collect();
        let gamma = column(&gammas, batch)?;
        let signal = column(&gammas.iter().map(|g| g.sqrt()).collect::<Vec<_>>(), batch)?;
        let sigma = column(&gammas.iter().map(|g| (1.0 - g).sqrt()).collect::<Vec<_>>(), batch)?;

        // The noisy image; known pixels stay.
        let y0 = &batch.target;
        let epsilon = noise::normal(keys, Purpose::Epsilon, &y0.size()[1..], batch.device())?;
        let noisy = y0.f_mul(&signal)?.f_addcmul(&epsilon, &sigma)?;
        let y = batch.keep_known(y0, &noisy)?;
        let condition = batch.condition(keys)?;

        // What the network says of it, and what it should have said.
        let level = if unet.wants_timestep() {
            let times: Vec<f64> = gammas.iter().map(|&g| timestep(&self.training, g)).collect();
            column(&times, batch)?
        } else {
            gamma.shallow_clone()
        };
        let output = unet.denoise(&y, &condition, &level.f_flatten(0, -1)?, pass)?;
        let output = batch.answer(output, self.config.residual)?;
        let target = self.config.prediction.target(y0, &epsilon, &signal, &sigma)?;
        let weights: Vec<f64> = gammas.iter().map(|&gamma| self.weight(gamma)).collect();
        self.losses(&output, &target, batch, Some(&weights), gamma.f_flatten(0, -1)?)
    }

    fn regression(
        &self,
        unet: &UNet,
        batch: &DeviceBatch,
        keys: &[u64],
        pass: Pass,
    ) -> Result<Losses> {
        let condition = batch.condition(keys)?;
        let gamma = Tensor::f_zeros([batch.len() as i64], (Dtype::Float, batch.device()))?;
        let output = unet.denoise(&condition.f_zeros_like()?, &condition, &gamma, pass)?;
        let output = batch.answer(output, self.config.residual)?;
        self.losses(&output, &batch.target, batch, None, gamma)
    }

    /// Mean over the masked pixels of each image, then over images.
    fn losses(
        &self,
        output: &Tensor,
        target: &Tensor,
        batch: &DeviceBatch,
        weights: Option<&[f64]>,
        gamma: Tensor,
    ) -> Result<Losses> {
        let difference = output.f_sub(target)?;
        let error = match self.config.loss {
            Norm::L2 => difference.f_square()?,
            Norm::L1 => difference.f_abs()?,
        };
        let axes: &[i64] = &[1, 2, 3];
        let count = batch.mask.f_sum_dim_intlist(axes, false, Dtype::Float)?;
        let count = count.f_clamp_min(1.0)?.f_mul_scalar(3.0)?;
        let sum = error.f_mul(&batch.mask)?.f_sum_dim_intlist(axes, false, Dtype::Float)?;
        let mut per_image = sum.f_div(&count)?;
        if let Some(weights) = weights {
            per_image = per_image.f_mul(&column(weights, batch)?.f_flatten(0, -1)?)?;
        }
        Ok(Losses { loss: per_image.f_mean(Dtype::Float)?, per_image: per_image.detach(), gamma })
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
            Norm::L2 => factor,
            Norm::L1 => factor.sqrt(),
        }
    }
}

/// The time step, counted from 0, that stands for γ in weights trained on discrete steps.
pub(crate) fn timestep(schedule: &Schedule, gamma: f64) -> f64 {
    (schedule.time_of(gamma) - 1.0).max(0.0)
}

/// One number an image, f32 `[B,1,1,1]` on the batch's device.
fn column(values: &[f64], batch: &DeviceBatch) -> Result<Tensor> {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let shape = [values.len() as i64, 1, 1, 1];
    Ok(Tensor::f_from_slice(&values)?.f_view(shape)?.f_to_device(batch.device())?)
}
