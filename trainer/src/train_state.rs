//! The train state: the network's weights, Adam's moments, the EMA weights; and the parts of a step
//! that change it, for the training loop and the benchmark.

mod whole;

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result};
use diffusion::checkpoint::{Checkpoint, Component, Metadata, Named};
use diffusion::noise::{Stream, sample_keys};
use diffusion::{
    DeviceBatch, Execution, Losses, Objective, Pixels, Precision, Staged, UNet, weights,
};
use pipeline::{Batch, check_generation};
use tch::{Device, Tensor, nn};
use terminal::Usage;
use torch_ext::flat::Layout;
use torch_ext::{Adam, AdamOptions, Numerics};

use crate::ranks::tally::Tally;
use crate::ranks::{Ranks, Reduction, overlaps};
use crate::step::{Stage, Word};
use crate::watch::{LossDownload, MicroBatch};
use contracts::Experiment;
use contracts::experiment::TrainConfig;
pub use whole::Held;

/// The train state of a run in memory.
pub struct TrainState<'a> {
    experiment: &'a Experiment,
    device: Device,
    ranks: Ranks<'a>,
    variables: nn::VarStore,
    network: UNet,
    objective: Objective,
    /// The weights, sorted by name.
    parameters: Named,
    /// Where they lie where all of them lie in one.
    layout: Layout,
    /// The parameters whose moments and averages this rank has, for every rank; each has all of them but with
    /// `train.shard_optimizer`.
    shards: Vec<Range<usize>>,
    adam: Adam,
    /// The EMA weights of this rank's parameters, a set for each decay of the configuration, in its order.
    ema: Vec<Named>,
    /// Of several ranks or shares.
    reduction: Option<Reduction<'a>>,
    step: u64,
    rewinds: u32,
}

/// What an update gives.
pub struct Updated {
    /// The learning rate.
    pub learning_rate: f64,
    /// Norm of the gradient, before clipping, on the device.
    pub norm: Tensor,
    /// What rode along with the gradients of several ranks or shares.
    pub tail: Option<Tensor>,
}

impl<'a> TrainState<'a> {
    /// A run at step 0: fresh weights, or those that the configuration starts from. Of several ranks the first
    /// calls this, the others [`Self::followed`].
    ///
    /// # Errors
    /// When the network does not fit the device, or the weights do not fit the network.
    pub fn new(experiment: &'a Experiment, device: Device, ranks: Ranks<'a>) -> Result<Self> {
        let mut state = Self::empty(experiment, device, ranks)?;
        state.begin(0)?;
        Ok(state)
    }

