//! `evaluator classifier`: trains a small classifier on a dataset and makes an extractor of it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use terminal::Usage;

use crate::classifier::{Options, Photographs, export, train};

#[derive(Args)]
#[command(after_help = "\
Examples:
  evaluator classifier --train data/train --held-out data/held-out --out classifier.pt")]
pub struct Classifier {
    /// Dataset to learn from, with classes.
    #[arg(long, value_name = "URI")]
    train: storage::Place,
    /// Dataset of the same classes to say how good it is.
    #[arg(long, value_name = "URI")]
    held_out: storage::Place,
    /// The TorchScript file; its configuration is written beside it, ending in .toml.
    #[arg(long, value_name = "FILE.pt", value_parser = storage::named::whole_file)]
    out: PathBuf,
    /// Side of the pictures in pixels.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(16..=256))]
    size: u32,
    /// Passes over the dataset.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    epochs: u32,
    /// Channels of the first stage; features have four times as many numbers.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(i64).range(4..=512))]
    channels: i64,
    /// Largest learning rate.
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
    /// Seed of weights, order and variations.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Made {
    classes: i64,
    accuracy: f64,
    training_accuracy: f64,
    images: i64,
    held_out: i64,
    extractor: PathBuf,
}

impl Classifier {
    pub fn run(self) -> Result<()> {
        if self.out.extension().is_none_or(|ending| ending != "pt") {
            return Err(Usage::new("--out must end in .pt").into());
        }
        if !(self.rate > 0.0 && self.rate <= 1.0) {
            return Err(Usage::new("--rate is out of range: more than 0, at most 1").into());
        }
        let learn = Photographs::read(&self.train, self.size)?;
        let held_out = Photographs::read(&self.held_out, self.size)?;
        let Self { epochs, channels, rate, seed, .. } = self;
        let trained = train(&learn, &held_out, Options { epochs, channels, rate, seed })?;
        let extractor = export(&trained, self.size, &self.out)?;
        let made = Made {
            classes: learn.count,
            accuracy: trained.accuracy,
            training_accuracy: trained.training_accuracy,
            images: learn.classes.size()[0],
            held_out: held_out.classes.size()[0],
            extractor,
        };
        if self.json {
            return terminal::print_json(&made);
        }
        terminal::print(&format!(
            "{:.1} % of {} held-out photographs of {} classes ({:.1} % of the {} that it learned from); {}",
            100.0 * made.accuracy,
            made.held_out,
            made.classes,
            100.0 * made.training_accuracy,
            made.images,
            made.extractor.display()
        ))
    }
}
