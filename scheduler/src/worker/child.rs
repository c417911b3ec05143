//! Child processes that cannot outlive the worker: each leads its own process group and is killed
//! by the kernel when the worker dies. The kernel's promise follows the thread that started the
//! child, so all are started by one thread that lives as long as the worker.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use registry::{Error, Result};
use tokio::sync::oneshot;

use super::descendants::{self, Awaited};

type Request = (Command, oneshot::Sender<std::io::Result<Child>>);

/// The thread that starts children.
pub(super) struct Spawner {
    requests: mpsc::Sender<Request>,
    awaited: Awaited,
}

impl Spawner {
    pub fn start() -> Result<Self> {
        let (requests, received) = mpsc::channel::<Request>();
        let awaited = Awaited::default();
        let theirs = awaited.clone();
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, answer) in received {
                    let child = theirs.started(|| start(&mut command));
                    let _ = answer.send(child);
                }
            })
            .and_then(|_| descendants::adopt(awaited.clone()))
            .map_err(|error| Error::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Self { requests, awaited })
    }

    /// Starts a child; what descends from it carries this mark, the value of its attempt's variable.
    pub async fn spawn(&self, command: Command, mark: String) -> std::io::Result<Running> {
        let gone = || std::io::Error::other("the thread that starts children is gone");
        let (answer, child) = oneshot::channel();
        self.requests.send((command, answer)).map_err(|_| gone())?;
        Running::new(child.await.map_err(|_| gone())??, mark, self.awaited.clone())
    }
}

#[allow(unsafe_code)]
fn start(command: &mut Command) -> std::io::Result<Child> {
    command.process_group(0);
    #[cfg(target_os = "linux")]
    {
        let worker = nix::unistd::getpid();
        // SAFETY: between fork and exec only system calls are made (prctl, getppid); nothing is
        // allocated and no lock is taken.
        unsafe {
            command.pre_exec(move || {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                // The worker may have died before the promise was made.
                if nix::unistd::getppid() != worker {
                    return Err(nix::errno::Errno::ESRCH.into());
                }
                Ok(())
            });
        }
    }
    command.spawn()
}

/// A child that runs, or has ended and was not reaped yet: as long as it is not, its number and
/// that of its group are its own, so that a signal never meets a stranger.
pub(super) struct Running {
    child: Child,
    group: Pid,
    ended: oneshot::Receiver<()>,
    mark: String,
    awaited: Awaited,
}

impl Running {
    fn new(mut child: Child, mark: String, awaited: Awaited) -> std::io::Result<Self> {
        let group = Pid::from_raw(i32::try_from(child.id()).map_err(std::io::Error::other)?);
        let (sender, ended) = oneshot::channel();
        let waiter = std::thread::Builder::new().name("waiter".into()).spawn(move || {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            while waitid(Id::Pid(group), flags) == Err(nix::errno::Errno::EINTR) {}
            let _ = sender.send(());
        });
        if let Err(error) = waiter {
            // Nobody would know of its end.
            let _ = killpg(group, Signal::SIGKILL);
            let _ = child.wait();
            awaited.remove(group);
            return Err(error);
        }
        Ok(Self { child, group, ended, mark, awaited })
    }

    /// Comes back when the child has ended.
    pub async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }

    /// Asks it to write a checkpoint and end.
    pub fn ask(&self) {
        let _ = nix::sys::signal::kill(self.group, Signal::SIGTERM);
    }

    /// Whether it is stopped, by SIGSTOP or a debugger.
    pub fn is_stopped(&self) -> bool {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.group)).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        matches!(state, Some('T' | 't'))
    }

    /// Ends at once the whole group and what has left it.
    pub fn kill(&self) {
        let below = descendants::below(self.group);
        let _ = killpg(self.group, Signal::SIGKILL);
        for process in below {
            let _ = nix::sys::signal::kill(process, Signal::SIGKILL);
        }
    }

    /// After the end: ends what is left of it and gives its status.
    pub async fn reap(mut self) -> std::io::Result<ExitStatus> {
        let _ = killpg(self.group, Signal::SIGKILL);
        let status = self.child.wait();
        self.awaited.remove(self.group);
        let _ = tokio::task::spawn_blocking(move || descendants::end_strays(&self.mark)).await;
        status
    }
}
