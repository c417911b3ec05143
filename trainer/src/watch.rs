//! Watches the loss: a NaN, an infinity or a divergence ends the usable part of a run. What a step cost
//! is read when it has come to the host beside the steps that follow ([`crate::step`]); before a
//! checkpoint everything is read, so that none is written of a state that is lost.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use anyhow::Result;
use diffusion::Losses;
use pipeline::{Batch, Task};
use tch::Tensor;
use torch_ext::Download;

use contracts::experiment::WatchConfig;

/// Steps that a median is taken over.
const WINDOW: usize = 50;

/// Images that a message names.
const NAMED: usize = 5;

/// What a step cost, on its way from the device.
pub struct Cost {
    step: u64,
    parts: Vec<Part>,
    /// The losses of all parts, then the norm of the gradient; f32.
    numbers: Download,
}

/// Images that went through the network together.
pub struct Part {
    losses: Tensor,
    gammas: Vec<f32>,
    tasks: Vec<Task>,
    keys: Vec<String>,
}

impl Part {
    /// These images of a batch, and what they cost.
    pub fn of(losses: Losses, batch: &Batch, range: Range<usize>) -> Self {
        Self {
            losses: losses.per_image,
            gammas: losses.gammas,
            tasks: batch.tasks[range.clone()].to_vec(),
            keys: batch.keys[range].to_vec(),
        }
    }
}

/// What a step cost, in numbers.
#[derive(Debug)]
pub struct Costs {
    /// Steps done with it.
    pub step: u64,
    /// Each image.
    pub images: Vec<ImageCost>,
    /// Norm of the gradient.
    pub norm: f64,
}

/// What an image cost.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageCost {
    /// Its loss.
    pub loss: f64,
    /// Its noise level.
    pub gamma: f64,
    /// Its task.
    pub task: Task,
    /// Its key.
    pub key: String,
}

impl Cost {
    /// Begins to bring to the host what a step cost: the losses of its parts and the gradient's norm
    /// (f32, one number). `step` is the number of steps done with it.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(step: u64, parts: Vec<Part>, norm: &Tensor) -> Result<Self> {
        let mut numbers: Vec<Tensor> =
            parts.iter().map(|part| part.losses.shallow_clone()).collect();
        numbers.push(norm.f_reshape([1])?);
        let numbers = Download::begin(&Tensor::f_cat(&numbers, 0)?)?;
        Ok(Self { step, parts, numbers })
    }

    /// Whether the numbers are there.
    ///
    /// # Errors
    /// When the device fails.
    pub fn ready(&self) -> Result<bool> {
        Ok(self.numbers.ready()?)
    }

    /// The numbers; waits until they are there.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(self) -> Result<Costs> {
        let mut numbers = Vec::<f32>::try_from(&self.numbers.wait()?)?.into_iter().map(f64::from);
        let mut images = Vec::new();
        for part in self.parts {
            let given = part.gammas.into_iter().zip(part.tasks).zip(part.keys);
            images.extend(given.zip(numbers.by_ref()).map(|(((gamma, task), key), loss)| {
                ImageCost { loss, gamma: f64::from(gamma), task, key }
            }));
        }
        Ok(Costs { step: self.step, images, norm: numbers.next().unwrap_or(f64::NAN) })
    }
}

impl Costs {
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
    /// Losses that are no numbers.
    Lost(Vec<ImageCost>),
    /// All losses are numbers, the gradient is not.
    LostGradient,
    /// The median loss, and the lowest that it was.
    Exploded { now: f64, lowest: f64, worst: Vec<ImageCost> },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |images: &[ImageCost]| {
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
    pub fn look(&mut self, costs: &Costs) -> Option<Fault> {
        let fault = |what| Some(Fault { step: costs.step, what });
        let lost: Vec<ImageCost> =
            costs.images.iter().filter(|image| !image.loss.is_finite()).cloned().collect();
        if !lost.is_empty() {
            return fault(What::Lost(lost));
        }
        if !costs.norm.is_finite() {
            return fault(What::LostGradient);
        }
        self.recent.push_back(costs.mean());
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
        let mut worst = costs.images.clone();
        worst.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        worst.truncate(NAMED);
        fault(What::Exploded { now, lowest: self.lowest, worst })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(step: u64, losses: &[f64]) -> Costs {
        let image = |(i, &loss): (usize, &f64)| ImageCost {
            loss,
            gamma: 0.25,
            task: Task::ALL[0],
            key: format!("image-{i}"),
        };
        Costs { step, images: losses.iter().enumerate().map(image).collect(), norm: 1.0 }
    }

    #[test]
    fn what_is_no_number_is_named() {
        let mut watch = Watch::new(&WatchConfig::default());
        assert_eq!(watch.look(&costs(1, &[1.0, 2.0])), None);
        let message = watch.look(&costs(2, &[1.0, f64::NAN])).unwrap().to_string();
        for word in ["step 2", "colorization `image-1`", "γ 0.2500", "no number"] {
            assert!(message.contains(word), "{message}");
        }
        assert!(watch.look(&costs(3, &[f64::INFINITY; 9])).unwrap().to_string().contains("4 more"));
        let gradient = Costs { norm: f64::NAN, ..costs(4, &[1.0]) };
        assert!(watch.look(&gradient).unwrap().to_string().contains("the gradient is no number"));
    }

    #[test]
    fn single_high_losses_are_no_explosion_but_many_are() {
        let mut watch = Watch::new(&WatchConfig { explode: 10.0, ..WatchConfig::default() });
        for step in 0..200 {
            // Every third step is a hundred times as high, as few images at much noise can be.
            let loss = if step % 3 == 0 { 5.0 } else { 0.05 };
            assert_eq!(watch.look(&costs(step, &[loss])), None);
        }
        let fault = (200..).find_map(|step| watch.look(&costs(step, &[0.9, 1.5]))).unwrap();
        let message = fault.to_string();
        assert!(fault.step < 230, "{message}");
        assert!(message.contains("exploded") && message.contains("`image-1`"), "{message}");
        let mut blind = Watch::new(&WatchConfig { explode: 0.0, ..WatchConfig::default() });
        assert!(
            (0..200).all(|step| blind.look(&costs(step, &[1.2_f64.powi(step as i32)])).is_none())
        );
    }
}
