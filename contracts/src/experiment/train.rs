//! The table `[train]` of an experiment: steps, optimizer, averages, checkpoints, what is looked at on
//! the way. Defaults are the paper's.

use diffusion::Precision;
use serde::{Deserialize, Serialize};
use storage::Place;
use tch::Device;

use crate::{ConfigError, DeviceChoice};

/// Steps, optimizer, checkpoints.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Images a step.
    pub batch_size: usize,
    /// Images that go through the network at once, 0 for the whole batch; gradients of the parts
    /// are accumulated.
    pub micro_batch: usize,
    /// Learning rate of Adam after the warm-up.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Adam's decay rates of the first and second moments.
    pub betas: (f64, f64),
    /// Largest norm of the gradient, 0 for no clipping.
    pub clip: f64,
    /// Decay rate of the exponential moving average of the weights, or several: samples are drawn from
    /// the first.
    pub ema: Rates,
    /// Average over what there is at first: the decay rate of step n is at most (1 + n)/(10 + n).
    pub ema_warmup: bool,
    /// Numbers that the network computes in; weights, moments and averages are f32 whatever it is.
    pub precision: PrecisionChoice,
    /// The same bits from the same configuration on one model of GPU, as on the CPU, so that a run that
    /// is resumed there ends with the bits of one that was not. Slower: cuDNN and attention are held to
    /// kernels that sum in one order. Changes nothing on the CPU.
    pub deterministic: bool,
    /// Compute the inside of the network's blocks anew in the backward pass instead of keeping it:
    /// a third more work, a fraction of the memory.
    pub recompute: bool,
    /// A checkpoint folder whose first moving average the run starts from, such as `trainer import`
    /// makes; none for fresh weights.
    pub init: Option<Place>,
    /// Keys in which the network of `init` may differ from this configuration, such as
    /// `diffusion.prediction`; in any other it must not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub init_differs: Vec<String>,
    /// Steps between two records of loss and speed.
    pub log_every: u64,
    /// When the state is kept.
    pub checkpoint: CheckpointConfig,
    /// A loss on images that are not trained on; none without this table.
    pub validation: Option<ValidationConfig>,
    /// Pictures on the way; none without this table.
    pub preview: Option<PreviewConfig>,
    /// What is done about a loss that is no number or explodes.
    pub watch: WatchConfig,
    /// Where to train: the GPU if there is one.
    pub device: DeviceChoice,
    /// Threads of libtorch on the CPU, 0 for all cores of the machine that it begins on. Another number of
    /// threads sums in another order, so a run is repeated to the bit only with the same.
    pub threads: usize,
    /// Parts that every batch is cut into, whose gradients are summed by a tree that does not depend on the number
    /// of ranks: any number of ranks that divides it trains the same bits. A power of two; 0 for the sum that is
    /// fastest, which rounds otherwise on another number of ranks.
    #[serde(skip_serializing_if = "is_zero")]
    pub shares: usize,
    /// Each of several ranks keeps Adam's moments and the averages of its part of the weights alone.
    #[serde(skip_serializing_if = "is_false")]
    pub shard_optimizer: bool,
}

/// When the state of a run is kept, where and for how long.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between two checkpoints; there is always one at the end.
    pub every: u64,
    /// Also keep the untrained network, as step 0.
    pub initial: bool,
    /// Keep the newest so many, 0 for all. Whatever this is, step 0, the last one, the best one and
    /// those that a queued job needs stay.
    pub keep_last: u32,
    /// Also keep those of steps that are multiples of this, 0 for none.
    pub keep_every: u64,
    /// The metric that the best one is best by; the lowest value wins. Left out, it is the loss of the
    /// validation where there is one, else that of the training; empty until that is settled.
    pub best_by: String,
    /// Folder or address (`s3://…`, `gs://…`) under which each run makes a folder of its own; by
    /// default the house's.
    pub place: Option<Place>,
}

/// The loss of the first moving average on fixed images, with fixed noise.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationConfig {
    /// Dataset of the images.
    pub dataset: Place,
    /// Number of images.
    #[serde(default = "validation_images")]
    pub images: usize,
    /// Steps between two validations; there is always one at the end.
    pub every: u64,
}

