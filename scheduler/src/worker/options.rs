//! What a worker is told at its start, and what of it decides which jobs come to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use registry::{JobKind, Lease, Resources};

use super::bounds::Bounds;
use super::gpus::Offers;
use crate::gpus::Host;

/// What a worker is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// What people call it; host and process where none is given.
    pub name: Option<String>,
    /// Jobs at a time. Where nothing is given, as many as there are GPUs now; one on a host that has
    /// shown none so far.
    pub slots: Option<usize>,
    /// End when nothing is queued or running that it could do.
    pub drain: bool,
    /// End as soon as there is nothing to claim and none of its own jobs runs.
    pub exit_when_idle: bool,
    /// End when nothing could be claimed for this long.
    pub idle: Option<Duration>,
    /// How often to look for jobs without being woken.
    pub poll: Duration,
    /// What a child has between being asked to stop and being killed.
    pub grace: Duration,
    /// How long a job for several hosts waits for them.
    pub gather: Duration,
    /// How long the first rank of several may be stopped before the attempt ends.
    pub stand_still: Duration,
    /// How long this worker may work in all: so that everything has ended by then, it claims no more
    /// and asks its jobs for a checkpoint one grace before.
    pub walltime: Option<Duration>,
    /// Report the children's output line by line.
    pub follow: bool,
    /// The form of the children's messages.
    pub format: terminal::Format,
    /// Labels that jobs can ask for.
    pub labels: BTreeMap<String, String>,
    /// The host whose GPUs this worker hands out; `None`: it hands out none.
    pub host: Option<Host>,
    /// How often to note how busy it and its host are.
    pub sample: Duration,
    /// The folder of the programs.
    pub programs: PathBuf,
    /// What its jobs may reach; all that this user may, where others are not to be kept out.
    pub bounds: Option<Bounds>,
    /// Lease and back-off.
    pub lease: Lease,
}

impl Options {
    /// One job at a time until it is told to stop, with the programs beside this one.
    pub fn new(lease: Lease) -> Self {
        let here = std::env::current_exe().ok().and_then(|path| path.parent().map(PathBuf::from));
        Self {
            name: None,
            slots: None,
            drain: false,
            exit_when_idle: false,
            idle: None,
            poll: Duration::from_secs(2),
            grace: Duration::from_secs(120),
            gather: Duration::from_secs(300),
            stand_still: Duration::from_secs(120),
            walltime: None,
            follow: false,
            format: terminal::Format::Text,
            labels: BTreeMap::new(),
            host: None,
            sample: Duration::from_secs(60),
            programs: here.unwrap_or_default(),
            bounds: None,
            lease,
        }
    }

    /// How many jobs at a time with these GPUs: a job that could have had one that is lost now waits for
    /// it rather than to run on the CPU.
    pub(super) fn slots(&self, gpus: &Offers) -> usize {
        self.slots.unwrap_or(if gpus.had_any() { gpus.all().len() } else { 1 })
    }

    /// What is there for jobs, with GPUs of these sizes.
    pub(super) fn resources(&self, kinds: &[JobKind], gpus: Vec<i64>) -> Resources {
        Resources {
            kinds: kinds.to_vec(),
            gpus,
            labels: serde_json::to_value(&self.labels).unwrap_or_default(),
            except: Vec::new(),
        }
    }
}
