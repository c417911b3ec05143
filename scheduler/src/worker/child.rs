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

type Request = (Command, oneshot::Sender<std::io::Result<Child>>);

/// The thread that starts children.
pub(super) struct Spawner(mpsc::Sender<Request>);

impl Spawner {
    pub fn start() -> Result<Self> {
        let (requests, received) = mpsc::channel::<Request>();
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, answer) in received {
                    let _ = answer.send(start(&mut command));
                }
            })
            .map_err(|error| Error::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Self(requests))
    }

    pub async fn spawn(&self, command: Command) -> std::io::Result<Running> {
        let gone = || std::io::Error::other("the thread that starts children is gone");
        let (answer, child) = oneshot::channel();
        self.0.send((command, answer)).map_err(|_| gone())?;
        Running::new(child.await.map_err(|_| gone())??)
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
}

impl Running {
    fn new(child: Child) -> std::io::Result<Self> {
        let group = Pid::from_raw(i32::try_from(child.id()).map_err(std::io::Error::other)?);
        let (sender, ended) = oneshot::channel();
        std::thread::Builder::new().name("waiter".into()).spawn(move || {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            while waitid(Id::Pid(group), flags) == Err(nix::errno::Errno::EINTR) {}
            let _ = sender.send(());
        })?;
        Ok(Self { child, group, ended })
    }

    /// Comes back when the child has ended.
    pub async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }

    /// Asks it to write a checkpoint and end.
    pub fn ask(&self) {
        let _ = nix::sys::signal::kill(self.group, Signal::SIGTERM);
    }

    /// Ends the whole group at once.
    pub fn kill(&self) {
        let _ = killpg(self.group, Signal::SIGKILL);
    }

    /// After the end: ends what is left of its group and gives its status.
    pub fn reap(mut self) -> std::io::Result<ExitStatus> {
        self.kill();
        self.child.wait()
    }
}
