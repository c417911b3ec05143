//! The ranks of an attempt, as its leader has them: those that it started on this host, or those that somebody
//! else started.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use anyhow::{Context, Result};
use contracts::{DeviceChoice, Experiment};
use tch::{Cuda, Device};
use terminal::Usage;
use torch_ext::group::Group;

use super::children::Children;
use super::meeting::join;
use super::outside::Outside;
use super::{Ranks, own_address};

/// Asked every now and then while the ranks are waited for; its error ends the wait.
pub type Wait<'a> = dyn FnMut() -> Result<()> + 'a;

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
    pub fn start(
        count: usize,
        choice: DeviceChoice,
        device: Device,
        wait: &mut Wait,
    ) -> Result<Self> {
        if count == 1 {
            return Ok(Self::alone());
        }
        check_gpus(count, device)?;
        // Nobody outside this host reaches them.
        let listener = listener(Ipv4Addr::LOCALHOST.into())?;
        let leader = Outside::leader(count, count, &listener)?;
        Self::joined(&leader, Some(listener), choice, device, wait)
    }

    /// Starts the ranks of this host, the first of a gang, says with `tell` where the others meet them, and joins
    /// them.
    ///
    /// # Errors
    /// When a rank cannot be started, or one fails to join.
    pub fn gather(
        gang: Gang,
        choice: DeviceChoice,
        device: Device,
        wait: &mut Wait,
        tell: impl FnOnce(&str, u16) -> Result<()>,
    ) -> Result<Self> {
        check_gpus(gang.here, device)?;
        let named = own_address();
        let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        // A name may stand for an address of loopback on its own host: then every address is listened on.
        let own = named.as_ref().and_then(|named| named.parse::<IpAddr>().ok()).unwrap_or(any);
        let listener = listener(own)?;
        let leader = Outside::leader(gang.world, gang.here, &listener)?;
        tell(&named.unwrap_or_else(registry::host), leader.port)?;
        Self::joined(&leader, Some(listener), choice, device, wait)
    }

    /// Joins as the first rank of a host whose other ranks are started here.
    ///
    /// # Errors
    /// When a rank cannot be started, or one fails to join.
    pub fn joined(
        first: &Outside,
        listener: Option<TcpListener>,
        choice: DeviceChoice,
        device: Device,
        wait: &mut Wait,
    ) -> Result<Self> {
        let here = first.here.unwrap_or(1);
        let device_name = match (choice, device) {
            (DeviceChoice::Cpu, _) | (_, Device::Cpu) => "cpu",
            _ => "cuda",
        };
        let mut children = Children::start(first, device_name, registry::collective_limit()?)?;
        let mut look = || {
            wait()?;
            children.check()
        };
        match join(first, listener, device, &mut look) {
            Ok(group) => Ok(Self { group: Some(group), children: Some(children), here }),
            Err(error) => Err(children.blamed(error)),
        }
    }

    /// Joins ranks that somebody else started, as their first.
    ///
    /// # Errors
    /// When they do not come.
    pub fn lead(outside: &Outside, device: Device, wait: &mut Wait) -> Result<Self> {
        let group = join(outside, outside.listener()?, device, wait)?;
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

/// How many ranks an attempt on several hosts has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gang {
    /// In all.
    pub world: usize,
    /// On this host.
    pub here: usize,
}

impl Gang {
    /// What the worker says of it; none on one host.
    pub fn here() -> Option<Self> {
        let text = std::env::var(registry::GANG_VARIABLE).ok()?;
        let (world, here) = text.split_once(':')?;
        Some(Self { world: world.parse().ok()?, here: here.parse().ok()? })
    }
}

fn listener(address: IpAddr) -> Result<TcpListener> {
    TcpListener::bind((address, 0))
        .with_context(|| format!("there is no port of {address} for the ranks to meet at"))
}

fn check_gpus(count: usize, device: Device) -> Result<(), Usage> {
    if device == Device::Cpu {
        return Ok(());
    }
    let seen = usize::try_from(Cuda::device_count()).unwrap_or_default();
    if count <= seen {
        return Ok(());
    }
    Err(Usage::new(format!(
        "{count} ranks, one GPU each, and {seen} GPUs to be seen here: give fewer ranks, or train.device = \"cpu\""
    )))
}

/// Checks that this number of ranks can train the experiment.
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
