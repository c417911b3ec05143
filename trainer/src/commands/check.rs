//! `trainer check`: what a configuration means, before anything is queued.

use clap::Args;
use diffusion::{Memory, Precision};
use pipeline::Dataset;
use serde::Serialize;
use tch::Device;

use super::{ExperimentArgs, thousands};
use crate::ranks::crew;
use crate::validation;
use contracts::DeviceChoice;
use contracts::Experiment;
use contracts::experiment::{Advice, TrainConfig};

/// GPUs by their memory.
const GPUS: [u64; 3] = [24, 40, 80];

/// Bytes of a GPU that the driver, CUDA's context and the kernels of libtorch take. An allowance; it was
/// not measured.
const CONTEXT: u64 = 1_000_000_000;

/// Allowance for fragmentation: 1/20 of the step's own tensors.
const LOST: u64 = 20;

#[derive(Args)]
#[command(after_help = "\
Examples:
  trainer check configs/paper/multitask.toml
  trainer check configs/paper/colorization.toml --set train.micro_batch=8
  trainer check configs/paper/colorization.toml --ranks 8 --set train.shard_optimizer=true")]
pub struct Check {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// Say what each of N ranks takes, on whatever number of hosts they are.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..))]
    ranks: u16,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Meaning {
    name: String,
    config_digest: String,
    network: diffusion::Complexity,
    /// Multiply-accumulates of one forward pass of one image, in units of 10⁹.
    gmac: f64,
    image_size: [u32; 2],
    steps: u64,
    batch_size: usize,
    /// Processes that train together; what follows is that of each.
    ranks: usize,
    /// Images that go through the network at once.
    micro_batch: usize,
    images_seen: u64,
    /// Images of the datasets that are there; none where one is not there yet.
    images: Option<u64>,
    epochs: Option<f64>,
    /// What `train.device` means for the memory: `cuda`, also where it is `auto`, or `cpu`.
    device: &'static str,
    precision: Precision,
    /// What `train.shard_optimizer` saves of moments and averages, or would save.
    sharding_saves_bytes: u64,
    /// What a step with one micro-batch takes, by what it is.
    memory: Memory,
    /// All of it: what libtorch's allocator has in use at the worst moment, workspaces included.
    training_bytes: u64,
    /// What of it is there between two steps.
    state_bytes: u64,
    /// What an image of the micro-batch takes.
    activation_bytes: u64,
    checkpoint_bytes: u64,
    /// What the fixed images of validation and previews take of the host's memory.
    validation_bytes: u64,
    /// Whether the micro-batch fits, by GPU (estimates).
    cards: Vec<Card>,
    /// The largest micro-batch by GPU and way of computing (estimates).
    fits: Vec<Fit>,
    /// What does not fit the length of the run.
    advice: Vec<Advice>,
}

/// Whether the experiment as it is fits a GPU.
#[derive(Serialize)]
struct Card {
    gigabytes: u64,
    /// Of the whole GPU, with the driver's share and what the allocator loses.
    needed_bytes: u64,
    fits: bool,
}

/// What fits into a GPU.
#[derive(Serialize)]
struct Fit {
    gigabytes: u64,
    precision: Precision,
    recompute: bool,
    /// Largest `train.micro_batch`, at most what a rank has of the batch, or a share; 0 where nothing fits.
    micro_batch: u64,
}

/// Bytes of a GPU that a step needs.
fn needed(memory: &Memory) -> u64 {
    let own = memory.images + memory.activations + memory.flowing;
    memory.total() + own / LOST + CONTEXT
}

/// Whether a training step fits into a GPU with `gigabytes` GB (10⁹ bytes).
fn fits(memory: &Memory, gigabytes: u64) -> bool {
    needed(memory) <= gigabytes * 1_000_000_000
}

/// The largest micro-batch of a rank that fits a GPU; 0 where nothing fits.
fn largest(
    experiment: &Experiment,
    ranks: usize,
    gigabytes: u64,
    precision: Precision,
    recompute: bool,
) -> diffusion::Result<u64> {
    let mut tried = experiment.clone();
    let mut fitting = |images: usize| {
        let precision = precision.into();
        tried.train =
            TrainConfig { micro_batch: images, precision, recompute, ..tried.train.clone() };
        Ok::<_, diffusion::Error>(fits(&tried.memory(Device::Cuda(0), ranks)?, gigabytes))
    };
    // The largest that fits is at least `low` and below `high`.
    let whole = TrainConfig { micro_batch: 0, ..experiment.train.clone() };
    let (mut low, mut high) = (0, whole.at_once_of(ranks) + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fitting(middle)? { low = middle } else { high = middle }
    }
    Ok(low as u64)
}

impl Check {
    pub fn run(self) -> anyhow::Result<()> {
        let (experiment, _) = self.experiment.load()?;
        let ranks = usize::from(self.ranks);
        crew::check(&experiment, ranks)?;
        let meaning = Meaning::of(&experiment, ranks)?;
        if self.json { terminal::print_json(&meaning) } else { meaning.print(&experiment) }
    }
}

impl Meaning {
    fn of(experiment: &Experiment, ranks: usize) -> anyhow::Result<Self> {
        let train = &experiment.train;
        let network = experiment.model.complexity(experiment.size())?;
        let at_once = train.at_once_of(ranks);
        let averages = train.ema.0.len() as u64;
        let device = match train.device {
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Auto | DeviceChoice::Cuda => Device::Cuda(0),
        };
        let memory = experiment.memory(device, ranks)?;
        let on_gpu = experiment.memory(Device::Cuda(0), ranks)?;
        let held = |shard_optimizer| {
            let mut other = experiment.clone();
            other.train.shard_optimizer = shard_optimizer;
            let memory = other.memory(device, ranks)?;
            Ok::<_, diffusion::Error>(memory.moments + memory.averages)
        };
        let sharding_saves_bytes = held(false)? - held(true)?;
        let cards = GPUS.map(|gigabytes| Card {
            gigabytes,
            needed_bytes: needed(&on_gpu),
            fits: fits(&on_gpu, gigabytes),
        });
        let mut fits = Vec::new();
        for gigabytes in GPUS {
            for precision in [Precision::Fp32, Precision::Bf16] {
                for recompute in [false, true] {
                    let micro_batch = largest(experiment, ranks, gigabytes, precision, recompute)?;
                    fits.push(Fit { gigabytes, precision, recompute, micro_batch });
                }
            }
        }
        let images = experiment
            .data
            .datasets
            .iter()
            .map(|dataset| Dataset::open(&dataset.uri).ok().map(|dataset| dataset.len()))
            .sum::<Option<u64>>()
            .filter(|images| *images > 0);
        let images_seen = train.steps.saturating_mul(train.batch_size as u64);
        Ok(Self {
            name: experiment.name.clone(),
            config_digest: experiment.digest(),
            gmac: network.macs as f64 / 1e9,
            image_size: experiment.size(),
            steps: train.steps,
            batch_size: train.batch_size,
            ranks,
            micro_batch: at_once,
            images_seen,
            images,
            epochs: images.map(|images| images_seen as f64 / images as f64),
            device: if device.is_cuda() { "cuda" } else { "cpu" },
            precision: train.precision.on(device),
            sharding_saves_bytes,
            training_bytes: memory.total(),
            state_bytes: memory.state(),
            activation_bytes: (memory.images + memory.activations + memory.flowing)
                / at_once as u64,
            memory,
            cards: cards.into(),
            // Weights, moving averages and two moments in fp32.
            checkpoint_bytes: network.parameters * (12 + 4 * averages),
            validation_bytes: validation::host_bytes(experiment),
            fits,
            advice: experiment.advice(),
            network,
        })
    }

