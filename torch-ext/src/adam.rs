//! Adam with libtorch's fused kernel: one call for all tensors of a network.
//!
//! The moments are plain tensors with the names of their parameters, so that a checkpoint can
//! hold and give back every bit of the optimizer's state.
use crate::{Error, ffi, foreach};
use std::collections::HashMap;
use tch::{Kind, Tensor, no_grad};

/// Adam's constants (Kingma & Ba 2015). The learning rate is an argument of each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamOptions {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// L2 penalty added to the gradient; 0 for none.
    pub weight_decay: f64,
}

impl Default for AdamOptions {
    fn default() -> AdamOptions {
        AdamOptions { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// The optimizer of a list of named parameters.
#[derive(Debug)]
pub struct Adam {
    names: Vec<String>,
    parameters: Vec<Tensor>,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
    /// f32 scalar on the device, as the kernel wants it (exact up to 16.7 million steps).
    step: Tensor,
    options: AdamOptions,
}

/// The name of the number of steps in [`Adam::state`].
pub const STEPS: &str = "step";

const FIRST: &str = "m.";
const SECOND: &str = "v.";

/// How the names of the first and of the second moments begin in [`Adam::state`].
pub const MOMENTS: [&str; 2] = [FIRST, SECOND];

impl Adam {
    /// An optimizer with zero moments. The parameters are shared, not copied; they must be on one
    /// device, and their memory layout must be final ([`crate::set_channels_last`] comes first).
    pub fn new(parameters: Vec<(String, Tensor)>, options: AdamOptions) -> Result<Adam, Error> {
        let Some((_, sample)) = parameters.first() else {
            return Err(Error::Mismatch("adam needs at least one parameter".to_owned()));
        };
        let device = sample.device();
        if let Some((name, other)) = parameters.iter().find(|(_, p)| p.device() != device) {
            return Err(Error::Mismatch(format!(
                "parameter `{name}` is on {:?}, the others on {device:?}",
                other.device()
            )));
        }
        let step = Tensor::f_zeros([], (Kind::Float, device))?;
        let zeros = |list: &[(String, Tensor)]| -> Result<Vec<Tensor>, Error> {
            no_grad(|| list.iter().map(|(_, p)| Ok(p.detach().f_zeros_like()?)).collect())
        };
        let (first, second) = (zeros(&parameters)?, zeros(&parameters)?);
        let (names, parameters) = parameters.into_iter().unzip();
        Ok(Adam { names, parameters, first, second, step, options })
    }

    /// One update with the gradients that the parameters hold (those without one are left):
    /// m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², θ ← θ − lr · m̂ / (√v̂ + ε).
    pub fn step(&mut self, lr: f64) -> Result<(), Error> {
        let _ = self.step.f_add_scalar_(1.0)?;
        let parameters = ffi::pointers(&self.parameters);
        let (first, second) = (ffi::pointers(&self.first), ffi::pointers(&self.second));
        // SAFETY: three lists of live tensors of equal length, borrowed over the call.
        ffi::check(unsafe {
            ffi::palette_fused_adam(
                parameters.as_ptr(),
                first.as_ptr(),
                second.as_ptr(),
                parameters.len(),
                self.step.as_ptr(),
                lr,
                self.options.beta1,
                self.options.beta2,
                self.options.weight_decay,
                self.options.epsilon,
            )
        })
    }

    /// Drops the gradients of all parameters.
    pub fn drop_gradients(&self) -> Result<(), Error> {
        foreach::drop_gradients(&self.parameters)
    }

    /// The parameters, in the order given.
    pub fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    /// Number of steps taken.
    pub fn steps(&self) -> Result<u64, Error> {
        Ok(f64::try_from(&self.step)? as u64)
    }

    /// The whole state by name: `step` `[1]`, `m.NAME` and `v.NAME` for every parameter. The
    /// tensors are the optimizer's own (shared); copy them before the next step if they must last.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![self.steps_taken()];
        for (prefix, moments) in [(FIRST, &self.first), (SECOND, &self.second)] {
            for (name, moment) in self.names.iter().zip(moments) {
                state.push((format!("{prefix}{name}"), moment.shallow_clone()));
            }
        }
        state
    }

    /// The number of steps, as [`Self::state`] has it.
    pub fn steps_taken(&self) -> (String, Tensor) {
        (STEPS.to_owned(), self.step.reshape([1]))
    }

    /// Goes on from this number of steps.
    pub fn set_steps(&mut self, steps: u64) -> Result<(), Error> {
        let _ = self.step.f_fill_(steps as f64)?;
        Ok(())
    }

    /// Takes a state over bit by bit. Missing, surplus or misshapen tensors are errors that name
    /// them, and leave the optimizer as it was.
    pub fn restore(&mut self, state: Vec<(String, Tensor)>) -> Result<(), Error> {
        let mut given: HashMap<String, Tensor> = state.into_iter().collect();
        let mut copies = Vec::new();
        for (name, own) in self.state() {
            let tensor = given
                .remove(&name)
                .ok_or_else(|| Error::Mismatch(format!("optimizer state lacks `{name}`")))?;
            if tensor.size() != own.size() {
                return Err(Error::Mismatch(format!(
                    "optimizer state `{name}` has shape {:?}, the network needs {:?}",
                    tensor.size(),
                    own.size()
                )));
            }
            copies.push((own, tensor));
        }
        if let Some(name) = given.keys().min() {
            return Err(Error::Mismatch(format!(
                "optimizer state holds `{name}`, which the network does not have"
            )));
        }
        no_grad(|| -> Result<(), Error> {
            for (mut own, tensor) in copies {
                own.f_copy_(&tensor)?;
            }
            Ok(())
        })
    }
}