    /// A run as a checkpoint has it; the weights that the run began with need not be there any more. Of
    /// several ranks the others call [`Self::followed`].
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
        state.restore(checkpoint, None)?;
        Ok(state)
    }

    /// The state of the first rank, on another.
    ///
    /// # Errors
    /// As [`Self::new`], and when the first rank fails.
    pub fn followed(experiment: &'a Experiment, device: Device, ranks: Ranks<'a>) -> Result<Self> {
        let mut state = Self::empty(experiment, device, ranks)?;
        state.follow()?;
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

        let parameters = weights::named(&variables);
        let tensors: Vec<Tensor> = parameters.iter().map(|(_, one)| one.shallow_clone()).collect();
        let layout = Layout::of(&tensors);
        let shards = match config.shard_optimizer {
            true => layout.runs(ranks.count()),
            false => vec![0..parameters.len(); ranks.count()],
        };
        let own = shards.get(ranks.rank()).cloned().unwrap_or_default();
        let named = |(name, one): &(String, Tensor)| (name.clone(), one.shallow_clone());
        let adam = Adam::new(parameters[own.clone()].iter().map(named).collect(), options)?;
        let ema = config
            .ema
            .0
            .iter()
            .map(|_| parameters[own.clone()].iter().map(copied).collect())
            .collect::<Result<_>>()?;
        let reduction = match ranks.count() > 1 || config.shares > 0 {
            true => {
                let tail = Tally { images: config.batch_size, ranks: ranks.count() }.len();
                // They were made in the order in which a pass comes by them.
                let mut weights = variables.trainable_variables();
                weights.reverse();
                Some(Reduction::new(weights, tail, config.shares, ranks, overlaps()?)?)
            }
            false => None,
        };
        Ok(Self {
            experiment,
            device,
            ranks,
            variables,
            network: network.executed(execution),
            objective: Objective::new(&experiment.diffusion)?,
            parameters,
            layout,
            shards,
            adam,
            ema,
            reduction,
            step: 0,
            rewinds: 0,
        })
    }

    /// Goes back to step 0, for the noise of the `rewinds`-th time. The first of several ranks does, the others
    /// [`Self::follow`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn begin(&mut self, rewinds: u32) -> Result<()> {
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
        (self.step, self.rewinds) = (0, rewinds);
        self.spread(None)?;
        self.fresh()
    }

    /// Moments and averages of weights that were not trained yet.
    fn fresh(&mut self) -> Result<()> {
        let zero = |mut tensor: Tensor| tensor.f_zero_().map(|_| ());
        tch::no_grad(|| self.adam.state().into_iter().try_for_each(|(_, tensor)| zero(tensor)))?;
        let own = self.own();
        self.ema.iter().try_for_each(|ema| whole::assign(ema, &self.parameters[own.clone()]))
    }

    /// Takes the state of a checkpoint, bit by bit; with `rewinds` for the noise of that time instead of the
    /// checkpoint's. The first of several ranks does, the others [`Self::follow`].
    ///
    /// # Errors
    /// When it is damaged, of another run, or of a version with other random numbers.
    pub fn restore(&mut self, checkpoint: &Checkpoint, rewinds: Option<u32>) -> Result<()> {
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
        self.step = metadata.step;
        self.rewinds = rewinds.unwrap_or(metadata.rewinds);
        self.spread(Some(checkpoint))
    }

    /// The parameters whose moments and averages this rank has.
    fn own(&self) -> Range<usize> {
        self.shards.get(self.ranks.rank()).cloned().unwrap_or_default()
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// How often the run went back and took other noise.
    pub fn rewinds(&self) -> u32 {
        self.rewinds
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

    /// The parts of this rank's slice of a batch whose gradients are summed on their own, one after the other.
    pub fn parts(&self, batch: &Batch) -> Vec<Range<usize>> {
        match &self.reduction {
            Some(reduction) => reduction.parts(batch.size),
            None => std::iter::once(0..batch.size).collect(),
        }
    }

    /// Begins a part: gradients are added to its sum.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn begin_part(&mut self) -> Result<()> {
        self.reduction.as_mut().map_or(Ok(()), Reduction::begin)
    }

    /// The next gradients are the last of this step.
    ///
    /// # Errors
    /// When no part was begun.
    pub fn expect_last(&self) -> Result<()> {
        self.reduction.as_ref().map_or(Ok(()), Reduction::expect_last)
    }

    /// Ends a part.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn end_part(&mut self) -> Result<()> {
        self.reduction.as_mut().map_or(Ok(()), Reduction::end)
    }

    /// Tells the other ranks the losses of images of this batch, from the `first` one on.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn tell_losses(&self, batch: &Batch, first: usize, images: &MicroBatch) -> Result<()> {
        let Some(reduction) = &self.reduction else { return Ok(()) };
        self.tally().write_losses(&reduction.tail()?, self.place(batch) + first, images)
    }

    /// Tells the other ranks what else there is of a step.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn tell_rest(&self, batch: &Batch, images: &[MicroBatch], word: Word) -> Result<()> {
        let Some(reduction) = &self.reduction else { return Ok(()) };
        let (place, rank) = (self.place(batch), self.ranks.rank());
        self.tally().write_rest(&reduction.tail()?, place, images, rank, word)
    }

    fn tally(&self) -> Tally {
        Tally { images: self.experiment.train.batch_size, ranks: self.ranks.count() }
    }

    /// Where this rank's slice begins in the global batch.
    fn place(&self, batch: &Batch) -> usize {
        let begin = batch.index * self.experiment.train.batch_size as u64;
        let first = batch.positions.first().copied().unwrap_or(begin);
        usize::try_from(first.saturating_sub(begin)).unwrap_or_default()
    }

    /// The losses of a step on their way, of all ranks where there are several.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn download(
        &self,
        batch: &Batch,
        updated: &Updated,
        micro_batches: Vec<MicroBatch>,
    ) -> Result<LossDownload> {
        match &updated.tail {
            None => LossDownload::new(self.step, micro_batches, &updated.norm),
            Some(tail) => LossDownload::of_ranks(
                self.step,
                self.tally(),
                tail,
                &updated.norm,
                self.place(batch),
                micro_batches,
            ),
        }
    }

    /// Time that this rank spent in collectives, where the host waits for them.
    pub fn in_collective(&self) -> Duration {
        self.reduction.as_ref().map(Reduction::in_collective).unwrap_or_default()
    }

    /// One step of Adam with the gradients of all ranks; `done` hears of its stages.
    ///
    /// # Errors
    /// When there is no gradient, or a rank is lost.
    pub fn update(&mut self, done: &mut dyn FnMut(Stage)) -> Result<Updated> {
        let config = &self.experiment.train;
        let parameters = self.tensors();
        let tail = match &mut self.reduction {
            Some(reduction) => Some(reduction.finish()?),
            None => None,
        };
        done(Stage::Collectives);
        let norm = if config.clip > 0.0 {
            torch_ext::clip_gradients(&parameters, config.clip)?
        } else {
            torch_ext::gradient_norm(&parameters)?
        };
        let learning_rate = config.rate(self.step + 1);
        self.adam.step(learning_rate)?;
        torch_ext::drop_gradients(&parameters)?;
        done(Stage::Optimizer);
        self.join_weights()?;
        done(Stage::Collectives);
        self.step += 1;
        Ok(Updated { learning_rate, norm, tail })
    }

    /// The weights, sorted by name.
    fn tensors(&self) -> Vec<Tensor> {
        self.parameters.iter().map(|(_, one)| one.shallow_clone()).collect()
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

    /// Does something with the network while it has the given weights, such as [`Self::average`]; nothing is
    /// copied, and the weights are the same bits afterwards.
    ///
    /// # Errors
    /// Those of `body`.
    pub fn with_weights<T>(
        &self,
        weights: &[Tensor],
        body: impl FnOnce(&UNet) -> Result<T>,
    ) -> Result<T> {
        let mut own = Vec::with_capacity(weights.len());
        for (variable, given) in self.tensors().iter_mut().zip(weights) {
            own.push(variable.detach());
            variable.f_set_data(given)?;
        }
        let result = tch::no_grad(|| body(&self.network));
        for (variable, own) in self.tensors().iter_mut().zip(&own) {
            variable.f_set_data(own)?;
        }
        result
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

/// A copy that needs no gradient, in the same memory layout, which the averaging kernel wants.
fn copied((name, weight): &(String, Tensor)) -> Result<(String, Tensor)> {
    let mut copy = weight.f_detach()?.f_empty_like()?;
    copy.f_copy_(&weight.f_detach()?)?;
    Ok((name.clone(), copy))
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
