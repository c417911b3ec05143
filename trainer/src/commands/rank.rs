//! `trainer rank`: a rank that the leader of this host started.

use std::process::ExitCode;

use clap::Args;
use contracts::DeviceChoice;
use registry::End;
use tch::Device;
use terminal::Usage;
use torch_ext::group::Group;

use super::bench::steps;
use super::collectives;
use crate::control::Follower;
use crate::ranks::children::{end_with_leader, say_last_words};
use crate::ranks::crew::Crew;
use crate::ranks::meeting::join;
use crate::ranks::outside::{self, Outside};
use crate::ranks::plan::Plan;
use crate::ranks::{LostRank, Ranks};
use crate::train::{Role, train};

#[derive(Args)]
pub struct Rank {
    /// Where to train: `auto`, `cpu` or `cuda`.
    device: String,
    /// A worker has started it, as the first rank of its host: it starts the others.
    #[arg(long)]
    seat: bool,
}

impl Rank {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if !self.seat {
            end_with_leader()?;
        }
        let outside = outside::here()?
            .ok_or_else(|| Usage::new("this command is for the first rank of a run"))?;
        let device = match self.device.as_str() {
            "cpu" => DeviceChoice::Cpu,
            "cuda" => DeviceChoice::Cuda,
            _ => DeviceChoice::Auto,
        };
        if self.seat {
            let found = outside.device(device)?;
            let crew = Crew::joined(&outside, None, device, found, &mut || Ok(()))?;
            let here = outside.here.unwrap_or(1);
            let end =
                crew.group().map_or(Ok(End::Finished), |group| follow(group, here, found, false));
            return match crew.end(end) {
                // Others were lost first: their workers say why.
                Err(error) if error.downcast_ref::<LostRank>().is_some() => {
                    tracing::warn!("{error:#}");
                    Ok(ExitCode::from(registry::STOPPED))
                }
                end => end.map(|_| ExitCode::SUCCESS),
            };
        }
        match follow_alone(&outside, device, false) {
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                say_last_words(&error);
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// Joins as one rank, and does with the others what the first says. A rank that somebody else started `hears` the
/// signals that ask for a stop.
pub fn follow_alone(outside: &Outside, device: DeviceChoice, hears: bool) -> anyhow::Result<End> {
    let device = outside.device(device)?;
    let group = join(outside, None, device, &mut || Ok(()))?;
    follow(&group, outside.here.unwrap_or(1), device, hears)
}

/// Does with the others what the first rank says.
fn follow(group: &Group, here: usize, device: Device, hears: bool) -> anyhow::Result<End> {
    let ranks = Ranks::of(group, here);
    loop {
        match Plan::hear(ranks)? {
            Plan::Train(told) => {
                let experiment = told.experiment()?;
                let control = if hears { Follower::hearing()? } else { Follower::default() };
                return train(&experiment, Role::Follower, device, ranks, &control);
            }
            Plan::Steps(told, measurement) => {
                torch_ext::release_device(device)?;
                torch_ext::reset_peak_memory(device)?;
                steps::measure(&told.experiment()?, measurement, device, ranks, None)?;
            }
            Plan::Collectives(sizes) => {
                collectives::measure(&sizes, group, ranks)?;
            }
            Plan::End => return Ok(End::Finished),
        }
    }
}
