//! Watches the loss: a NaN, an infinity or a divergence ends the usable part of a run. The losses of a
//! step are read when they have come to the host beside the steps that follow ([`crate::step`]); before a
//! checkpoint everything is read, so that none is written of a state that is lost.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use anyhow::Result;
use diffusion::Losses;
use pipeline::{Batch, Task};
use tch::Tensor;
use torch_ext::Download;

use crate::ranks::tally::{Fare, Tally};
use contracts::experiment::WatchConfig;

/// Steps that a median is taken over.
const WINDOW: usize = 50;

/// Images that a message names.
const NAMED: usize = 5;

/// The losses of a step and its gradient's norm, on their way from the device.
pub struct LossDownload {
    step: u64,
    of: Of,
    /// f32; the norm of the gradient is last.
    download: Download,
}

/// What the numbers are that come from the device.
enum Of {
    /// The losses of all micro-batches, each behind it those of predicting nothing.
    MicroBatches(Vec<MicroBatch>),
    /// Those of all ranks. This one's images lie at `place` of the global batch.
    Ranks { tally: Tally, place: usize, keys: Vec<String> },
}

/// Images that went through the network together, with their losses.
pub struct MicroBatch {
    losses: Tensor,
    nothing: Tensor,
    gammas: Vec<f32>,
    tasks: Vec<Task>,
    keys: Vec<String>,
}

impl MicroBatch {
    /// These images of a batch, and their losses.
    pub fn of(losses: Losses, batch: &Batch, range: Range<usize>) -> Self {
        Self {
            losses: losses.per_image,
            nothing: losses.nothing,
            gammas: losses.gammas,
            tasks: batch.tasks[range.clone()].to_vec(),
            keys: batch.keys[range].to_vec(),
        }
    }

    /// The losses, and those of predicting nothing: f32 `[B]` each, on the device.
    pub fn on_device(&self) -> (&Tensor, &Tensor) {
        (&self.losses, &self.nothing)
    }

    /// Noise level and task of each image.
    pub fn given(&self) -> impl Iterator<Item = (f32, Task)> {
        self.gammas.iter().copied().zip(self.tasks.iter().copied())
    }
}

/// The losses of a step and its gradient's norm, on the host.
#[derive(Debug)]
pub struct StepLosses {
    /// Steps done with it.
    pub step: u64,
    /// Each image.
    pub images: Vec<ImageLoss>,
    /// Norm of the gradient.
    pub norm: f64,
    /// How each of several ranks fared.
    pub fares: Vec<Fare>,
    /// Whether all of several ranks are to stop.
    pub stop: bool,
}

/// The loss of an image, with what it was measured on.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageLoss {
    /// Its loss.
    pub loss: f64,
    /// What its loss were if the network predicted nothing.
    pub nothing: f64,
    /// Its noise level.
    pub gamma: f64,
    /// Its task.
    pub task: Task,
    /// Its key; empty where another rank has it.
    pub key: String,
    /// Its place in the global batch.
    pub place: usize,
}

impl LossDownload {
    /// Begins to bring to the host the losses of a step's micro-batches and the gradient's norm
    /// (f32, one number). `step` is the number of steps done with it.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(step: u64, micro_batches: Vec<MicroBatch>, norm: &Tensor) -> Result<Self> {
        let of = |one: &MicroBatch| [one.losses.shallow_clone(), one.nothing.shallow_clone()];
        let mut tensors: Vec<Tensor> = micro_batches.iter().flat_map(of).collect();
        tensors.push(norm.f_reshape([1])?);
        let download = Download::begin(&Tensor::f_cat(&tensors, 0)?)?;
        Ok(Self { step, of: Of::MicroBatches(micro_batches), download })
    }

    /// The same for all ranks: what rode along with the gradients, and the keys of this rank's images, which
    /// lie at `place` of the global batch.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn of_ranks(
        step: u64,
        tally: Tally,
        tail: &Tensor,
        norm: &Tensor,
        place: usize,
        micro_batches: Vec<MicroBatch>,
    ) -> Result<Self> {
        let all = Tensor::f_cat(&[tail.shallow_clone(), norm.f_reshape([1])?], 0)?;
        let keys = micro_batches.into_iter().flat_map(|one| one.keys).collect();
        let of = Of::Ranks { tally, place, keys };
        Ok(Self { step, of, download: Download::begin(&all)? })
    }

    /// Whether the losses are there.
    ///
    /// # Errors
    /// When the device fails.
    pub fn ready(&self) -> Result<bool> {
        Ok(self.download.ready()?)
    }

    /// Whether the losses were on the host from the beginning.
    pub fn on_host(&self) -> bool {
        self.download.is_local()
    }

    /// The losses; waits until they are there.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(self) -> Result<StepLosses> {
        let values = Vec::<f32>::try_from(&self.download.wait()?)?;
        let micro_batches = match self.of {
            Of::MicroBatches(micro_batches) => micro_batches,
            Of::Ranks { tally, place, keys } => {
                return Ok(tally.read(self.step, &values, place, keys));
            }
        };
        let mut values = values.into_iter().map(f64::from);
        let mut images = Vec::new();
        for micro_batch in micro_batches {
            let MicroBatch { gammas, tasks, keys, .. } = micro_batch;
            let losses: Vec<f64> = values.by_ref().take(gammas.len()).collect();
            let nothing: Vec<f64> = values.by_ref().take(gammas.len()).collect();
            let given = gammas.into_iter().zip(tasks).zip(keys);
            for ((((gamma, task), key), loss), nothing) in given.zip(losses).zip(nothing) {
                let (gamma, place) = (f64::from(gamma), images.len());
                images.push(ImageLoss { loss, nothing, gamma, task, key, place });
            }
        }
        let norm = values.next().unwrap_or(f64::NAN);
        Ok(StepLosses { step: self.step, images, norm, fares: Vec::new(), stop: false })
    }
}

