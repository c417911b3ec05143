//! A home of a test's own, and the program `scheduler` as a user calls it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder with a home and the programs of the jobs; the private Postgres is stopped at the end.
pub struct House {
    folder: tempfile::TempDir,
}

impl House {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Installs a shell script as the program of a kind of job; `$HOUSE` is this folder.
    pub fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        let house = self.folder.path().display();
        std::fs::write(&path, format!("#!/bin/sh\nHOUSE='{house}'\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `scheduler ARGUMENTS` in this house, quick to notice and to retry.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scheduler"));
        command
            .args(arguments)
            .env_remove("DATABASE_URL")
            .env_remove("PALETTE_ATTEMPT")
            .env("PALETTE_HOME", self.path("home"))
            .env("PALETTE_BIN", self.path("bin"))
            .env("PALETTE_LEASE_SECONDS", "2")
            .env("PALETTE_RETRY_SECONDS", "0.05")
            .env("PALETTE_GRACE_SECONDS", "20")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed and gives what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a command that must fail with status 1, in one line, and gives it.
    pub fn fails(&self, arguments: &[&str]) -> String {
        self.fails_with(arguments, &[])
    }

    /// The same with other variables.
    pub fn fails_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let output = self.command(arguments).envs(environment.iter().copied()).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        stderr
    }

    /// Starts a worker whose reports go to a file of this name.
    pub fn worker(&self, name: &str, arguments: &[&str]) -> Process {
        let log = std::fs::File::create(self.path(name)).unwrap();
        let mut command = self.command(&["worker", "--poll", "0.1"]);
        command.args(arguments).stdout(log.try_clone().unwrap()).stderr(log);
        Process(command.spawn().unwrap())
    }

    /// What is in a file of this house, nothing when it is not there.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.run(&["down"]);
    }
}

/// A house with a running server, and its database.
pub fn set_up() -> (House, tokio::runtime::Runtime, registry::Database) {
    let house = House::new();
    house.ok(&["up"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = house.ok(&["url"]);
    let db = runtime.block_on(registry::Database::open_url(url.trim())).unwrap();
    (house, runtime, db)
}

/// A process that does not outlive its test.
pub struct Process(pub Child);

impl Process {
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Waits for its end and gives its status.
    pub fn end(&mut self) -> Option<i32> {
        let mut status = None;
        until("the process ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a condition, a minute at most.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// True while a process of this number is there and no zombie.
pub fn alive(pid: &str) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
