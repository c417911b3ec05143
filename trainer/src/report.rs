//! Loss, speed and waiting of a window of steps, gathered on the device and read once a window.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pipeline::Task;
use tch::Tensor;

use crate::experiment::TrainConfig;

/// Numbers of the window of steps since the last report.
pub struct Report {
    every: u64,
    steps: u64,
    batch_size: usize,
    /// Loss of each image, `[B]`, and its task.
    losses: Vec<(Tensor, Vec<Task>)>,
    gradient: Option<Tensor>,
    window: Window,
    latest: Vec<(String, f64)>,
    lost: Option<String>,
}

struct Window {
    since: Instant,
    from: u64,
    waited: Duration,
    skipped: u64,
}

impl Report {
    /// A report that begins behind `step`.
    pub fn new(step: u64, config: &TrainConfig) -> Self {
        Self {
            every: config.log_every,
            steps: config.steps,
            batch_size: config.batch_size,
            losses: Vec::new(),
            gradient: None,
            window: Window {
                since: Instant::now(),
                from: step,
                waited: Duration::ZERO,
                skipped: 0,
            },
            latest: Vec::new(),
            lost: None,
        }
    }

    /// Whether the window ends with this step: the first, each `log_every`-th and the last.
    pub fn due(&self, step: u64) -> bool {
        step == 1 || step == self.steps || step.is_multiple_of(self.every)
    }

    /// Adds the losses of some images of a step.
    pub fn part(&mut self, per_image: &Tensor, tasks: &[Task]) {
        self.losses.push((per_image.detach(), tasks.to_vec()));
    }

    /// The norm of a step's gradient.
    pub fn gradient(&mut self, norm: Tensor) {
        self.gradient = Some(norm);
    }

    /// Ends the window: mean loss of all images and of each task's, learning rate, norm of the last
    /// gradient, images a second, share of the time that was spent waiting for data, and the images
    /// that were passed over as bad, where there were some.
    /// `waited` and `skipped` are the loader's totals.
    pub fn close(
        &mut self,
        step: u64,
        rate: f64,
        waited: Duration,
        skipped: u64,
    ) -> Vec<(String, f64)> {
        let mut sums: BTreeMap<Option<Task>, (f64, u64)> = BTreeMap::new();
        for (losses, tasks) in self.losses.drain(..) {
            let losses: Vec<f64> =
                Vec::try_from(losses.to_kind(tch::Kind::Double)).unwrap_or_default();
            for (loss, task) in losses.into_iter().zip(tasks) {
                if !loss.is_finite() && self.lost.is_none() {
                    self.lost = Some(task.to_string());
                }
                for key in [None, Some(task)] {
                    let sum = sums.entry(key).or_default();
                    *sum = (sum.0 + loss, sum.1 + 1);
                }
            }
        }
        let several = sums.len() > 2;
        let mut numbers: Vec<(String, f64)> = sums
            .into_iter()
            .filter(|(task, _)| several || task.is_none())
            .map(|(task, (sum, count))| {
                let name = task.map_or("loss".to_owned(), |task| format!("loss/{task}"));
                (name, sum / count as f64)
            })
            .collect();
        let elapsed = self.window.since.elapsed().as_secs_f64().max(1e-9);
        let images = (step - self.window.from) as f64 * self.batch_size as f64;
        numbers.push(("learning_rate".to_owned(), rate));
        if let Some(norm) = self.gradient.take() {
            numbers.push(("gradient_norm".to_owned(), norm.double_value(&[])));
        }
        numbers.push(("images_per_second".to_owned(), images / elapsed));
        let waiting = waited.saturating_sub(self.window.waited).as_secs_f64() / elapsed;
        numbers.push(("waiting".to_owned(), waiting.min(1.0)));
        if skipped > self.window.skipped {
            numbers.push(("skipped".to_owned(), (skipped - self.window.skipped) as f64));
        }
        self.window = Window { since: Instant::now(), from: step, waited, skipped };
        self.latest.clone_from(&numbers);
        numbers
    }

    /// The task of an image whose loss is no number, if there was one.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// The numbers of the last window.
    pub fn latest(&self) -> Vec<(String, f64)> {
        self.latest.clone()
    }

    /// The last window in a line.
    pub fn message(&self) -> String {
        let number = |name: &str| {
            self.latest.iter().find(|(key, _)| key == name).map_or(f64::NAN, |(_, value)| *value)
        };
        let step = self.window.from;
        let speed = number("images_per_second");
        let left = (self.steps.saturating_sub(step)) as f64 * self.batch_size as f64 / speed;
        let left = Duration::try_from_secs_f64(left).map(terminal::duration).unwrap_or_default();
        format!(
            "loss {:.4}  rate {:.1e}  {speed:.1} images/s  waiting {:.0} %  {left} left",
            number("loss"),
            number("learning_rate"),
            100.0 * number("waiting"),
        )
    }
}
