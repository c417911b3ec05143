//! Ranks that somebody else starts: `torchrun` and `mpirun` by the variables that PyTorch's programs know,
//! `srun` by those of Slurm.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use anyhow::Context;
use contracts::DeviceChoice;
use tch::{Cuda, Device};
use terminal::Usage;

/// Which rank this process is, as its environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// From 0, over all hosts.
    pub rank: usize,
    /// Number of ranks, at least two.
    pub size: usize,
    /// From 0 on this host: the GPU that this rank takes.
    pub local: usize,
    /// Ranks of this host, where it is known.
    pub here: Option<usize>,
    /// The host of the first rank.
    pub host: String,
    /// The port that the first rank listens at.
    pub port: u16,
    /// `torchrun` listens there itself.
    pub hosted: bool,
    /// How often `torchrun` has started them again.
    pub restarts: usize,
}

impl Outside {
    /// The first of `size` ranks, of which `here` are on this host, listening there.
    ///
    /// # Errors
    /// When the system does not say where that is.
    pub fn leader(size: usize, here: usize, listener: &TcpListener) -> anyhow::Result<Self> {
        Ok(Self {
            rank: 0,
            size,
            local: 0,
            here: Some(here),
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr()?.port(),
            hosted: false,
            restarts: 0,
        })
    }

    /// Where the first rank listens, if its host is an address of loopback: there alone. Elsewhere libtorch listens on
    /// every address.
    ///
    /// # Errors
    /// Where something else listens there.
    pub fn listener(&self) -> anyhow::Result<Option<TcpListener>> {
        let address = match self.host.as_str() {
            "localhost" => Some(IpAddr::from(Ipv4Addr::LOCALHOST)),
            host => host.parse().ok(),
        };
        let Some(address) = address.filter(|address| !self.hosted && address.is_loopback()) else {
            return Ok(None);
        };
        TcpListener::bind((address, self.port)).map(Some).with_context(|| {
            format!("the ranks cannot meet at {address}:{}: give another MASTER_PORT", self.port)
        })
    }

    /// Sets the meeting of these ranks apart from that of their earlier start, where `torchrun` has started them again.
    pub fn name(&self) -> String {
        format!("palette/{}", self.restarts)
    }

    /// The device of this rank: the CPU, or the GPU of its number on this host. Where a rank sees one GPU alone,
    /// as `srun --gpus-per-task=1` has it, it takes that.
    ///
    /// # Errors
    /// Where there is no GPU for it.
    pub fn device(&self, choice: DeviceChoice) -> anyhow::Result<Device> {
        let device = choice.device()?;
        if device == Device::Cpu {
            return Ok(device);
        }
        let seen = usize::try_from(Cuda::device_count()).unwrap_or_default();
        match self.local {
            local if local < seen => Ok(Device::Cuda(local)),
            _ if seen == 1 => Ok(device),
            local => Err(Usage::new(format!(
                "rank {} is number {local} on {}, which has {seen} GPUs: one rank takes one GPU",
                self.rank,
                registry::host()
            ))
            .into()),
        }
    }
}

/// Which rank this process is; none where it is alone.
///
/// # Errors
/// As [`read`].
pub fn here() -> Result<Option<Outside>, Usage> {
    read(|name| std::env::var(name).ok())
}

/// More are a mistake.
const MOST: usize = 65_536;

/// The port of PyTorch's programs.
const PORT: u16 = 29_500;

/// Reads the environment; none where this process is alone.
///
/// # Errors
/// Wrong use, where variables are missing or make no sense.
fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Outside>, Usage> {
    let variable = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
    let number = |name: &str| -> Result<Option<usize>, Usage> {
        let Some(text) = variable(name) else { return Ok(None) };
        match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Usage::new(format!("{name}={text}: a whole number is expected"))),
        }
    };
    let world = number("WORLD_SIZE")?;
    if let Some(size) = world.filter(|size| !(1..=MOST).contains(size)) {
        return Err(Usage::new(format!("WORLD_SIZE={size}: from 1 to {MOST} ranks are expected")));
    }
    let torch = world.map(|size| (size, "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"));
    // A batch script has them too; only the tasks of a step that `srun` started are ranks.
    let step = variable("SLURM_STEP_ID").or_else(|| variable("SLURM_STEPID"));
    let tasks = match number("SLURM_STEP_NUM_TASKS")? {
        Some(tasks) => Some(tasks),
        None => number("SLURM_NTASKS")?,
    };
    let slurm = step.and(tasks).map(|size| (size, "SLURM_PROCID", "SLURM_LOCALID", ""));
    if let (Some(rank), None, None) = (number("RANK")?, torch, slurm) {
        return Err(Usage::new(format!(
            "RANK={rank} and no WORLD_SIZE: set how many ranks there are, or unset RANK"
        )));
    }
    let Some((size, rank, local, here)) = torch.or(slurm).filter(|(size, ..)| *size > 1) else {
        return Ok(None);
    };
    let needed = |name: &str| {
        Usage::new(format!(
            "{size} ranks were started, and {name} is not set: see docs/training.md"
        ))
    };
    let by_slurm = torch.is_none();
    let found = number(rank)?.ok_or_else(|| needed(rank))?;
    if found >= size {
        return Err(Usage::new(format!("{rank}={found}: with {size} ranks it is below {size}")));
    }
    let host = match variable("MASTER_ADDR") {
        Some(host) => host,
        None if by_slurm => ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"]
            .iter()
            .find_map(|name| first_node(&variable(name)?))
            .ok_or_else(|| needed("MASTER_ADDR"))?,
        None => return Err(needed("MASTER_ADDR")),
    };
    let port = match number("MASTER_PORT")? {
        Some(port) => u16::try_from(port)
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| Usage::new(format!("MASTER_PORT={port}: a port is from 1 to 65535")))?,
        // Jobs of one user on one host do not meet.
        None if by_slurm => {
            let job = number("SLURM_JOB_ID")?.unwrap_or_default();
            15_000 + u16::try_from(job % 10_000).unwrap_or_default()
        }
        None => PORT,
    };
    Ok(Some(Outside {
        rank: found,
        size,
        local: number(local)?.unwrap_or_default(),
        here: if here.is_empty() { None } else { number(here)? },
        host,
        port,
        hosted: variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|word| word == "True"),
        restarts: number("TORCHELASTIC_RESTART_COUNT")?.unwrap_or_default(),
    }))
}

