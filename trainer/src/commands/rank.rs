//! `trainer rank`: a rank that the leader of this host started.

use std::process::ExitCode;

use clap::Args;
use contracts::DeviceChoice;
use registry::End;
use terminal::Usage;

use crate::ranks::children::{end_with_leader, say_last_words};
use crate::ranks::outside::{self, Outside};
use crate::ranks::plan::Plan;
use crate::ranks::{self, Ranks};
use crate::train::{Role, train};

#[derive(Args)]
pub struct Rank {
    /// Where to train: `auto`, `cpu` or `cuda`.
    device: String,
}

impl Rank {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        end_with_leader()?;
        let outside = outside::here()?
            .ok_or_else(|| Usage::new("this command is for the first rank of a run"))?;
        let device = match self.device.as_str() {
            "cpu" => DeviceChoice::Cpu,
            "cuda" => DeviceChoice::Cuda,
            _ => DeviceChoice::Auto,
        };
        match follow(&outside, device) {
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                say_last_words(&error);
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// Trains with the others what the first rank says.
pub fn follow(outside: &Outside, device: DeviceChoice) -> anyhow::Result<End> {
    let device = outside.device(device)?;
    let group = ranks::join(outside, None, device)?;
    let ranks = Ranks::of(&group, outside.here.unwrap_or(1));
    let experiment = Plan::hear(ranks)?;
    train(&experiment, Role::Follower, device, ranks, &crate::control::Follower)
}