/// Fixed images restored by the first moving average in few steps (DDIM).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewConfig {
    /// Dataset of the images; by default that of the validation, or the training's.
    #[serde(default)]
    pub dataset: Option<Place>,
    /// Number of images.
    #[serde(default = "preview_images")]
    pub images: usize,
    /// Steps of the reverse process.
    #[serde(default = "preview_steps")]
    pub steps: u32,
    /// Training steps between two pictures; there is always one at the end.
    pub every: u64,
}

fn validation_images() -> usize {
    256
}

fn preview_images() -> usize {
    8
}

fn preview_steps() -> u32 {
    20
}

/// What is done about a loss that is no number any more, or explodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchConfig {
    /// How often the run goes back to its last checkpoint and takes other noise before it fails.
    pub rewinds: u32,
    /// The loss explodes when the median of 50 steps is so many times the lowest such median; 0 to
    /// look for numbers that are none only.
    pub explode: f64,
}

/// Numbers that the network computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// bf16 on a GPU, fp32 on the CPU, as the run begins; one that is resumed elsewhere keeps it.
    Auto,
    /// See [`Precision::Fp32`].
    Fp32,
    /// See [`Precision::Tf32`].
    Tf32,
    /// See [`Precision::Bf16`].
    Bf16,
}

impl PrecisionChoice {
    /// What it means on a GPU or on the CPU.
    pub fn on(self, device: Device) -> Precision {
        match self {
            Self::Auto if device.is_cuda() => Precision::Bf16,
            Self::Auto | Self::Fp32 => Precision::Fp32,
            Self::Tf32 => Precision::Tf32,
            Self::Bf16 => Precision::Bf16,
        }
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Fp32 => Self::Fp32,
            Precision::Tf32 => Self::Tf32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

/// Decay rates; in a file a number stands for one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "OneOrMany")]
pub struct Rates(pub Vec<f64>);

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "a decay rate or a list of them")]
enum OneOrMany {
    One(f64),
    Many(Vec<f64>),
}

impl From<OneOrMany> for Rates {
    fn from(rates: OneOrMany) -> Self {
        match rates {
            OneOrMany::One(rate) => Self(vec![rate]),
            OneOrMany::Many(rates) => Self(rates),
        }
    }
}

impl From<Rates> for OneOrMany {
    fn from(rates: Rates) -> Self {
        match rates.0[..] {
            [rate] => Self::One(rate),
            _ => Self::Many(rates.0),
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 1_000_000,
            batch_size: 1024,
            micro_batch: 0,
            learning_rate: 1e-4,
            warmup_steps: 10_000,
            betas: (0.9, 0.999),
            clip: 0.0,
            ema: Rates(vec![0.9999]),
            ema_warmup: false,
            precision: PrecisionChoice::Fp32,
            deterministic: false,
            recompute: false,
            shares: 0,
            shard_optimizer: false,
            init: None,
            init_differs: Vec::new(),
            log_every: 100,
            checkpoint: CheckpointConfig::default(),
            validation: None,
            preview: None,
            watch: WatchConfig::default(),
            device: DeviceChoice::Auto,
            threads: 0,
        }
    }
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every: 10_000,
            initial: false,
            keep_last: 0,
            keep_every: 0,
            best_by: String::new(),
            place: None,
        }
    }
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { rewinds: 2, explode: 20.0 }
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn is_false(value: &bool) -> bool {
    !value
}