impl StepLosses {
    /// The mean loss of the images.
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.images.iter().map(|image| image.loss).sum();
        sum / self.images.len().max(1) as f64
    }
}

/// Why a run cannot go on from here.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The step at which it showed.
    pub step: u64,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    /// Losses that are not finite.
    Lost(Vec<ImageLoss>),
    /// All losses are finite, the gradient is not.
    LostGradient,
    /// The median loss, and the lowest that it was.
    Exploded { now: f64, lowest: f64, worst: Vec<ImageLoss> },
}

impl Fault {
    /// Names the images that other ranks have: `keys` are those of the global batch.
    pub fn name(&mut self, keys: &[String]) {
        let images = match &mut self.what {
            What::Lost(images) | What::Exploded { worst: images, .. } => images,
            What::LostGradient => return,
        };
        for image in images.iter_mut().filter(|image| image.key.is_empty()) {
            image.key = keys.get(image.place).cloned().unwrap_or_default();
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |images: &[ImageLoss]| {
            let list: Vec<String> = images
                .iter()
                .take(NAMED)
                .map(|image| format!("{} `{}` at γ {:.4}", image.task, image.key, image.gamma))
                .collect();
            let more = images.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}{more}", list.join(", "))
        };
        match &self.what {
            What::Lost(images) => {
                write!(f, "step {}: the loss is no number: {}", self.step, named(images))
            }
            What::LostGradient => {
                write!(f, "step {}: the gradient is no number, though all losses are", self.step)
            }
            What::Exploded { now, lowest, worst } => write!(
                f,
                "step {}: the loss exploded: its median over {WINDOW} steps is {now:.4}, it was \
                 {lowest:.4}; highest: {}",
                self.step,
                named(worst)
            ),
        }
    }
}

/// The losses of a run so far.
pub struct Watch {
    explode: f64,
    recent: VecDeque<f64>,
    lowest: f64,
}

impl Watch {
    /// A watch that has seen nothing.
    pub fn new(config: &WatchConfig) -> Self {
        Self { explode: config.explode, recent: VecDeque::new(), lowest: f64::INFINITY }
    }

    /// Looks at a step.
    pub fn look(&mut self, losses: &StepLosses) -> Option<Fault> {
        let fault = |what| Some(Fault { step: losses.step, what });
        let lost: Vec<ImageLoss> =
            losses.images.iter().filter(|image| !image.loss.is_finite()).cloned().collect();
        if !lost.is_empty() {
            return fault(What::Lost(lost));
        }
        if !losses.norm.is_finite() {
            return fault(What::LostGradient);
        }
        self.recent.push_back(losses.mean());
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        if self.recent.len() < WINDOW || self.explode == 0.0 {
            return None;
        }
        // All are finite; one of the losses, not the mean of two.
        let now = statistics::nearest(self.recent.make_contiguous(), 0.5)?;
        self.lowest = self.lowest.min(now);
        if now <= self.explode * self.lowest {
            return None;
        }
        let mut worst = losses.images.clone();
        worst.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        worst.truncate(NAMED);
        fault(What::Exploded { now, lowest: self.lowest, worst })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step_losses(step: u64, losses: &[f64]) -> StepLosses {
        let image = |(i, &loss): (usize, &f64)| ImageLoss {
            loss,
            nothing: 1.0,
            gamma: 0.25,
            task: Task::ALL[0],
            key: format!("image-{i}"),
            place: i,
        };
        let images = losses.iter().enumerate().map(image).collect();
        StepLosses { step, images, norm: 1.0, fares: Vec::new(), stop: false }
    }

    #[test]
    fn what_is_no_number_is_named() {
        let mut watch = Watch::new(&WatchConfig::default());
        assert_eq!(watch.look(&step_losses(1, &[1.0, 2.0])), None);
        let message = watch.look(&step_losses(2, &[1.0, f64::NAN])).unwrap().to_string();
        for word in ["step 2", "colorization `image-1`", "γ 0.2500", "no number"] {
            assert!(message.contains(word), "{message}");
        }
        assert!(
            watch
                .look(&step_losses(3, &[f64::INFINITY; 9]))
                .unwrap()
                .to_string()
                .contains("4 more")
        );
        let gradient = StepLosses { norm: f64::NAN, ..step_losses(4, &[1.0]) };
        assert!(watch.look(&gradient).unwrap().to_string().contains("the gradient is no number"));
    }

    #[test]
    fn single_high_losses_are_no_explosion_but_many_are() {
        let mut watch = Watch::new(&WatchConfig { explode: 10.0, ..WatchConfig::default() });
        for step in 0..200 {
            // Every third step is a hundred times as high, as few images at much noise can be.
            let loss = if step % 3 == 0 { 5.0 } else { 0.05 };
            assert_eq!(watch.look(&step_losses(step, &[loss])), None);
        }
        let fault = (200..).find_map(|step| watch.look(&step_losses(step, &[0.9, 1.5]))).unwrap();
        let message = fault.to_string();
        assert!(fault.step < 230, "{message}");
        assert!(message.contains("exploded") && message.contains("`image-1`"), "{message}");
        let mut blind = Watch::new(&WatchConfig { explode: 0.0, ..WatchConfig::default() });
        assert!(
            (0..200)
                .all(|step| blind.look(&step_losses(step, &[1.2_f64.powi(step as i32)])).is_none())
        );
    }
}
