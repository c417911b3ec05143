//! The ranks of a measurement: those that the command starts, or those that somebody else started.

use std::process::ExitCode;

use anyhow::Result;
use contracts::DeviceChoice;
use tch::Device;
use terminal::Usage;

use super::rank::follow_alone;
use crate::ranks::crew::Crew;
use crate::ranks::outside::{self, Outside};
use crate::ranks::plan::Plan;

/// Which ranks there are to be.
pub struct Team {
    /// Set where somebody else started them.
    outside: Option<Outside>,
    count: usize,
    choice: DeviceChoice,
    device: String,
}

impl Team {
    /// As many ranks as asked for or, where somebody else started them, those; on the device of this name.
    ///
    /// # Errors
    /// Wrong use, where it is one GPU for several ranks or the environment makes no sense.
    pub fn new(ranks: Option<u16>, device: &str) -> Result<Self> {
        let outside = outside::here()?;
        if let (Some(_), Some(ranks)) = (&outside, ranks) {
            return Err(Usage::new(format!(
                "--ranks {ranks}: whoever started this process has started the ranks already (WORLD_SIZE, or a \
                 step of Slurm); leave --ranks out"
            ))
            .into());
        }
        let count = outside.as_ref().map_or(ranks.map_or(1, usize::from), |outside| outside.size);
        if count > 1 && device.starts_with("cuda:") {
            return Err(Usage::new(format!(
                "--device {device} and {count} ranks: each rank takes the GPU of its own number, so give \
                 --device cuda"
            ))
            .into());
        }
        let choice = match device {
            "cpu" => DeviceChoice::Cpu,
            "auto" => DeviceChoice::Auto,
            _ => DeviceChoice::Cuda,
        };
        Ok(Self { outside, count, choice, device: device.to_owned() })
    }

    /// Number of ranks.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Threads of this host's cores that fall to each rank.
    pub fn cores(&self) -> usize {
        let here = self.outside.as_ref().map_or(self.count, |outside| outside.here.unwrap_or(1));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (cores / here).max(1)
    }

    /// The device of this rank.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn device(&self) -> Result<Device> {
        match &self.outside {
            Some(outside) => outside.device(self.choice),
            None => Ok(torch_ext::device_named(&self.device)?),
        }
    }

    /// Whether another rank leads.
    pub fn follows(&self) -> bool {
        self.outside.as_ref().is_some_and(|outside| outside.rank > 0)
    }

    /// Does what the first rank says.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn follow(&self) -> Result<ExitCode> {
        if let Some(outside) = &self.outside {
            follow_alone(outside, self.choice, true)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Leads the ranks through `body`, and ends them.
    ///
    /// # Errors
    /// Those of `body`, and when a rank cannot be started or is lost.
    pub fn lead<T>(&self, body: impl FnOnce(&Crew) -> Result<T>) -> Result<T> {
        let device = self.device()?;
        let crew = match &self.outside {
            Some(outside) => Crew::lead(outside, device, &mut || Ok(()))?,
            None => Crew::start(self.count, self.choice, device, &mut || Ok(()))?,
        };
        let done = body(&crew).and_then(|done| Plan::End.say(crew.ranks()).map(|()| done));
        crew.end(done)
    }
}
