//! Workers as the database knows them, and what they offer. Owns `workers`; its rows are kept alive by
//! [`crate::keeper`] and listed by [`crate::directory`].

mod census;
mod directory;
mod gangs;
pub(crate) mod gpus;
mod samples;

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use storage::names;
use uuid::Uuid;

use crate::queue::marks::checked;
use crate::{Database, JobKind, Result};

pub use census::Census;
pub use directory::{Holder, WorkerRow, WorkerState};
pub use gangs::{HeldSeat, RunningGang};
pub use gpus::Taken;
pub use samples::{BusyStretch, NewestSample, OwnerHours, WorkerSample};

/// A GPU, or a MIG device of one, that can be handed to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// What `CUDA_VISIBLE_DEVICES` calls it: `GPU-…` or `MIG-…`.
    pub uuid: String,
    /// Its memory in bytes; 0 where the driver does not say.
    pub memory: i64,
    /// What it is: `NVIDIA H100 80GB HBM3`.
    pub model: String,
}

impl std::fmt::Display for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.uuid, self.model)
    }
}

/// One start of a process that claims jobs.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerInfo {
    /// New at every start.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// Where it runs.
    pub host: String,
    /// Its process there.
    pub pid: i32,
    /// Jobs at a time.
    pub slots: i32,
    /// GPUs that it hands out.
    pub gpus: Vec<Gpu>,
    /// What its jobs may ask for when it has nothing else to do.
    pub offers: Resources,
    /// How long it will work, where that is limited.
    pub ends_in: Option<Duration>,
}

impl WorkerInfo {
    /// This process.
    pub fn this_process(name: Option<String>, slots: i32) -> Self {
        let host = host();
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let name = name.unwrap_or_else(|| default_name(&host, pid));
        let (gpus, offers, ends_in) = (Vec::new(), Resources::default(), None);
        Self { id: Uuid::new_v4(), name, host, pid, slots, gpus, offers, ends_in }
    }
}

/// The name of a worker that was given none: `HOST-PID`, with `-` for what a name may not have. Nobody has typed
/// it, and so the host's name is no fault of whoever starts a worker.
fn default_name(host: &str, pid: i32) -> String {
    let host = host.replace(char::REPLACEMENT_CHARACTER, "-");
    names::with_end(&names::fitted(&host), &format!("-{pid}"))
}

/// What this host calls itself.
pub fn host() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "unknown".to_owned(),
        |system| system.nodename().to_string_lossy().into_owned(),
    )
}

/// What a job may ask of its worker.
#[derive(Clone, Debug, Serialize)]
pub struct Resources {
    /// Kinds whose program is there.
    pub kinds: Vec<JobKind>,
    /// GPUs, each by its memory in bytes.
    pub gpus: Vec<i64>,
    /// Labels, a JSON object of texts.
    pub labels: Value,
    /// Jobs that it leaves to workers of other hosts.
    pub except: Vec<Uuid>,
}

impl Default for Resources {
    fn default() -> Self {
        let labels = Value::Object(Default::default());
        Self { kinds: Vec::new(), gpus: Vec::new(), labels, except: Vec::new() }
    }
}

impl Resources {
    pub(crate) fn kind_names(&self) -> Vec<String> {
        self.kinds.iter().map(|kind| kind.name().to_owned()).collect()
    }
}

/// GPUs as the table has them.
struct Shown {
    count: i32,
    models: Vec<String>,
    uuids: Vec<String>,
    sizes: Vec<i64>,
    smallest: i64,
}

impl Shown {
    fn of(gpus: &[Gpu]) -> Self {
        Self {
            count: i32::try_from(gpus.len()).unwrap_or(i32::MAX),
            models: gpus.iter().map(|gpu| gpu.model.clone()).collect(),
            uuids: gpus.iter().map(|gpu| gpu.uuid.clone()).collect(),
            sizes: gpus.iter().map(|gpu| gpu.memory).collect(),
            smallest: gpus.iter().map(|gpu| gpu.memory).min().unwrap_or(0),
        }
    }
}

impl Database {
    /// Makes a worker known.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn register_worker(&self, worker: &WorkerInfo) -> Result<()> {
        checked("name", &worker.name, names::name)?;
        let shown = Shown::of(&worker.gpus);
        let insert = sqlx::query!(
            "insert into workers (id, name, host, pid, slots, gpus, gpu_names, gpu_uuids, gpu_sizes,
                 gpu_memory, labels, kinds, version, ends_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
                 now() + make_interval(secs => $14))",
            worker.id,
            worker.name,
            worker.host,
            worker.pid,
            worker.slots,
            shown.count,
            &shown.models,
            &shown.uuids,
            &shown.sizes,
            shown.smallest,
            worker.offers.labels,
            &worker.offers.kind_names(),
            env!("CARGO_PKG_VERSION"),
            worker.ends_in.map(|span| span.as_secs_f64()),
        );
        self.on_line(async |connection| {
            insert.execute(connection).await?;
            Ok(())
        })
        .await
    }

    /// Notes the GPUs that a worker hands out from now on, and its slots.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn note_gpus(&self, worker: &WorkerInfo) -> Result<()> {
        let shown = Shown::of(&worker.gpus);
        let update = sqlx::query!(
            "update workers
             set gpus = $2, gpu_names = $3, gpu_uuids = $4, gpu_sizes = $5, gpu_memory = $6,
                 slots = $7
             where id = $1",
            worker.id,
            shown.count,
            &shown.models,
            &shown.uuids,
            &shown.sizes,
            shown.smallest,
            worker.slots,
        );
        self.on_line(async |connection| {
            update.execute(connection).await?;
            Ok(())
        })
        .await
    }

    /// Notes what is wrong with a worker; none when all is well again.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn note_ailment(&self, worker: Uuid, ails: Option<&str>) -> Result<()> {
        let noted = sqlx::query!("update workers set ails = $2 where id = $1", worker, ails);
        // Who ails of too few descriptors can open no other connection.
        self.on_line(async |connection| {
            noted.execute(connection).await?;
            Ok(())
        })
        .await
    }

    /// Notes that a worker ended in order.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_worker(&self, worker: Uuid) -> Result<()> {
        let end = sqlx::query!("update workers set ended_at = now() where id = $1", worker);
        self.on_line(async |connection| {
            end.execute(connection).await?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_a_name_whatever_its_host_is_called() {
        for (host, name) in [
            ("node7.lab", "node7.lab-12"),
            ("a b", "a-b-12"),
            ("h@x/y", "h-x-y-12"),
            ("h\u{1b}[2Jx", "h-[2Jx-12"),
            ("caf\u{fffd}", "caf--12"),
            ("", "--12"),
        ] {
            assert_eq!(default_name(host, 12), name);
        }
        assert!(names::name(&default_name(&"x".repeat(300), i32::MAX)).is_ok());
    }
}
