//! `trainer check`: what a configuration means, before anything is queued.

use clap::Args;
use diffusion::Precision;
use pipeline::Dataset;
use serde::Serialize;

use super::{Source, thousands};
use crate::config::DeviceChoice;
use crate::experiment::Experiment;

/// GPUs by their memory.
const GPUS: [u64; 3] = [24, 40, 80];

/// Of a GPU's memory what training can have: the rest is the driver's, workspaces' and lost between
/// blocks.
const USABLE: f64 = 0.9;

#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    source: Source,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
pub(super) struct Meaning {
    name: String,
    config_digest: String,
    network: diffusion::Cost,
    /// Multiply-accumulates of one forward pass of one image, in units of 10⁹.
    gmac: f64,
    image_size: [u32; 2],
    steps: u64,
    batch_size: usize,
    micro_batch: usize,
    images_seen: u64,
    /// Images of the datasets that are there; none where one is not there yet.
    images: Option<u64>,
    epochs: Option<f64>,
    /// Weights, gradients, moments, moving averages and activations of a micro-batch, on the CPU or
    /// GPU as configured.
    pub(super) training_bytes: u64,
    /// The same without activations.
    state_bytes: u64,
    /// Activations of one image.
    activation_bytes: u64,
    checkpoint_bytes: u64,
    /// The largest micro-batch by GPU and way of computing (estimates).
    fits: Vec<Fit>,
}

/// What fits into a GPU.
#[derive(Serialize)]
struct Fit {
    gigabytes: u64,
    precision: Precision,
    recompute: bool,
    /// Largest `train.micro_batch`, at most the batch; 0 where nothing fits.
    micro_batch: u64,
}

impl Check {
    pub fn run(self) -> anyhow::Result<()> {
        let experiment = self.source.load()?;
        let meaning = Meaning::of(&experiment)?;
        if self.json { terminal::print_json(&meaning) } else { meaning.print(&experiment) }
    }
}

impl Meaning {
    pub(super) fn of(experiment: &Experiment) -> anyhow::Result<Self> {
        let train = &experiment.train;
        let network = experiment.model.cost(experiment.size())?;
        let at_once = train.at_once();
        // Weights, gradients, two moments; the averages; bf16 keeps its copies of the weights besides.
        let averages = train.ema.0.len() as u64;
        let state = |precision: Precision| {
            let half = u64::from(precision == Precision::Bf16);
            network.parameters * (16 + 4 * averages + 2 * half)
        };
        let cpu = train.device == DeviceChoice::Cpu;
        let activation_bytes = network.activations.bytes(train.precision, train.recompute, cpu);
        let state_bytes = state(train.precision);
        let mut fits = Vec::new();
        for gigabytes in GPUS {
            let room = (gigabytes as f64 * 1e9 * USABLE) as u64;
            for precision in [Precision::Fp32, Precision::Bf16] {
                for recompute in [false, true] {
                    let image = network.activations.bytes(precision, recompute, false);
                    let images = room.saturating_sub(state(precision)) / image.max(1);
                    let micro_batch = images.min(train.batch_size as u64);
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
            micro_batch: at_once,
            images_seen,
            images,
            epochs: images.map(|images| images_seen as f64 / images as f64),
            training_bytes: state_bytes
                .saturating_add(activation_bytes.saturating_mul(at_once as u64)),
            state_bytes,
            activation_bytes,
            // Weights, moving averages and two moments in fp32.
            checkpoint_bytes: network.parameters * (12 + 4 * averages),
            fits,
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
                    "{} of state, {} of activations an image, {} in all with {} images at once (estimate)",
                    terminal::bytes(self.state_bytes),
                    terminal::bytes(self.activation_bytes),
                    terminal::bytes(self.training_bytes),
                    self.micro_batch
                ),
            ),
            ("checkpoint", terminal::bytes(self.checkpoint_bytes)),
            ("steps", format!("{} of {} images", thousands(self.steps), self.batch_size)),
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
        for (key, value) in lines {
            terminal::print(&format!("{key:<14}{value}"))?;
        }
        terminal::print("\nlargest train.micro_batch by GPU memory (estimates)")?;
        let mut table =
            terminal::Table::new(&["GPU", "fp32", "fp32, recompute", "bf16", "bf16, recompute"]);
        for fits in self.fits.chunks(4) {
            let memory = fits.first().map_or(0, |fit| fit.gigabytes);
            let cells = fits.iter().map(|fit| match fit.micro_batch {
                0 => "nothing fits".to_owned(),
                images => images.to_string(),
            });
            table.row(std::iter::once(format!("{memory} GB")).chain(cells));
        }
        table.print()
    }
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
