//! The train state as a whole, of one rank or of several: what a checkpoint has, in and out. With
//! `train.shard_optimizer` every rank has the moments and averages of its own parameters alone; they are put
//! together here, one kind at a time.

use anyhow::{Context, Result, bail};
use diffusion::checkpoint::{Checkpoint, Component, Named, Snapshot};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::TrainState;
use crate::ranks::Reduction;
use torch_ext::{MOMENTS, STEPS};

/// Bytes of tensors that a rank has between two steps.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Held {
    pub weights: u64,
    pub gradients: u64,
    pub moments: u64,
    pub averages: u64,
}

impl TrainState<'_> {
    /// What this rank has of the state.
    pub fn held(&self) -> Held {
        let bytes = |tensors: &[(String, Tensor)]| {
            tensors.iter().map(|(_, one)| 4 * one.numel() as u64).sum::<u64>()
        };
        let weights = bytes(&self.parameters);
        let mut moments = self.adam.state();
        moments.retain(|(name, _)| name != STEPS);
        Held {
            weights,
            gradients: self.reduction.as_ref().map_or(weights, Reduction::bytes),
            moments: bytes(&moments),
            averages: self.ema.iter().map(|ema| bytes(ema)).sum(),
        }
    }

    /// Gives the state of this rank, the first, to all: its weights and its step, and of a checkpoint moments and
    /// averages as well.
    pub(super) fn spread(&mut self, checkpoint: Option<&Checkpoint>) -> Result<()> {
        if self.ranks.count() == 1 {
            let Some(checkpoint) = checkpoint else { return Ok(()) };
            self.adam.restore(checkpoint.read(Component::Optimizer)?)?;
            for (index, ema) in self.ema.iter().enumerate() {
                assign(ema, &checkpoint.read(Component::Ema(index))?)?;
            }
            return Ok(());
        }
        let mut optimizer = match checkpoint {
            Some(checkpoint) => checkpoint.read(Component::Optimizer)?,
            None => Vec::new(),
        };
        let steps = optimizer.iter().find(|(name, _)| name == STEPS).map(|(_, steps)| steps);
        let steps = steps.map_or(Ok(0), |steps| steps.f_int64_value(&[0]))?;
        let trained = i64::from(checkpoint.is_some());
        let numbers = [self.step.cast_signed(), i64::from(self.rewinds), trained, steps];
        self.ranks.give(&Tensor::f_from_slice(&numbers)?.f_to_device(self.device)?, 0)?;
        let weights = self.tensors();
        self.ranks.give(&self.joined(&weights)?, 0)?;
        let Some(checkpoint) = checkpoint else { return Ok(()) };
        for prefix in MOMENTS {
            let moments = taken(&mut optimizer, prefix);
            let values = self.fitting(&moments, "optimizer state")?;
            self.spread_moments(prefix, Some(&values))?;
        }
        if !optimizer.iter().map(|(name, _)| name.as_str()).eq([STEPS]) {
            bail!("the optimizer state of the checkpoint has other tensors than the network");
        }
        for index in 0..self.ema.len() {
            let read = checkpoint.read(Component::Ema(index))?;
            let values = self.fitting(&read, "moving average")?;
            self.spread_average(index, Some(&values))?;
        }
        Ok(self.adam.set_steps(steps.cast_unsigned())?)
    }

    /// Takes the state that the first rank spreads.
    ///
    /// # Errors
    /// When the first rank fails.
    pub fn follow(&mut self) -> Result<()> {
        let numbers = Tensor::f_zeros([4], (Kind::Int64, self.device))?;
        self.ranks.give(&numbers, 0)?;
        let numbers = Vec::<i64>::try_from(&numbers.f_to_device(Device::Cpu)?)?;
        let [step, rewinds, trained, steps] = numbers[..] else { bail!("it says too little") };
        self.step = step.cast_unsigned();
        self.rewinds = u32::try_from(rewinds)?;
        let flat = self.layout.zeros(self.device)?;
        self.ranks.give(&flat, 0)?;
        let weights = self.layout.views(&flat)?;
        copy_all(&self.tensors(), &weights)?;
        drop((flat, weights));
        if trained == 0 {
            return self.fresh();
        }
        for prefix in MOMENTS {
            self.spread_moments(prefix, None)?;
        }
        for index in 0..self.ema.len() {
            self.spread_average(index, None)?;
        }
        Ok(self.adam.set_steps(steps.cast_unsigned())?)
    }

    /// A copy on the CPU that training no longer touches. Of several ranks all take part, and only the first
    /// has it.
    ///
    /// # Errors
    /// When memory runs out, or a rank is lost.
    pub fn snapshot(&self) -> Result<Option<Snapshot>> {
        let mut averages = Vec::with_capacity(self.ema.len());
        for ema in &self.ema {
            averages.push(self.gathered(ema)?);
        }
        let mut optimizer = vec![self.adam.steps_taken()];
        for prefix in MOMENTS {
            let moments = taken(&mut self.adam.state(), prefix);
            let moments = self.gathered(&moments)?;
            optimizer
                .extend(moments.into_iter().map(|(name, one)| (format!("{prefix}{name}"), one)));
        }
        if !self.ranks.leads() {
            return Ok(None);
        }
        let model = apart(&self.parameters)?;
        Ok(Some(Snapshot { model, averages, optimizer: Some(apart(&optimizer)?) }))
    }

    /// The first EMA weights, whole. Of several ranks with shards all take part, and all have them.
    ///
    /// # Errors
    /// When memory runs out, or a rank is lost.
    pub fn average(&self) -> Result<Vec<Tensor>> {
        let first = self.ema.first().context("there is no moving average")?;
        let own: Vec<Tensor> = first.iter().map(|(_, one)| one.shallow_clone()).collect();
        if self.sharded() { self.joined_shards(&own) } else { Ok(own) }
    }

    /// Gives all ranks the weights that each has updated.
    pub(super) fn join_weights(&self) -> Result<()> {
        if !self.sharded() {
            return Ok(());
        }
        let all = self.tensors();
        let joined = self.joined_shards(&all[self.own()])?;
        copy_all(&all, &joined)
    }

    fn sharded(&self) -> bool {
        self.experiment.train.shard_optimizer && self.ranks.count() > 1
    }

    /// All parameters in one tensor.
    fn joined(&self, tensors: &[Tensor]) -> Result<Tensor> {
        let flat = self.layout.zeros(self.device)?;
        copy_all(&self.layout.views(&flat)?, tensors)?;
        Ok(flat)
    }

    /// What each rank has of its own parameters, of all parameters.
    fn joined_shards(&self, own: &[Tensor]) -> Result<Vec<Tensor>> {
        let flat = self.layout.zeros(self.device)?;
        let views = self.layout.views(&flat)?;
        copy_all(&views[self.own()], own)?;
        for (rank, shard) in self.shards.iter().enumerate() {
            let span = self.layout.span(shard);
            if !span.is_empty() {
                let part = flat.f_narrow(0, span.start as i64, span.len() as i64)?;
                self.ranks.give(&part, rank)?;
            }
        }
        Ok(views)
    }

    /// The same by name, on the CPU of the first rank; the others have nothing.
    fn gathered(&self, own: &Named) -> Result<Named> {
        if !self.sharded() {
            return if self.ranks.leads() { apart(own) } else { Ok(Vec::new()) };
        }
        let own: Vec<Tensor> = own.iter().map(|(_, one)| one.shallow_clone()).collect();
        let joined = self.joined_shards(&own)?;
        if !self.ranks.leads() {
            return Ok(Vec::new());
        }
        let names = self.parameters.iter().map(|(name, _)| name.clone());
        apart(&names.zip(joined).collect())
    }

    fn spread_moments(&self, prefix: &str, values: Option<&[Tensor]>) -> Result<()> {
        let own: Vec<Tensor> =
            taken(&mut self.adam.state(), prefix).into_iter().map(|(_, one)| one).collect();
        self.spread_into(&own, values)
    }

    fn spread_average(&self, index: usize, values: Option<&[Tensor]>) -> Result<()> {
        let ema = self.ema.get(index).context("there is no such moving average")?;
        let own: Vec<Tensor> = ema.iter().map(|(_, one)| one.shallow_clone()).collect();
        self.spread_into(&own, values)
    }

    /// Gives all ranks the values that the first has of all parameters; each takes those of its own.
    fn spread_into(&self, own: &[Tensor], values: Option<&[Tensor]>) -> Result<()> {
        let flat = match values {
            Some(values) => self.joined(values)?,
            None => self.layout.zeros(self.device)?,
        };
        self.ranks.give(&flat, 0)?;
        copy_all(own, &self.layout.views(&flat)?[self.own()])
    }

    /// Values read by name, in the order of the parameters.
    fn fitting(&self, read: &Named, what: &str) -> Result<Vec<Tensor>> {
        if !read.iter().map(|(name, _)| name).eq(self.parameters.iter().map(|(name, _)| name)) {
            bail!("the {what} of the checkpoint has other tensors than the network");
        }
        for ((name, read), (_, own)) in read.iter().zip(&self.parameters) {
            if read.size() != own.size() {
                bail!(
                    "the {what} of `{name}` has shape {:?}, the network needs {:?}",
                    read.size(),
                    own.size()
                );
            }
        }
        Ok(read.iter().map(|(_, one)| one.shallow_clone()).collect())
    }
}

/// Takes the tensors whose names begin with `prefix` out of a list; their names without it, sorted.
fn taken(state: &mut Named, prefix: &str) -> Named {
    let mut found = Vec::new();
    state.retain(|(name, tensor)| match name.strip_prefix(prefix) {
        Some(name) => {
            found.push((name.to_owned(), tensor.shallow_clone()));
            false
        }
        None => true,
    });
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn copy_all(to: &[Tensor], from: &[Tensor]) -> Result<()> {
    tch::no_grad(|| {
        to.iter().zip(from).try_for_each(|(to, from)| {
            to.shallow_clone().f_copy_(&from.detach())?;
            Ok(())
        })
    })
}

/// Copies values by name; both lists are sorted.
pub(super) fn assign(to: &[(String, Tensor)], from: &[(String, Tensor)]) -> Result<()> {
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
    tensors.iter().map(on_host).collect()
}

fn on_host((name, tensor): &(String, Tensor)) -> Result<(String, Tensor)> {
    let copy = tensor.detach().f_to_device_(Device::Cpu, tensor.kind(), false, true)?;
    Ok((name.clone(), copy))
}
