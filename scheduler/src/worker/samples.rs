//! How busy this worker and its host are, noted once a minute for those who look at the queue. What a sample costs is in
//! `docs/administration.md`; one that cannot be taken or noted is left out, and nothing waits for it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use registry::{Database, Gpu, Uuid, WorkerSample};

use super::health::fraction;
use crate::gpus::Load;

/// Looks at the database's clean-up only so often, in samples.
const THIN_EVERY: u32 = 60;

/// What the worker itself says of how busy it is.
#[derive(Debug, Default)]
pub(super) struct Busy {
    pub slots_busy: AtomicUsize,
    pub slots: AtomicUsize,
    gpus: Mutex<Gpus>,
}

/// Its GPUs, and the loads that were seen since the last sample.
#[derive(Debug, Default)]
struct Gpus {
    uuids: Vec<String>,
    seen: Vec<Vec<(String, Load)>>,
}

impl Busy {
    /// Which GPUs it hands out, in the order of its row.
    pub fn hands_out(&self, gpus: &[Gpu]) {
        self.lock().uuids = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    }

    /// A look at the driver showed this.
    pub fn saw(&self, loads: Vec<(String, Load)>) {
        /// Looks between two samples that count; a day's worth would be memory for nothing.
        const MOST: usize = 1000;
        let mut gpus = self.lock();
        if gpus.seen.len() < MOST {
            gpus.seen.push(loads);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Gpus> {
        self.gpus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mean of what was seen since the last call.
    fn take(&self) -> WorkerSample {
        let mut gpus = self.lock();
        let seen = std::mem::take(&mut gpus.seen);
        let of = |uuid: &str| -> Vec<Load> {
            let all = seen.iter().flatten();
            all.filter(|(of, _)| of == uuid).map(|(_, load)| *load).collect()
        };
        let loads: Vec<Vec<Load>> = gpus.uuids.iter().map(|uuid| of(uuid)).collect();
        let count =
            |of: &AtomicUsize| i32::try_from(of.load(Ordering::Relaxed)).unwrap_or(i32::MAX);
        WorkerSample {
            slots_busy: count(&self.slots_busy),
            slots: count(&self.slots),
            gpu_use: loads
                .iter()
                .map(|of| {
                    let percents = of.iter().filter_map(|load| load.percent);
                    mean(percents.map(f64::from)).map(|percent| (percent / 100.0) as f32)
                })
                .collect(),
            gpu_memory_used: loads
                .iter()
                .map(|of| {
                    let bytes = of.iter().filter_map(|load| load.memory_used);
                    mean(bytes.map(|bytes| bytes as f64)).map(|bytes| bytes as i64)
                })
                .collect(),
            ..WorkerSample::default()
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// Takes samples and notes them, for ever.
pub(super) struct Sampler {
    pub database: Database,
    pub worker: Uuid,
    pub busy: Arc<Busy>,
    pub home: PathBuf,
    pub every: Duration,
}

impl Sampler {
    pub async fn sample(self) {
        let mut ticks = processors();
        // Workers that start together do not write together.
        let mut wait = self.every.mul_f64(0.1 + 0.9 * fraction());
        let mut count = 0_u32;
        loop {
            tokio::time::sleep(wait).await;
            wait = self.every;
            let now = processors();
            let host = host(self.home.clone(), self.every.min(Duration::from_secs(10))).await;
            let sample = WorkerSample {
                cpu: share(ticks, now),
                memory: host.as_ref().and_then(|host| host.memory),
                disk: host.as_ref().and_then(|host| host.disk),
                ..self.busy.take()
            };
            ticks = now;
            if let Err(error) = self.database.add_sample(self.worker, &sample).await {
                tracing::debug!("a sample of this worker was not noted: {error}");
                continue;
            }
            if count.is_multiple_of(THIN_EVERY)
                && let Err(error) = self.database.thin_samples().await
            {
                tracing::debug!("old samples were not removed: {error}");
            }
            count = count.wrapping_add(1);
        }
    }
}

/// What the kernel and the file system say of the host.
struct Host {
    memory: Option<(i64, i64)>,
    disk: Option<(i64, i64)>,
}

/// None where it does not answer in time; on a thread that nobody waits for, as a file system may hang.
async fn host(home: PathBuf, patience: Duration) -> Option<Host> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let look = move || drop(answer.send(Host { memory: memory(), disk: disk(&home) }));
    std::thread::Builder::new().name("sample".into()).spawn(look).ok()?;
    tokio::time::timeout(patience, answered).await.ok()?.ok()
}

/// Bytes used, of so many.
fn memory() -> Option<(i64, i64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    let all = value("MemTotal")?;
    Some((all - value("MemAvailable")?, all))
}

/// Bytes left to this user, of so many.
fn disk(home: &std::path::Path) -> Option<(i64, i64)> {
    let stat = statvfs(home).ok()?;
    let bytes = |blocks: u64| i64::try_from(blocks.checked_mul(stat.fragment_size())?).ok();
    Some((bytes(stat.blocks_available())?, bytes(stat.blocks())?))
}

/// Ticks of all processors, busy and in all, since the host started.
fn processors() -> Option<(u64, u64)> {
    ticks(&std::fs::read_to_string("/proc/stat").ok()?)
}

fn ticks(text: &str) -> Option<(u64, u64)> {
    // user nice system idle iowait irq softirq steal; what guests use is part of user.
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let numbers: Vec<u64> =
        line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let all: u64 = numbers.iter().sum();
    let idle = numbers.get(3)? + numbers.get(4)?;
    Some((all - idle, all))
}

fn share(before: Option<(u64, u64)>, now: Option<(u64, u64)>) -> Option<f32> {
    let ((busy_before, before), (busy, all)) = (before?, now?);
    let (busy, all) = (busy.checked_sub(busy_before)?, all.checked_sub(before)?);
    (all > 0).then(|| (busy as f64 / all as f64) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_says_is_read() {
        let (busy, all) = ticks("cpu  10 1 5 80 4 0 0 0 0 0\ncpu0 1 2 3\n").unwrap();
        assert_eq!((busy, all), (16, 100));
        assert_eq!(share(Some((16, 100)), Some((66, 200))), Some(0.5));
        assert_eq!(share(Some((16, 100)), Some((16, 100))), None);
        assert_eq!(ticks("cpu  10 x"), None);
        let (used, all) = memory().unwrap();
        assert!(0 < used && used < all);
        let (left, all) = disk(std::path::Path::new("/")).unwrap();
        assert!(0 <= left && left <= all && all > 0);
    }

    #[test]
    fn a_sample_is_the_mean_of_what_was_seen_since_the_last() {
        let busy = Busy::default();
        let gpu = |uuid: &str| Gpu { uuid: uuid.into(), memory: 8, model: String::new() };
        busy.hands_out(&[gpu("b"), gpu("a")]);
        let load = |percent, memory_used| Load { percent, memory_used };
        busy.saw(vec![("a".into(), load(Some(100), Some(4))), ("b".into(), load(None, Some(2)))]);
        busy.saw(vec![
            ("a".into(), load(Some(50), Some(6))),
            ("other".into(), load(Some(1), None)),
        ]);
        let sample = busy.take();
        assert_eq!(sample.gpu_use, [None, Some(0.75)]);
        assert_eq!(sample.gpu_memory_used, [Some(2), Some(5)]);
        assert_eq!(busy.take().gpu_use, [None, None]);
    }
}
