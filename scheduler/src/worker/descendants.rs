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
    let processes = Processes::read();
    processes
        .all
        .iter()
        .filter(|(_, process)| process.parent == processes.me && process.dead)
        .filter_map(|(number, _)| processes.here(*number))
        .filter(|pid| !awaited.has(*pid))
        .collect()
}

struct Process {
    parent: i32,
    dead: bool,
}

/// All processes that can be seen, by their numbers in /proc. These are not ours where it is that of an outer name
/// space, as after `unshare --pid` alone.
struct Processes {
    all: BTreeMap<i32, Process>,
    me: i32,
    /// Where among a process's numbers the one of our name space stands; none where /proc is ours.
    place: Option<usize>,
}

impl Processes {
    fn read() -> Self {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let all = entries
            .filter_map(|entry| {
                let number = entry.file_name().to_str()?.parse().ok()?;
                let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
                // The name before it may hold anything.
                let mut fields = stat.rsplit_once(") ")?.1.split(' ');
                let dead = matches!(fields.next()?, "Z" | "X");
                Some((number, Process { parent: fields.next()?.parse().ok()?, dead }))
            })
            .collect();
        let own = getpid().as_raw();
        let link = std::fs::read_link("/proc/self").ok();
        let me = link.and_then(|link| link.to_str()?.parse().ok()).unwrap_or(own);
        let place = (me != own).then(|| numbers(me).len().saturating_sub(1));
        Self { all, me, place }
    }

    /// What signals and waiting know a process by.
    fn here(&self, number: i32) -> Option<i32> {
        match self.place {
            None => Some(number),
            Some(place) => numbers(number).get(place).copied(),
        }
    }

    /// The living ones below one.
    fn below(&self, root: i32) -> Vec<i32> {
        let mut found = vec![root];
        let mut next = 0;
        while let Some(&parent) = found.get(next) {
            found.extend(self.all.iter().filter(|(_, it)| it.parent == parent).map(|(it, _)| *it));
            next += 1;
        }
        let living = |number: &i32| self.all.get(number).is_some_and(|process| !process.dead);
        found.into_iter().skip(1).filter(living).collect()
    }
}

/// The numbers of a process in the name spaces that it is in, from that of /proc inwards.
fn numbers(number: i32) -> Vec<i32> {
    let status = std::fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    line.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// The living ones below a child.
pub(super) fn below(child: Pid) -> Vec<Pid> {
    let processes = Processes::read();
    let root = match processes.place {
        None => Some(child.as_raw()),
        Some(_) => {
            let children = processes.all.iter().filter(|(_, it)| it.parent == processes.me);
            let mut numbers = children.map(|(number, _)| *number);
            numbers.find(|number| processes.here(*number) == Some(child.as_raw()))
        }
    };
    let below = root.map(|root| processes.below(root)).unwrap_or_default();
    below.into_iter().filter_map(|number| processes.here(number)).map(Pid::from_raw).collect()
}

/// Kills what is left of an attempt (`JOB:NUMBER`) below this worker; they carry its name in their environment.
pub(super) fn end_strays(attempt: &str) {
    const ROUNDS: usize = 50;
    for _ in 0..ROUNDS {
        // All processes of a host are many to look at where none can be meant.
        if peek().is_err() {
            return;
        }
        let processes = Processes::read();
        let mut strays = processes.below(processes.me);
        strays.retain(|number| carries(*number, attempt));
        if strays.is_empty() {
            return;
        }
        kill_these(&processes, strays);
        // Until they are gone: one of them may have started another meanwhile.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills what every attempt of this worker has started, as before an end of the worker that waits for nothing.
pub fn kill_all() {
    let processes = Processes::read();
    let mut all = processes.below(processes.me);
    all.retain(|number| is_marked(*number, |_| true));
    kill_these(&processes, all);
}

/// Kills what earlier attempts of a job left on this host when their worker was killed: it would work beside the new
/// attempt. What still has its worker is that one's to end.
pub(super) fn end_earlier(job: &str, attempt: i32) {
    let processes = Processes::read();
    let earlier = |mark: &str| {
        let number = mark.strip_prefix(job).and_then(|rest| rest.strip_prefix(':'));
        number.and_then(|number| number.parse::<i32>().ok()).is_some_and(|it| it < attempt)
    };
    let marked: BTreeSet<i32> =
        processes.all.keys().copied().filter(|number| is_marked(*number, earlier)).collect();
    let has_worker = |number: i32| {
        let mut at = number;
        while marked.contains(&at) {
            at = processes.all.get(&at).map_or(0, |process| process.parent);
        }
        is_program(at)
    };
    let left = marked.iter().copied().filter(|number| !has_worker(*number)).collect();
    kill_these(&processes, left);
}

/// Whether a process is one of this program, as a worker is.
fn is_program(number: i32) -> bool {
    let name = |process: &str| std::fs::read_to_string(format!("/proc/{process}/comm")).ok();
    let own = name("self");
    own.is_some() && name(&number.to_string()) == own
}

fn kill_these(processes: &Processes, numbers: Vec<i32>) {
    for process in numbers.into_iter().filter_map(|number| processes.here(number)) {
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
}

fn carries(number: i32, attempt: &str) -> bool {
    is_marked(number, |mark| mark == attempt)
}

/// Whether a process descends from an attempt (`JOB:NUMBER`) of which this is true.
fn is_marked(number: i32, of: impl Fn(&str) -> bool) -> bool {
    let path = Path::new("/proc").join(number.to_string()).join("environ");
    let Ok(all) = std::fs::read(path) else { return false };
    all.split(|byte| *byte == 0).any(|variable| {
        let text = std::str::from_utf8(variable).unwrap_or_default();
        let value = text.strip_prefix(ATTEMPT_VARIABLE).and_then(|text| text.strip_prefix('='));
        value.is_some_and(&of)
    })
}