impl TrainConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the key, its value and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let inside = |key: &str, good: bool, value: &dyn std::fmt::Display, allowed: &str| {
            if good {
                return Ok(());
            }
            Err(ConfigError::value(format!("train.{key}"), value, allowed))
        };
        let (rate, some) = ("at least 0 and below 1", "at least 1");
        inside("steps", self.steps > 0, &self.steps, some)?;
        let sizes = (1..=65_536).contains(&self.batch_size);
        inside("batch_size", sizes, &self.batch_size, "1 to 65536")?;
        let parts = self.micro_batch <= self.batch_size;
        inside("micro_batch", parts, &self.micro_batch, "0 or at most train.batch_size")?;
        let shares = self.shares == 0
            || (self.shares.is_power_of_two() && self.batch_size.is_multiple_of(self.shares));
        let allowed = "0, or a power of two that divides train.batch_size";
        inside("shares", shares, &self.shares, allowed)?;
        let positive = self.learning_rate > 0.0 && self.learning_rate <= 1.0;
        inside("learning_rate", positive, &self.learning_rate, "above 0 and at most 1")?;
        let (first, second) = self.betas;
        inside("betas", (0.0..1.0).contains(&first), &first, rate)?;
        inside("betas", (0.0..1.0).contains(&second), &second, rate)?;
        let finite = self.clip >= 0.0 && self.clip.is_finite();
        inside("clip", finite, &self.clip, "0 (no clipping) or a positive number")?;
        let count = self.ema.0.len();
        inside("ema", (1..=8).contains(&count), &format!("{count} rates"), "1 to 8 rates")?;
        for one in &self.ema.0 {
            inside("ema", (0.0..1.0).contains(one), one, rate)?;
        }
        inside("log_every", self.log_every > 0, &self.log_every, some)?;
        let checkpoint = &self.checkpoint;
        inside("checkpoint.every", checkpoint.every > 0, &checkpoint.every, some)?;
        if let Some(validation) = &self.validation {
            inside("validation.every", validation.every > 0, &validation.every, some)?;
            let images = (1..=100_000).contains(&validation.images);
            inside("validation.images", images, &validation.images, "1 to 100000")?;
        }
        if let Some(preview) = &self.preview {
            inside("preview.every", preview.every > 0, &preview.every, some)?;
            let images = (1..=64).contains(&preview.images);
            inside("preview.images", images, &preview.images, "1 to 64")?;
            let steps = (1..=1000).contains(&preview.steps);
            inside("preview.steps", steps, &preview.steps, "1 to 1000")?;
        }
        let watch = &self.watch;
        inside("watch.rewinds", watch.rewinds <= 10, &watch.rewinds, "at most 10")?;
        let explode = watch.explode == 0.0 || (watch.explode > 1.0 && watch.explode.is_finite());
        inside("watch.explode", explode, &watch.explode, "0 or above 1")?;
        inside("threads", self.threads <= 1024, &self.threads, "0 (all cores) to 1024")
    }

    /// Learning rate of the step that makes `step` (counted from 1) steps done.
    pub fn rate(&self, step: u64) -> f64 {
        if step >= self.warmup_steps {
            self.learning_rate
        } else {
            self.learning_rate * step as f64 / self.warmup_steps as f64
        }
    }

    /// Decay rate of an average at the step that makes `step` steps done.
    pub fn decay(&self, rate: f64, step: u64) -> f64 {
        let step = step as f64;
        if self.ema_warmup { rate.min((1.0 + step) / (10.0 + step)) } else { rate }
    }

    /// Images that go through the network at once.
    pub fn at_once(&self) -> usize {
        if self.micro_batch == 0 { self.batch_size } else { self.micro_batch }
    }

    /// Images that go through the network of one of `ranks` processes at once: at most its part of the batch, and at
    /// most a share.
    pub fn at_once_of(&self, ranks: usize) -> usize {
        self.at_once().min(self.batch_size.div_ceil(self.shares.max(ranks).max(1)))
    }

    /// Flat buffers that one of `ranks` processes, which divide the shares, adds up its gradients in; 0 where it adds
    /// them up in place. There is one for each height of the tree of its shares and, where the ranks exchange parts
    /// of them, one for those.
    pub fn buffers(&self, ranks: usize) -> u32 {
        match (self.shares, ranks) {
            (0, 0 | 1) => 0,
            (0, _) => 1,
            (shares, ranks) => {
                let own = (shares / ranks.max(1)).max(1);
                (own.ilog2() + 1).max(if ranks > 1 { 2 } else { 1 })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_begin_with_what_there_is() {
        let mut config = TrainConfig::default();
        assert_eq!(config.decay(0.9999, 1), 0.9999);
        config.ema_warmup = true;
        assert_eq!(config.decay(0.9999, 0), 0.1);
        assert_eq!(config.decay(0.9999, 1_000_000), 0.9999);
    }

    #[test]
    fn one_rate_or_several() {
        let parse = |text: &str| toml::from_str::<TrainConfig>(text);
        assert_eq!(parse("ema = 0.9").unwrap().ema, Rates(vec![0.9]));
        assert_eq!(parse("ema = [0.9, 0.99]").unwrap().ema, Rates(vec![0.9, 0.99]));
        let error = parse("ema = \"slow\"").unwrap_err().to_string();
        assert!(error.contains("a decay rate or a list"), "{error}");
        assert!(
            parse("ema = []").unwrap().validate().unwrap_err().to_string().contains("1 to 8 rates")
        );
        assert!(
            parse("ema = [0.9, 1]")
                .unwrap()
                .validate()
                .unwrap_err()
                .to_string()
                .contains("train.ema")
        );
    }
}
