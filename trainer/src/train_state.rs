//! The train state: the network's weights, Adam's moments, the EMA weights; and the parts of a step
//! that change it, for the training loop and the benchmark.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use diffusion::checkpoint::{Checkpoint, Component, Metadata, Named, Snapshot};
use diffusion::noise::{Stream, sample_keys};
use diffusion::{
    DeviceBatch, Execution, Losses, Objective, Pixels, Precision, Staged, UNet, weights,
};
use pipeline::{Batch, check_generation};
use tch::{Device, Tensor, nn};
use terminal::Usage;
use torch_ext::{Adam, AdamOptions, Numerics};

use crate::ranks::Ranks;
use contracts::Experiment;
use contracts::experiment::TrainConfig;

/// The train state of a run in memory.
pub struct TrainState<'a> {
    experiment: &'a Experiment,
    device: Device,
    ranks: Ranks<'a>,
    variables: nn::VarStore,
    network: UNet,
    objective: Objective,
    adam: Adam,
    /// The EMA weights, a set for each decay of the configuration, in its order.
    ema: Vec<Named>,
    step: u64,
    rewinds: u32,
}

impl<'a> TrainState<'a> {
    /// A run at step 0: fresh weights, or those that the configuration starts from.
    ///
    /// # Errors
    /// When the network does not fit the device, or the weights do not fit the network.
    pub fn new(experiment: &'a Experiment, device: Device, ranks: Ranks<'a>) -> Result<Self> {
        let mut state = Self::empty(experiment, device, ranks)?;
        state.begin()?;
        Ok(state)
    }

    /// A run as a checkpoint has it; the weights that the run began with need not be there any more.
    ///
    /// # Errors
    /// As [`Self::new`] and [`Self::restore`].
    pub fn resumed(
        experiment: &'a Experiment,
        device: Device,
        ranks: Ranks<'a>,
        checkpoint: &Checkpoint,
    ) -> Result<Self> {
        let mut state = Self::empty(experiment, device, ranks)?;
        state.restore(checkpoint)?;
        Ok(state)
    }

    /// A train state whose weights are yet to come.
    fn empty(experiment: &'a Experiment, device: Device, ranks: Ranks<'a>) -> Result<Self> {
        let config = &experiment.train;
        if config.threads > 0 {
            tch::set_num_threads(i32::try_from(config.threads)?);
        }
        let precision = config.precision.on(device);
        let tf32 = precision == Precision::Tf32;
        Numerics { tf32, deterministic: config.deterministic }.set()?;
        let variables = nn::VarStore::new(device);
        let [height, width] = experiment.size();
        let network = UNet::new(&variables.root(), &experiment.model, height.min(width))?;
        let execution = Execution { precision, recompute: config.recompute };
        let (beta1, beta2) = config.betas;
        let options = AdamOptions { beta1, beta2, ..AdamOptions::default() };
        let adam = Adam::new(weights::named(&variables), options)?;
        let ema =
            config.ema.0.iter().map(|_| weights::copy(&variables)).collect::<Result<_, _>>()?;
        Ok(Self {
            experiment,
            device,
            ranks,
            variables,
            network: network.executed(execution),
            objective: Objective::new(&experiment.diffusion)?,
            adam,
            ema,
            step: 0,
            rewinds: 0,
        })
    }

