//! `trainer rank`: a rank that the leader of this host started.

use std::process::ExitCode;

use clap::Args;
use contracts::DeviceChoice;
use registry::End;
use terminal::Usage;

use super::bench::steps;
use super::collectives;
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

/// Does with the others what the first rank says.
pub fn follow(outside: &Outside, device: DeviceChoice) -> anyhow::Result<End> {
    let device = outside.device(device)?;
    let group = ranks::join(outside, None, device)?;
    let ranks = Ranks::of(&group, outside.here.unwrap_or(1));
    loop {
        match Plan::hear(ranks)? {
            Plan::Train(told) => {
                let experiment = told.experiment()?;
                let control = &crate::control::Follower;
                return train(&experiment, Role::Follower, device, ranks, control);
            }
            Plan::Steps(told, measurement) => {
                torch_ext::release_device(device)?;
                torch_ext::reset_peak_memory(device)?;
                steps::measure(&told.experiment()?, measurement, device, ranks, None)?;
            }
            Plan::Collectives(sizes) => {
                collectives::measure(&sizes, &group, ranks)?;
            }
            Plan::End => return Ok(End::Finished),
        }
    }
}
