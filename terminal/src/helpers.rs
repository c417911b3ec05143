//! Helpers: processes of the same program that do a part of its work on the same host. They end with the process that
//! started them however that ends: the kernel kills them when it dies.

use std::io;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use nix::sys::signal::{SigSet, Signal};

/// A process that this one started. It is killed where it has not ended by itself when this is dropped.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Helper {
    /// Starts a command of this program. Its standard input and output are pipes; standard error is as `command` has
    /// it. Call it from a thread that lives as long as the process: the kernel's promise to kill helpers follows the
    /// thread.
    ///
    /// # Errors
    /// When the program is not to be found, or the process cannot be started.
    pub fn start(arrange: impl FnOnce(&mut Command)) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        arrange(&mut command);
        Ok(Self { child: command.spawn()?, ended: None })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it reads; its end is the helper's end ([`end_with_parent`]).
    pub fn input(&mut self) -> Option<&mut ChildStdin> {
        self.child.stdin.as_mut()
    }

    /// What it prints.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its messages, where the command made a pipe of them.
    pub fn take_messages(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// How it ended; none while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Ends its standard input, and waits for its end.
    ///
    /// # Errors
    /// When the system does not say how it ended.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.ended = Some(status);
        Ok(status)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The name of the signal that ended a process, such as `SIGKILL`; none where none did.
pub fn signal_of(status: ExitStatus) -> Option<String> {
    use std::os::unix::process::ExitStatusExt;
    let signal = status.signal()?;
    let named = Signal::try_from(signal);
    Some(named.map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string()))
}

/// Makes this process, a helper, end with the one that started it, and leaves the signals that ask for an end to that
/// one. A parent that is gone already shows by the end of standard input, which the helper has to watch.
///
/// # Errors
/// When the system does not allow it.
pub fn end_with_parent() -> io::Result<()> {
    let mut asked = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        asked.add(signal);
    }
    asked.thread_block()?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(())
}
