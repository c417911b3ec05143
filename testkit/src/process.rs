//! Processes that do not outlive their test, and waiting.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::Terminal;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process whose output goes to a file. It is killed when the value ends.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command; what it prints goes to this file, which is made anew.
    pub fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    /// Starts a command whose output goes to a terminal.
    pub fn start_on(terminal: &Terminal, command: &mut Command) -> Self {
        let child = command.stdout(terminal.stdio()).stderr(terminal.stdio()).spawn().unwrap();
        Self { child, log: terminal.log().to_owned() }
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has printed this text; fails where it ends without.
    pub fn says(&mut self, text: &str) {
        until(&format!("it says `{text}`"), || {
            let ended = self.ended();
            let said = self.said();
            let found = said.contains(text);
            assert!(found || !ended, "it ended and never said `{text}`:\n{said}");
            found
        });
    }

    /// Sends a signal. A process that ended already hears nothing: until it was waited for, its number
    /// is its own.
    pub fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end and gives its status; none where a signal ended it.
    pub fn end(&mut self) -> Option<i32> {
        until("the process ends", || self.ended());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a condition; fails where it does not come in time.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// True while a process of this number is there and no zombie.
pub fn alive(pid: &str) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}