/// The first of a list such as `node[01-04,7],other`.
fn first_node(list: &str) -> Option<String> {
    let (name, rest) = match list.find(['[', ',']) {
        None => (list, ""),
        Some(at) => list.split_at(at),
    };
    let Some(inside) = rest.strip_prefix('[') else {
        return (!name.is_empty()).then(|| name.to_owned());
    };
    let first = inside.split(['-', ',', ']']).next()?;
    let behind = inside.split_once(']').map_or("", |(_, behind)| behind);
    let suffix = behind.split(',').next().unwrap_or_default();
    Some(format!("{name}{first}{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Option<Outside>, String> {
        read(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn torchrun_and_srun_say_which_rank_it_is() {
        let torch = [
            ("RANK", "3"),
            ("WORLD_SIZE", "4"),
            ("LOCAL_RANK", "1"),
            ("LOCAL_WORLD_SIZE", "2"),
            ("MASTER_ADDR", "first"),
            ("MASTER_PORT", "1234"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
        ];
        let expected = Outside {
            rank: 3,
            size: 4,
            local: 1,
            here: Some(2),
            host: "first".to_owned(),
            port: 1234,
            hosted: true,
            restarts: 0,
        };
        assert_eq!(from(&torch), Ok(Some(expected)));
        let slurm = [
            ("SLURM_STEP_ID", "0"),
            ("SLURM_JOB_ID", "1234567"),
            ("SLURM_NTASKS", "2"),
            ("SLURM_PROCID", "1"),
            ("SLURM_LOCALID", "0"),
            ("SLURM_STEP_NODELIST", "node[01-04,7].cluster,other"),
        ];
        let found = from(&slurm).unwrap().unwrap();
        assert_eq!((found.rank, found.size, found.local), (1, 2, 0));
        assert_eq!((found.host.as_str(), found.port), ("node01.cluster", 15_000 + 4567));
        assert!(!found.hosted);
    }

    #[test]
    fn a_batch_script_and_a_single_rank_are_alone() {
        assert_eq!(from(&[]), Ok(None));
        let script = [("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0"), ("SLURM_JOB_ID", "7")];
        assert_eq!(from(&script), Ok(None));
        assert_eq!(from(&[("WORLD_SIZE", "1"), ("RANK", "0")]), Ok(None));
        assert_eq!(from(&[("WORLD_SIZE", ""), ("RANK", " ")]), Ok(None));
    }

    #[test]
    fn on_loopback_nobody_outside_reaches_the_first_rank() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut first = Outside::leader(2, 2, &listener).unwrap();
        let error = first.listener().unwrap_err().to_string();
        assert!(error.contains("MASTER_PORT"), "{error}");
        drop(listener);
        let own = first.listener().unwrap().unwrap();
        assert_eq!(own.local_addr().unwrap().to_string(), format!("127.0.0.1:{}", first.port));
        for host in ["192.0.2.1", "node1"] {
            first.host = host.to_owned();
            assert!(first.listener().unwrap().is_none(), "{host}");
        }
        first.hosted = true;
        first.host = "127.0.0.1".to_owned();
        assert!(first.listener().unwrap().is_none(), "torchrun listens there itself");
    }

    #[test]
    fn what_is_missing_or_makes_no_sense_is_said() {
        for (variables, word) in [
            (&[("WORLD_SIZE", "2")][..], "RANK"),
            (&[("WORLD_SIZE", "two")], "WORLD_SIZE=two"),
            (&[("WORLD_SIZE", "0")], "WORLD_SIZE=0"),
            (&[("WORLD_SIZE", "99999999999"), ("RANK", "0")], "WORLD_SIZE=99999999999"),
            (&[("RANK", "0")], "no WORLD_SIZE"),
            (&[("WORLD_SIZE", "2"), ("RANK", "2"), ("MASTER_ADDR", "a")], "RANK=2"),
            (&[("WORLD_SIZE", "2"), ("RANK", "1")], "MASTER_ADDR"),
            (
                &[("WORLD_SIZE", "2"), ("RANK", "1"), ("MASTER_ADDR", "a"), ("MASTER_PORT", "0")],
                "MASTER_PORT=0",
            ),
        ] {
            let error = from(variables).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn the_first_node_of_a_list_is_found() {
        for (list, first) in [
            ("one", Some("one")),
            ("one,two", Some("one")),
            ("n[3,5-7]", Some("n3")),
            ("n[003-007]x,m1", Some("n003x")),
            ("", None),
        ] {
            assert_eq!(first_node(list).as_deref(), first, "{list}");
        }
    }
}