    fn print(&self, experiment: &Experiment) -> anyhow::Result<()> {
        let [height, width] = self.image_size;
        let tasks = experiment.data.tasks.iter().filter(|(_, weight)| **weight > 0.0);
        let attention = match &self.network.attention_at[..] {
            [] => "nowhere".to_owned(),
            at => format!("at {}", list(at)),
        };
        let lines = [
            ("experiment", self.name.clone()),
            ("reads", reads(experiment)),
            ("checkpoints to", checkpoints_to(experiment)),
            (
                "tasks",
                tasks
                    .map(|(task, weight)| format!("{task} {weight}"))
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
            ("images", format!("{height}×{width}")),
            (
                "network",
                format!(
                    "{} parameters in {} tensors",
                    thousands(self.network.parameters),
                    self.network.tensors
                ),
            ),
            ("forward pass", format!("{:.1} GMAC an image", self.gmac)),
            ("resolutions", list(&self.network.resolutions)),
            ("attention", attention),
            (
                "memory",
                format!(
                    "{}{} of state, {} an image, {} in all with {} images at once, {} on {} (estimate)",
                    if self.ranks > 1 { "of each rank " } else { "" },
                    terminal::bytes(self.state_bytes),
                    terminal::bytes(self.activation_bytes),
                    terminal::bytes(self.training_bytes),
                    self.micro_batch,
                    self.precision,
                    self.device
                ),
            ),
            ("of it", self.parts()),
            ("fits", self.fitting()),
            ("checkpoint", terminal::bytes(self.checkpoint_bytes)),
            (
                "validation",
                format!("{} of the host's memory", terminal::bytes(self.validation_bytes)),
            ),
            (
                "steps",
                format!("{} of {} images{}", thousands(self.steps), self.batch_size, self.slices()),
            ),
            (
                "images seen",
                match (self.images, self.epochs) {
                    (Some(images), Some(epochs)) => format!(
                        "{}, {epochs:.1} epochs of {}",
                        thousands(self.images_seen),
                        thousands(images)
                    ),
                    _ => {
                        format!("{} (the datasets are not there yet)", thousands(self.images_seen))
                    }
                },
            ),
            ("config digest", self.config_digest.clone()),
        ];
        let sharding = (self.ranks > 1).then(|| ("sharding", self.sharding(experiment)));
        for (key, value) in lines.into_iter().chain(sharding) {
            terminal::print(&format!("{key:<15}{value}"))?;
        }
        terminal::print("\nlargest train.micro_batch by GPU memory (estimates)")?;
        let mut table = terminal::Table::new(&[
            "GPU",
            "fp32, tf32",
            "the same, recompute",
            "bf16",
            "bf16, recompute",
        ]);
        for fits in self.fits.chunks(4) {
            let memory = fits.first().map_or(0, |fit| fit.gigabytes);
            let cells = fits.iter().map(|fit| match fit.micro_batch {
                0 => "nothing fits".to_owned(),
                images => images.to_string(),
            });
            table.row(std::iter::once(format!("{memory} GB")).chain(cells));
        }
        table.print()?;
        for (number, advice) in self.advice.iter().enumerate() {
            let gap = if number == 0 { "\n" } else { "" };
            terminal::print(&format!("{gap}does not fit the run: {advice}"))?;
        }
        Ok(())
    }
}

impl Meaning {
    /// What of a batch falls to a rank.
    fn slices(&self) -> String {
        let (least, most) = (self.batch_size / self.ranks, self.batch_size.div_ceil(self.ranks));
        match (self.ranks, least == most) {
            (1, _) => String::new(),
            (ranks, true) => format!(", {most} for each of {ranks} ranks"),
            (ranks, false) => format!(", {least} or {most} for each of {ranks} ranks"),
        }
    }

