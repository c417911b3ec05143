//! `trainer check`: what a configuration means, before anything is queued.

use clap::Args;
use pipeline::Dataset;
use serde::Serialize;

use super::Source;
use crate::experiment::Experiment;

#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    source: Source,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Meaning {
    name: String,
    config_digest: String,
    network: diffusion::Cost,
    /// Multiply-accumulates of one forward pass of one image, in units of 10⁹.
    gmac: f64,
    image_size: u32,
    steps: u64,
    batch_size: usize,
    micro_batch: usize,
    images_seen: u64,
    /// Images of the datasets that are there; none where one is not there yet.
    images: Option<u64>,
    epochs: Option<f64>,
    /// Weights, gradients, moments, moving average and activations of a micro-batch.
    training_bytes: u64,
    checkpoint_bytes: u64,
}

impl Check {
    pub fn run(self) -> anyhow::Result<()> {
        let experiment = self.source.load()?;
        let meaning = Meaning::of(&experiment)?;
        if self.json { terminal::print_json(&meaning) } else { meaning.print(&experiment) }
    }
}

impl Meaning {
    fn of(experiment: &Experiment) -> anyhow::Result<Self> {
        let train = &experiment.train;
        let network = experiment.model.cost(experiment.side())?;
        let at_once = if train.micro_batch == 0 { train.batch_size } else { train.micro_batch };
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
            image_size: experiment.side(),
            steps: train.steps,
            batch_size: train.batch_size,
            micro_batch: at_once,
            images_seen,
            images,
            epochs: images.map(|images| images_seen as f64 / images as f64),
            training_bytes: network
                .state_bytes
                .saturating_add(network.activation_bytes.saturating_mul(at_once as u64)),
            // Weights, moving average and two moments in fp32.
            checkpoint_bytes: network.parameters * 16,
            network,
        })
    }

    fn print(&self, experiment: &Experiment) -> anyhow::Result<()> {
        let size = self.image_size;
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
            ("images", format!("{size}×{size}")),
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
                    "{} of state, {} of activations an image, {} in all with {} images at once (estimate, fp32)",
                    terminal::bytes(self.network.state_bytes),
                    terminal::bytes(self.network.activation_bytes),
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
        Ok(())
    }
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// `552814083` as `552,814,083`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (552_814_083, "552,814,083")]
        {
            assert_eq!(super::thousands(number), text);
        }
    }
}
