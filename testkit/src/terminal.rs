//! A terminal of a test's own that can be stopped, as by Ctrl-S.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::pty::openpty;
use nix::sys::termios::{FlowArg, tcflow};

/// A pseudoterminal. What is written to it goes to a file, as long as it is not stopped.
pub struct Terminal {
    theirs: OwnedFd,
    log: PathBuf,
}

impl Terminal {
    /// A new one with its file, which is made anew.
    pub fn open(log: PathBuf) -> Self {
        let pty = openpty(None, None).unwrap();
        let (mut master, mut file) = (File::from(pty.master), File::create(&log).unwrap());
        // Ends with an error when nobody has the other end any more.
        std::thread::spawn(move || std::io::copy(&mut master, &mut file));
        Self { theirs: pty.slave, log }
    }

    /// For a command that writes to it.
    pub fn stdio(&self) -> Stdio {
        self.theirs.try_clone().unwrap().into()
    }

    /// The file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// From now on who writes to it waits.
    pub fn stop(&self) {
        tcflow(&self.theirs, FlowArg::TCOOFF).unwrap();
    }

    /// It goes on.
    pub fn go_on(&self) {
        tcflow(&self.theirs, FlowArg::TCOON).unwrap();
    }
}
