//! Metrics of a window of steps: losses, learning rate, images a second, data stall, memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pipeline::Loader;
use registry::Finding;
use tch::Device;

use crate::ranks::tally::Fare;
use crate::train_state::TrainState;
use crate::watch::{ImageLoss, StepLosses};
use contracts::Experiment;

/// Values by the names of their metrics, as the registry keeps them.
pub type Metrics = Vec<(String, f64)>;

/// The window of steps whose metrics are recorded together.
pub struct MetricsWindow {
    every: u64,
    steps: u64,
    warmup_steps: u64,
    batch_size: usize,
    /// Whether losses are told apart by noise.
    noise: bool,
    images: Vec<ImageLoss>,
    norm: f64,
    /// How each of several ranks fared so far.
    fares: Vec<Fare>,
    start: WindowStart,
    latest: Metrics,
}

/// Where a window begins.
struct WindowStart {
    since: Instant,
    from: u64,
    waited: Duration,
    skipped: u64,
}

impl MetricsWindow {
    /// A window that begins behind `step`.
    pub fn new(step: u64, experiment: &Experiment) -> Self {
        let config = &experiment.train;
        Self {
            every: config.log_every,
            steps: config.steps,
            warmup_steps: config.warmup_steps,
            batch_size: config.batch_size,
            noise: experiment.diffusion.kind == diffusion::Formulation::Diffusion,
            images: Vec::new(),
            norm: 0.0,
            fares: Vec::new(),
            start: WindowStart {
                since: Instant::now(),
                from: step,
                waited: Duration::ZERO,
                skipped: 0,
            },
            latest: Vec::new(),
        }
    }

    /// Whether the window ends with this step: the first, each `log_every`-th and the last.
    pub fn due(&self, step: u64) -> bool {
        step == 1 || step == self.steps || step.is_multiple_of(self.every)
    }

    /// Adds the losses of a step.
    pub fn add(&mut self, losses: StepLosses) {
        self.images.extend(losses.images);
        self.norm = losses.norm;
        self.fares.resize(losses.fares.len(), Fare::default());
        for (sum, fare) in self.fares.iter_mut().zip(losses.fares) {
            sum.add(fare);
        }
    }

    /// Ends the window: the losses of [`losses`], learning rate, norm of the last gradient, images a
    /// second, data stall (`waiting`: the share of the time spent waiting for data), the most memory in
    /// use so far in bytes, and the images that were passed over as bad, where there were some. Of several ranks
    /// data stall is that of the one which waited longest, and there are the share of the time in collectives
    /// (`collective`, the mean of all) and the rank that the others waited for (`slowest_rank`).
    pub fn close(&mut self, state: &TrainState, learning_rate: f64, loader: &Loader) -> Metrics {
        let step = state.step();
        let mut metrics = losses(&std::mem::take(&mut self.images), state, self.noise);
        let elapsed = self.start.since.elapsed().as_secs_f64().max(1e-9);
        let images = (step - self.start.from) as f64 * self.batch_size as f64;
        let fares = std::mem::take(&mut self.fares);
        let mut waited = loader.waited().saturating_sub(self.start.waited).as_secs_f64();
        let mut skipped = (loader.skipped().count - self.start.skipped) as f64;
        if fares.len() > 1 {
            waited = fares.iter().fold(0.0, |most, fare| fare.waited.max(most));
            skipped = fares.iter().map(|fare| fare.skipped).sum();
        }
        let data_stall = waited / elapsed;
        let mut add = |name: &str, value: f64| metrics.push((name.to_owned(), value));
        add("learning_rate", learning_rate);
        add("gradient_norm", self.norm);
        add("images_per_second", images / elapsed);
        add("waiting", data_stall.min(1.0));
        if let Some(peak) = peak_memory(state.device()) {
            add("peak_memory", peak as f64);
        }
        if skipped > 0.0 {
            add("skipped", skipped);
        }
        // On a GPU the host does not see what its collectives take.
        if fares.len() > 1 && fares.iter().any(|fare| fare.in_collective > 0.0) {
            let sum: f64 = fares.iter().map(|fare| fare.in_collective).sum();
            add("collective", (sum / fares.len() as f64 / elapsed).min(1.0));
            let least = |a: &(usize, &Fare), b: &(usize, &Fare)| {
                a.1.in_collective.total_cmp(&b.1.in_collective)
            };
            if let Some((rank, _)) = fares.iter().enumerate().min_by(least) {
                add("slowest_rank", rank as f64);
            }
        }
        let (waited, skipped) = (loader.waited(), loader.skipped().count);
        self.start = WindowStart { since: Instant::now(), from: step, waited, skipped };
        self.latest.clone_from(&metrics);
        metrics
    }

    /// The metrics of the last window.
    pub fn latest(&self) -> Metrics {
        self.latest.clone()
    }

    /// Whether the last window says that the network has learned nothing, once it should have: past the warm-up
    /// and a tenth of the run. Of a run that ends here all windows are judged.
    pub fn finding(&self) -> Option<Finding> {
        let step = self.start.from;
        // The first step's loss is that of a network that has learned nothing.
        let early = step <= 1 || step < self.warmup_steps || step < self.steps / 10;
        if early || step >= self.steps {
            return None;
        }
        let (loss, nothing) = (self.metric("loss"), self.metric("nothing"));
        Finding::is_nothing(loss, nothing).then_some(Finding::Nothing { loss, nothing })
    }

    fn metric(&self, name: &str) -> f64 {
        self.latest.iter().find(|(key, _)| key == name).map_or(f64::NAN, |(_, value)| *value)
    }

    /// The last window in a line.
    pub fn message(&self) -> String {
        let metric = |name: &str| self.metric(name);
        let step = self.start.from;
        let speed = metric("images_per_second");
        let left = (self.steps.saturating_sub(step)) as f64 * self.batch_size as f64 / speed;
        let left = Duration::try_from_secs_f64(left).map(terminal::duration).unwrap_or_default();
        format!(
            "loss {:.4}  rate {:.1e}  {speed:.1} images/s  waiting {:.0} %  {left} left",
            metric("loss"),
            metric("learning_rate"),
            100.0 * metric("waiting"),
        )
    }
}

/// Mean losses: of all images (`loss`), what it were if the network predicted nothing (`nothing`), of each
/// task where there are several (`loss/colorization`), and of each fifth of the noise schedule from the least
/// noise (`noise/0`) to the most (`noise/4`).
pub fn losses(images: &[ImageLoss], state: &TrainState, noise: bool) -> Metrics {
    let mut sums: BTreeMap<String, (f64, u64)> = BTreeMap::new();
    let mut add = |name: String, loss: f64| {
        let sum = sums.entry(name).or_default();
        *sum = (sum.0 + loss, sum.1 + 1);
    };
    let several = images.windows(2).any(|pair| pair[0].task != pair[1].task);
    for image in images {
        add("loss".to_owned(), image.loss);
        add("nothing".to_owned(), image.nothing);
        if several {
            add(format!("loss/{}", image.task), image.loss);
        }
        if noise {
            add(format!("noise/{}", state.objective().noise_bin(image.gamma)), image.loss);
        }
    }
    sums.into_iter().map(|(name, (sum, count))| (name, sum / count as f64)).collect()
}

fn peak_memory(device: Device) -> Option<u64> {
    torch_ext::memory(device).ok().map(|memory| memory.peak).filter(|&peak| peak > 0)
}