    /// Goes back to step 0.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn begin(&mut self) -> Result<()> {
        weights::initialise(&self.variables, self.experiment.seed)?;
        if let Some(init) = &self.experiment.train.init {
            let start = || -> Result<()> {
                let checkpoint = crate::init::open(init)?;
                crate::init::check(self.experiment, init, checkpoint.metadata())?;
                let read = checkpoint.read_weights(Component::Ema(0))?;
                weights::assign(&self.variables, &read, checkpoint.folder())?;
                Ok(())
            };
            start().with_context(|| format!("train.init: `{init}` cannot be used"))?;
        }
        let zero = |mut tensor: Tensor| tensor.f_zero_().map(|_| ());
        tch::no_grad(|| self.adam.state().into_iter().try_for_each(|(_, tensor)| zero(tensor)))?;
        for ema in &self.ema {
            assign(ema, &weights::named(&self.variables))?;
        }
        self.step = 0;
        Ok(())
    }

    /// Takes the state of a checkpoint, bit by bit.
    ///
    /// # Errors
    /// When it is damaged, of another run, or of a version with other random numbers.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        // Another attempt would meet the same checkpoint.
        checkpoint.check_resumable().map_err(Usage::of)?;
        let metadata = checkpoint.metadata();
        check_generation(&self.experiment.data, metadata.stream)?;
        if metadata.averages != self.experiment.train.ema.0 {
            let message =
                format!("the checkpoint averages at {:?}, the run does not", metadata.averages);
            return Err(Usage::new(message).into());
        }
        let read = checkpoint.read_weights(Component::Model)?;
        weights::assign(&self.variables, &read, checkpoint.folder())?;
        drop(read);
        self.adam.restore(checkpoint.read(Component::Optimizer)?)?;
        for (index, ema) in self.ema.iter().enumerate() {
            assign(ema, &checkpoint.read(Component::Ema(index))?)?;
        }
        self.step = metadata.step;
        self.rewinds = metadata.rewinds;
        Ok(())
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// How often the run went back and took other noise.
    pub fn rewinds(&self) -> u32 {
        self.rewinds
    }

    /// Takes other noise from here on: that of the `rewinds`-th time.
    pub fn set_rewinds(&mut self, rewinds: u32) {
        self.rewinds = rewinds;
    }

    /// The objective.
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    /// The device that the network is on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// How the run trains.
    pub fn config(&self) -> &'a TrainConfig {
        &self.experiment.train
    }

    /// Images of a batch on the device.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn images(&self, batch: &Batch, part: Range<usize>) -> Result<DeviceBatch> {
        let hole = holes(batch, part.clone());
        let Pixels { height, width, target, source, mask, hole } = pixels(batch, part, &hole);
        Ok(DeviceBatch::from_u8(height, width, target, source, mask, hole, self.device)?)
    }

    /// Images of the run's stream on the device, with what is drawn for them; nobody waits for the copy.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn stage(&self, batch: &Batch, part: Range<usize>) -> Result<Staged> {
        let positions = &batch.positions[part.clone()];
        let keys = sample_keys(self.experiment.seed, Stream::Training(self.rewinds), positions);
        let hole = holes(batch, part.clone());
        Ok(self.objective.stage(&pixels(batch, part, &hole), &keys, self.device)?)
    }

    /// The training loss of staged images.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn loss(&self, staged: &Staged) -> Result<Losses> {
        Ok(self.objective.loss_of(&self.network, staged, true)?)
    }

    /// Adds the gradients of a loss, which is `share` of the whole batch's.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn gradients(&self, loss: &Tensor, share: f64) -> Result<()> {
        loss.f_mul_scalar(share)?.f_backward()?;
        Ok(())
    }

    /// One step of Adam with the gradients of all ranks; returns the learning rate and the gradient's
    /// norm, before clipping, on the device.
    ///
    /// # Errors
    /// When there is no gradient, or a rank is lost.
    pub fn update(&mut self) -> Result<(f64, Tensor)> {
        let config = &self.experiment.train;
        if self.ranks.world_size > 1 {
            let gradients: Vec<Tensor> = self.adam.parameters().iter().map(Tensor::grad).collect();
            self.ranks.collective.sum(&gradients)?;
        }
        let norm = if config.clip > 0.0 {
            torch_ext::clip_gradients(self.adam.parameters(), config.clip)?
        } else {
            torch_ext::gradient_norm(self.adam.parameters())?
        };
        let learning_rate = config.rate(self.step + 1);
        self.adam.step(learning_rate)?;
        self.adam.drop_gradients()?;
        self.step += 1;
        Ok((learning_rate, norm))
    }

    /// ema ← decay·ema + (1 − decay)·weights.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn update_ema(&self) -> Result<()> {
        let config = &self.experiment.train;
        for (ema, &limit) in self.ema.iter().zip(&config.ema.0) {
            let tensors: Vec<Tensor> = ema.iter().map(|(_, t)| t.shallow_clone()).collect();
            let decay = config.decay(limit, self.step);
            torch_ext::lerp(&tensors, self.adam.parameters(), 1.0 - decay)?;
        }
        Ok(())
    }

    /// Does something with the network while it has the first EMA weights; nothing is
    /// copied, and the weights are the same bits afterwards.
    ///
    /// # Errors
    /// Those of `body`.
    pub fn with_ema<T>(&self, body: impl FnOnce(&UNet) -> Result<T>) -> Result<T> {
        let mut own = Vec::with_capacity(self.ema[0].len());
        for ((_, variable), (_, ema)) in
            weights::named(&self.variables).iter_mut().zip(&self.ema[0])
        {
            own.push(variable.detach());
            variable.f_set_data(ema)?;
        }
        let result = tch::no_grad(|| body(&self.network));
        for ((_, variable), own) in weights::named(&self.variables).iter_mut().zip(&own) {
            variable.f_set_data(own)?;
        }
        result
    }

    /// A copy on the CPU that training no longer touches.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot {
            model: apart(&weights::named(&self.variables))?,
            averages: self.ema.iter().map(apart).collect::<Result<_>>()?,
            optimizer: Some(apart(&self.adam.state())?),
        })
    }

    /// What a checkpoint of this step says of itself.
    ///
    /// # Errors
    /// When the configuration is no JSON, which does not happen.
    pub fn metadata(&self) -> Result<Metadata> {
        let experiment = self.experiment;
        Ok(Metadata {
            step: self.step,
            seed: experiment.seed,
            rewinds: self.rewinds,
            noise: random::GENERATION,
            stream: pipeline::GENERATION,
            image_size: experiment.size(),
            model: experiment.model.clone(),
            diffusion: experiment.diffusion.clone(),
            averages: experiment.train.ema.0.clone(),
            experiment: serde_json::to_value(experiment)?,
        })
    }
}

