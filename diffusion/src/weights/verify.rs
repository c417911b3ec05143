//! A network's numbers against those that a reference implementation has written down: tensors of a
//! safetensors file, by name.
//!
//! | names | meaning |
//! |---|---|
//! | `x` `[B,6,H,W]`, `timestep` (or `gamma`) `[B]`, `y` `[B,3,H,W]` | one pass |
//! | `activation.BLOCK` | what that block gave in it |
//! | `cond`, `denoise.y_noisy` `[B,3,H,W]`, `denoise.gamma` `[B,…]`, `denoise.output` | one pass of the PyTorch Palette |
//! | `y0`, `mask`, `restore.y_T`, `restore.noise` `[T,B,3,H,W]`, `restore.gammas` `[T]`, `restore.trajectory` | its whole reverse process, step by step |
//!
//! The network runs on its own device in its own precision; what it gives is compared in f32 on the CPU.
use crate::reverse::{Known, Levels, Method, Process, Step};
use crate::{Error, Pass, Precision, Prediction, Result, Schedule, ScheduleConfig, UNet};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// How far one tensor is off.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Its name in the file.
    pub name: String,
    /// The largest absolute difference; NaN where numbers are none.
    pub difference: f64,
    /// The largest absolute value of the reference.
    pub largest: f64,
}

/// How far what is computed in a precision may be off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    /// The largest difference allowed.
    pub most: f64,
    /// Whether that is a share of the tensor's largest value where this is above 1: rounded factors are
    /// off by a share of themselves.
    pub relative: bool,
}

impl Tolerance {
    /// What rounding alone accounts for.
    ///
    /// fp32 has room for another order of sums. Factors with a mantissa of m bits are off by a share of
    /// up to 2^-(m+1), and over the some 60 products in a row of a network such errors add up as a
    /// random walk: √60 · 2^-8 = 3e-2 for bf16 (7 bits), √60 · 2^-11 = 4e-3 for TF32 (10 bits). Twice
    /// that, for the largest of a hundred thousand numbers: on an H100 the golden networks were off by up
    /// to 3.3e-2 and 2.9e-3.
    pub fn of(precision: Precision) -> Tolerance {
        let (most, relative) = match precision {
            Precision::Fp32 => (1e-4, false),
            Precision::Tf32 => (8e-3, true),
            Precision::Bf16 => (6e-2, true),
        };
        Tolerance { most, relative }
    }

    /// Whether a difference is within it; one that is no number never is.
    pub fn holds(&self, found: &Difference) -> bool {
        let scale = if self.relative { found.largest.max(1.0) } else { 1.0 };
        found.difference <= self.most * scale
    }
}

/// Compares everything that the file has numbers for.
///
/// `betas` are the first and last β of the linear schedule that the reverse process ran on.
///
/// # Errors
/// When the file holds nothing to compare, or tensors of another network or schedule.
pub fn verify(unet: &UNet, reference: &Path, betas: [f64; 2]) -> Result<Vec<Difference>> {
    let tensors = super::read_tensors(reference)?
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.f_to_device(unet.device())?)))
        .collect::<Result<BTreeMap<String, Tensor>>>()?;
    let reference = Reference { path: reference.display().to_string(), tensors, betas };
    let mut differences = Vec::new();
    tch::no_grad(|| {
        reference.pass(unet, &mut differences)?;
        reference.conditional_pass(unet, &mut differences)?;
        reference.trajectory(unet, &mut differences)
    })?;
    if differences.is_empty() {
        let names: Vec<&str> = reference.tensors.keys().map(String::as_str).take(5).collect();
        return Err(reference.wrong(format!(
            "there is nothing to compare: wanted are x, timestep and y, or cond and denoise.*, \
             found are {}",
            names.join(", ")
        )));
    }
    Ok(differences)
}

struct Reference {
    path: String,
    tensors: BTreeMap<String, Tensor>,
    betas: [f64; 2],
}

impl Reference {
    fn wrong(&self, message: String) -> Error {
        Error::Weights { path: self.path.clone(), message }
    }

    fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    fn compare(&self, name: &str, found: &Tensor, expected: &Tensor) -> Result<Difference> {
        if found.size() != expected.size() {
            let (found, expected) = (found.size(), expected.size());
            return Err(
                self.wrong(format!("`{name}` is {expected:?}, the network gives {found:?}"))
            );
        }
        let plain = |tensor: &Tensor| -> Result<Tensor> {
            Ok(tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?)
        };
        let (found, expected) = (plain(found)?, plain(expected)?);
        let most = |tensor: &Tensor| -> Result<f64> {
            let most = tensor.f_abs()?.f_max()?;
            Ok(f64::try_from(&most)?)
        };
        Ok(Difference {
            name: name.to_owned(),
            difference: most(&found.f_sub(&expected)?)?,
            largest: most(&expected)?,
        })
    }

    fn pass(&self, unet: &UNet, differences: &mut Vec<Difference>) -> Result<()> {
        let noise = self.get("timestep").or_else(|| self.get("gamma"));
        let (Some(x), Some(noise), Some(y)) = (self.get("x"), noise, self.get("y")) else {
            return Ok(());
        };
        let (output, trace) = unet.forward_traced(x, noise)?;
        for (block, activation) in &trace {
            let name = format!("activation.{block}");
            if let Some(expected) = self.get(&name) {
                differences.push(self.compare(&name, activation, expected)?);
            }
        }
        differences.push(self.compare("y", &output, y)?);
        Ok(())
    }

    fn conditional_pass(&self, unet: &UNet, differences: &mut Vec<Difference>) -> Result<()> {
        let [Some(condition), Some(noisy), Some(gamma), Some(expected)] =
            ["cond", "denoise.y_noisy", "denoise.gamma", "denoise.output"].map(|n| self.get(n))
        else {
            return Ok(());
        };
        let output = unet.denoise(noisy, condition, &gamma.f_flatten(0, -1)?, Pass::Evaluate)?;
        differences.push(self.compare("denoise.output", &output, expected)?);
        Ok(())
    }

    /// The linear schedule, if the γ of the file are its own.
    fn schedule(&self, gammas: &Tensor) -> Result<Schedule> {
        let [start, end] = self.betas;
        let given = Vec::<f64>::try_from(gammas.f_to_kind(Kind::Double)?.f_flatten(0, -1)?)?;
        let schedule = Schedule::new(&ScheduleConfig { steps: given.len() as u32, start, end })?;
        let off = |(i, gamma): (usize, &f64)| (schedule.gamma(i + 1) - gamma).abs();
        if given.iter().enumerate().map(off).all(|off| off < 1e-6) {
            return Ok(schedule);
        }
        Err(self.wrong(format!(
            "`restore.gammas` are not those of a linear schedule of β from {start} to {end}: name its \
             own"
        )))
    }

    fn trajectory(&self, unet: &UNet, differences: &mut Vec<Difference>) -> Result<()> {
        let [
            Some(condition),
            Some(known),
            Some(mask),
            Some(start),
            Some(noise),
            Some(gammas),
            Some(steps),
        ] = [
            "cond",
            "y0",
            "mask",
            "restore.y_T",
            "restore.noise",
            "restore.gammas",
            "restore.trajectory",
        ]
        .map(|name| self.get(name))
        else {
            return Ok(());
        };
        let schedule = self.schedule(gammas)?;
        let images = condition.size().first().copied().unwrap_or(0);
        let mut failed = None;
        let mut process = Process {
            prediction: Prediction::Epsilon,
            clip: true,
            eta: 0.0,
            known: Some(Known { mask, pixels: known }),
            denoise: &|y, gamma| {
                let gamma = Tensor::f_full([images], gamma, (Kind::Float, y.device()))?;
                unet.denoise(y, condition, &gamma, Pass::Evaluate)
            },
            noise: &mut |step| Ok(noise.f_get(step as i64)?),
            on_step: &mut |step: &Step| {
                let number = step.total - 1 - step.left;
                let compared =
                    steps.f_get(number as i64).map_err(Error::from).and_then(|expected| {
                        self.compare(&format!("restore.trajectory[{number}]"), step.y, &expected)
                    });
                match compared {
                    Ok(difference) => {
                        differences.push(difference);
                        ControlFlow::Continue(())
                    }
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                }
            },
        };
        let end = Method::Posterior.run(start, &Levels::every(&schedule), &mut process);
        match (failed, end) {
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok(_)) => Ok(()),
        }
    }
}
