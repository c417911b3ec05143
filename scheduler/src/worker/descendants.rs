//! Processes that descend from this worker, whatever group or session they are in. The worker is the reaper of all of
//! them: whose parent has ended becomes its child, as it does anyway where the worker is process 1 of a container.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid};
use registry::ATTEMPT_VARIABLE;

/// Children that somebody waits for.
#[derive(Clone, Default)]
pub(super) struct Awaited(Arc<Mutex<BTreeSet<i32>>>);

impl Awaited {
    /// Starts a child that is awaited from its first moment on.
    pub fn started(
        &self,
        start: impl FnOnce() -> std::io::Result<Child>,
    ) -> std::io::Result<Child> {
        let mut awaited = self.lock();
        let child = start()?;
        awaited.extend(i32::try_from(child.id()));
        Ok(child)
    }

    pub fn remove(&self, child: Pid) {
        self.lock().remove(&child.as_raw());
    }

    fn has(&self, child: i32) -> bool {
        self.lock().contains(&child)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Becomes the parent of orphans, and reaps them from now on, on a thread of its own.
pub(super) fn adopt(awaited: Awaited) -> std::io::Result<()> {
    const EVERY: Duration = Duration::from_secs(2);
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_child_subreaper(true)?;
    std::thread::Builder::new().name("reaper".into()).spawn(move || {
        let mut seen = BTreeSet::new();
        loop {
            std::thread::sleep(EVERY);
            if !any_dead_child() {
                seen.clear();
                continue;
            }
            // Some library may wait for a child of its own: it does so at once, so that one that has been dead
            // for a whole round is nobody's.
            let dead = dead_children(&awaited);
            for child in dead.intersection(&seen) {
                let _ = waitpid(Pid::from_raw(*child), Some(WaitPidFlag::WNOHANG));
            }
            seen = dead;
        }
    })?;
    Ok(())
}

/// Whether there is a child that has ended and was not waited for.
fn any_dead_child() -> bool {
    !matches!(peek(), Ok(WaitStatus::StillAlive) | Err(_))
}

/// Looks for such a child and leaves it as it is; an error where there are no children at all.
fn peek() -> nix::Result<WaitStatus> {
    waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT)
}

fn dead_children(awaited: &Awaited) -> BTreeSet<i32> {
    let me = getpid().as_raw();
    processes()
        .into_iter()
        .filter(|(pid, process)| process.parent == me && process.dead && !awaited.has(*pid))
        .map(|(pid, _)| pid)
        .collect()
}

struct Process {
    parent: i32,
    dead: bool,
}

/// All processes that can be seen.
fn processes() -> BTreeMap<i32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name before it may hold anything.
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let dead = matches!(fields.next()?, "Z" | "X");
            Some((pid, Process { parent: fields.next()?.parse().ok()?, dead }))
        })
        .collect()
}

/// The living ones below this process.
pub(super) fn below(root: Pid) -> Vec<Pid> {
    let processes = processes();
    let mut found = vec![root.as_raw()];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(processes.iter().filter(|(_, it)| it.parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    let living = |pid: &i32| processes.get(pid).is_some_and(|process| !process.dead);
    found.into_iter().skip(1).filter(living).map(Pid::from_raw).collect()
}

/// Kills what is left of an attempt (`JOB:NUMBER`) below this worker; they carry its name in their environment.
pub(super) fn end_strays(attempt: &str) {
    const ROUNDS: usize = 50;
    for _ in 0..ROUNDS {
        // All processes of a host are many to look at where none can be meant.
        if peek().is_err() {
            return;
        }
        let strays: Vec<Pid> =
            below(getpid()).into_iter().filter(|pid| carries(*pid, attempt)).collect();
        if strays.is_empty() {
            return;
        }
        for stray in strays {
            let _ = kill(stray, Signal::SIGKILL);
        }
        // Until they are gone: one of them may have started another meanwhile.
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn carries(pid: Pid, attempt: &str) -> bool {
    let path = Path::new("/proc").join(pid.to_string()).join("environ");
    let mark = format!("{ATTEMPT_VARIABLE}={attempt}");
    std::fs::read(path)
        .is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == mark.as_bytes()))
}
