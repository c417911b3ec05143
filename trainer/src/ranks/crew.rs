//! The ranks of an attempt, as its leader has them: those that it started on this host, or those that somebody
//! else started.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};
use contracts::{DeviceChoice, Experiment};
use tch::{Cuda, Device};
use terminal::Usage;
use torch_ext::group::Group;

use super::children::Children;
use super::outside::Outside;
use super::{Ranks, join, limit};

/// The ranks of an attempt.
pub struct Crew {
    group: Option<Group>,
    children: Option<Children>,
    here: usize,
}

impl Crew {
    /// One process.
    pub fn alone() -> Self {
        Self { group: None, children: None, here: 1 }
    }

    /// Starts `count` − 1 more ranks on this host and joins them.
    ///
    /// # Errors
    /// When one cannot be started, or fails to join.
    pub fn start(count: usize, choice: DeviceChoice, device: Device) -> Result<Self> {
        if count == 1 {
            return Ok(Self::alone());
        }
        if let Device::Cuda(_) = device {
            let seen = usize::try_from(Cuda::device_count()).unwrap_or_default();
            if count > seen {
                return Err(Usage::new(format!(
                    "{count} ranks, one GPU each, and {seen} GPUs to be seen here: give fewer ranks, or \
                     train.device = \"cpu\""
                ))
                .into());
            }
        }
        // Nobody outside this host reaches them.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .context("there is no port for the ranks to meet at")?;
        let address = listener.local_addr()?;
        let device_name = match (choice, device) {
            (DeviceChoice::Cpu, _) | (_, Device::Cpu) => "cpu",
            _ => "cuda",
        };
        let children = Children::start(count, address, device_name, limit()?)?;
        let leader = Outside {
            rank: 0,
            size: count,
            local: 0,
            here: Some(count),
            host: address.ip().to_string(),
            port: address.port(),
            hosted: false,
        };
        match join(&leader, Some(listener), device) {
            Ok(group) => Ok(Self { group: Some(group), children: Some(children), here: count }),
            Err(error) => Err(children.blamed(error)),
        }
    }

    /// Joins ranks that somebody else started, as their first.
    ///
    /// # Errors
    /// When they do not come.
    pub fn lead(outside: &Outside, device: Device) -> Result<Self> {
        let group = join(outside, None, device)?;
        Ok(Self { group: Some(group), children: None, here: outside.here.unwrap_or(1) })
    }

    /// The group of the ranks; none where there is one process.
    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// How the first rank speaks to the others.
    pub fn ranks(&self) -> Ranks<'_> {
        self.group.as_ref().map_or(Ranks::ALONE, |group| Ranks::of(group, self.here))
    }

    /// Ends the ranks. The result is that of the leader or, where another rank was at fault, says so.
    ///
    /// # Errors
    /// That of the leader.
    pub fn end<T>(self, result: Result<T>) -> Result<T> {
        match (result, self.children) {
            (Ok(value), Some(children)) => {
                children.finish();
                Ok(value)
            }
            (Err(error), Some(children)) => Err(children.blamed(error)),
            (result, None) => result,
        }
    }
}

/// Checks that so many ranks can train this experiment.
///
/// # Errors
/// Wrong use, with the key to change.
pub fn check(experiment: &Experiment, count: usize) -> Result<(), Usage> {
    let train = &experiment.train;
    if count > train.batch_size {
        return Err(Usage::new(format!(
            "{count} ranks and train.batch_size = {}: each rank needs an image at least",
            train.batch_size
        )));
    }
    if train.shares > 0 && !train.shares.is_multiple_of(count) {
        return Err(Usage::new(format!(
            "{count} ranks and train.shares = {}: the number of ranks must divide the shares",
            train.shares
        )));
    }
    Ok(())
}

/// How many ranks `most` GPUs or processes give this experiment: as many as may be.
pub fn fitting(experiment: &Experiment, most: usize) -> usize {
    (1..=most).rev().find(|&count| check(experiment, count).is_ok()).unwrap_or(1)
}
