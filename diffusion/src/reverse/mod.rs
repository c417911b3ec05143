//! The reverse processes: from noise to an image, step by step. Pure functions over the noise levels
//! that they visit: everything random comes in through a closure, everything seen goes out through a
//! callback.
//!
//! The order is the power by which the error of mean and covariance falls with the number of steps
//! (`tests/reverse.rs` shows it), where the levels lie evenly in λ = ½·log(γ/(1−γ)).
//!
//! | process | order | network calls | noise | source |
//! |---|---|---|---|---|
//! | [`Method::Ancestral`] | 1 | N | yes | Palette, Algorithm 2 |
//! | [`Method::Posterior`] | 1 | N | yes | Ho et al. 2020; the PyTorch Palette |
//! | [`Method::Ddim`] | 1 | N | where η > 0 | Song et al. 2021 |
//! | [`Method::Dpmpp2m`] | 2 | N | no | Lu et al. 2022, DPM-Solver++(2M) |
//! | [`Method::Dpmpp2mSde`] | 2 | N | yes | Lu et al. 2022, SDE-DPM-Solver++(2M) |
//! | [`Method::Heun`] | 2 | 2N − 1 | no | Karras et al. 2022, Algorithm 1 |
//!
//! A process is one file of this folder, with its `SOLVER`, and one line of the registry
//! (`method.rs`), from which its name in configurations, on the command line and in `--help` follows.
//!
//! None of them touches `start`; a caller who wants known pixels in it puts them there. After every
//! step the known pixels are put back as they are.

mod ancestral;
mod ddim;
mod dpmpp_2m;
mod dpmpp_2m_sde;
mod heun;
mod levels;
mod method;
mod posterior;

use crate::{Error, Prediction, Result};
use std::ops::ControlFlow;
use tch::Tensor;

pub use levels::{Levels, Spacing};
pub use method::Method;

/// A reverse process: what its file says of it.
struct Solver {
    /// Its name in configurations and on the command line.
    name: &'static str,
    /// Steps where no number is given: the fewest of 5, 10, 20 and 50 whose pictures are as good as those
    /// of the paper's 1000, as measured on a small network (docs/sampling.md). None for a process that
    /// takes every step of the sampling schedule.
    few_steps: Option<u32>,
    /// Whether [`Process::eta`] means something to it.
    takes_eta: bool,
    /// From pure noise `[B,3,H,W]` to the images: [`Process::estimate`] and [`Process::done`] in every step
    /// of [`Levels::walk`].
    run: fn(&Tensor, &Levels, &mut Process) -> Result<Tensor>,
}

/// What a reverse process works with.
pub struct Process<'a> {
    /// The meaning of what `denoise` returns.
    pub prediction: Prediction,
    /// Whether ŷ0 is clipped to `[-1,1]` (all but `ancestral`: Algorithm 2 does not).
    pub clip: bool,
    /// Noise of [`Method::Ddim`], 0 to 1: 0 none, 1 as much as the posterior's.
    pub eta: f64,
    /// Known pixels.
    pub known: Option<Known<'a>>,
    /// The network: y `[B,3,H,W]` and γ (the same for all images) to its output `[B,3,H,W]`.
    pub denoise: &'a dyn Fn(&Tensor, f64) -> Result<Tensor>,
    /// Standard normal `[B,3,H,W]` for a step; steps count down, the last one is 0 and asks for none.
    pub noise: &'a mut dyn FnMut(usize) -> Result<Tensor>,
    /// Sees every step; may end the process, which then returns [`Error::Stopped`].
    pub on_step: &'a mut dyn FnMut(&Step) -> ControlFlow<()>,
}

/// Known pixels of the images.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// 1 where pixels are generated, 0 where they are known; `[B,1,H,W]`.
    pub mask: &'a Tensor,
    /// The known pixels, `[B,3,H,W]`; not looked at where the mask is 1.
    pub pixels: &'a Tensor,
}

/// One step that has been done.
#[derive(Debug)]
pub struct Step<'a> {
    /// Steps left.
    pub left: usize,
    /// Steps in all.
    pub total: usize,
    /// γ of `y`; 1 after the last step.
    pub gamma: f64,
    /// The images after the step, known pixels put back; `[B,3,H,W]`.
    pub y: &'a Tensor,
    /// The clean images as estimated in this step, `[B,3,H,W]`.
    pub y0: &'a Tensor,
}

impl Process<'_> {
    /// ŷ0 as the network sees it in y at γ.
    fn estimate(&self, y: &Tensor, gamma: f64) -> Result<Tensor> {
        let output = (self.denoise)(y, gamma)?;
        let y0 = self.prediction.to_y0(&output, y, gamma)?;
        Ok(if self.clip { y0.f_clamp(-1.0, 1.0)? } else { y0 })
    }

    /// Puts the known pixels back.
    fn keep(&self, y: Tensor) -> Result<Tensor> {
        Ok(match &self.known {
            Some(known) => known.pixels.f_lerp_tensor(&y, known.mask)?,
            None => y,
        })
    }

    /// Ends a step: puts the known pixels back and tells the caller.
    fn done(&mut self, y: Tensor, y0: &Tensor, levels: &Levels, left: usize) -> Result<Tensor> {
        let y = self.keep(y)?;
        let step = Step { left, total: levels.steps(), gamma: levels.after(left), y: &y, y0 };
        match (self.on_step)(&step) {
            ControlFlow::Continue(()) => Ok(y),
            ControlFlow::Break(()) => Err(Error::Stopped),
        }
    }
}