    /// What sharding saves or would save.
    fn sharding(&self, experiment: &Experiment) -> String {
        let saved = terminal::bytes(self.sharding_saves_bytes);
        let copy = terminal::bytes(self.memory.weights);
        match experiment.train.shard_optimizer {
            true => format!(
                "saves {saved} of each rank at least; after a step it takes a copy of the weights, {copy}, for a \
                 moment"
            ),
            false => {
                format!("train.shard_optimizer = true would save {saved} of each rank at least")
            }
        }
    }

    /// The parts of the memory, those that are there.
    fn parts(&self) -> String {
        let memory = &self.memory;
        [
            ("weights", memory.weights),
            ("gradients", memory.gradients),
            ("moments", memory.moments),
            ("averages", memory.averages),
            ("weights in bf16", memory.bf16_weights),
            ("images", memory.images),
            ("activations", memory.activations),
            ("gradients under way", memory.flowing),
            ("weights put together", memory.joined),
            ("workspaces", memory.workspaces),
        ]
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(part, bytes)| format!("{part} {}", terminal::bytes(bytes)))
        .collect::<Vec<_>>()
        .join(", ")
    }

    /// Which GPUs hold it.
    fn fitting(&self) -> String {
        let cards = self.cards.iter().map(|card| {
            let fits = if card.fits { "yes" } else { "no" };
            format!("{} GB: {fits}", card.gigabytes)
        });
        let needed = self.cards.first().map_or(0, |card| card.needed_bytes);
        format!("{} ({} of the GPU)", cards.collect::<Vec<_>>().join(", "), terminal::bytes(needed))
    }
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
/// The places that a configuration names to be read: whoever runs it reaches for them.
fn reads(experiment: &Experiment) -> String {
    let train = &experiment.train;
    let preview = train.preview.as_ref().and_then(|preview| preview.dataset.as_ref());
    let places = experiment.data.datasets.iter().map(|dataset| &dataset.uri);
    let places = places.chain(&train.init);
    let places = places.chain(train.validation.as_ref().map(|validation| &validation.dataset));
    let mut all: Vec<String> = Vec::new();
    for place in places.chain(preview).map(ToString::to_string) {
        if !all.contains(&place) {
            all.push(place);
        }
    }
    if all.is_empty() { "nothing yet".to_owned() } else { all.join(", ") }
}

/// The place that it names for checkpoints.
fn checkpoints_to(experiment: &Experiment) -> String {
    let place = experiment.train.checkpoint.place.as_ref();
    place.map_or_else(|| "PALETTE_HOME".to_owned(), |place| format!("{place}/RUN"))
}