/// Per image of a part: whether its task leaves a hole.
fn holes(batch: &Batch, part: Range<usize>) -> Vec<bool> {
    batch.tasks[part].iter().map(|task| task.has_hole()).collect()
}

fn pixels<'b>(batch: &'b Batch, part: Range<usize>, hole: &'b [bool]) -> Pixels<'b> {
    let pixels = batch.height * batch.width;
    let of = |channels: usize| part.start * channels * pixels..part.end * channels * pixels;
    Pixels {
        height: batch.height,
        width: batch.width,
        target: &batch.target[of(3)],
        source: &batch.source[of(3)],
        mask: &batch.mask[of(1)],
        hole,
    }
}

/// Copies values by name; both lists are sorted.
fn assign(to: &Named, from: &Named) -> Result<()> {
    if !to.iter().map(|(name, _)| name).eq(from.iter().map(|(name, _)| name)) {
        bail!("the moving average of the checkpoint has other tensors than the network");
    }
    for ((name, to), (_, from)) in to.iter().zip(from) {
        tch::no_grad(|| to.shallow_clone().f_copy_(&from.detach()))
            .with_context(|| format!("the moving average of `{name}` does not fit"))?;
    }
    Ok(())
}

fn apart(tensors: &Named) -> Result<Named> {
    tensors
        .iter()
        .map(|(name, tensor)| {
            let copy = tensor.detach().f_to_device_(Device::Cpu, tensor.kind(), false, true)?;
            Ok((name.clone(), copy))
        })
        .collect()
}
