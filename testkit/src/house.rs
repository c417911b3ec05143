//! A home of a test's own, and the programs as a user calls them in it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::{Process, failed, program, psql, run_ok, text};

/// A folder with a home: its database, runs and data end with the test, and the private Postgres, which
/// the first command that needs it starts, is stopped.
pub struct House {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Default for House {
    fn default() -> Self {
        Self::new()
    }
}

impl House {
    /// A house whose workers find the real programs.
    pub fn new() -> Self {
        // Not below TMPDIR: the name of a socket is short. Postgres may be another user, who passes.
        let folder = tempfile::Builder::new().prefix("palette").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        Self { folder, environment: Vec::new() }
    }

    /// A house whose workers find no programs but the scripts of [`House::script`].
    pub fn with_scripts() -> Self {
        let mut house = Self::new();
        let bin = house.path("bin");
        std::fs::create_dir(&bin).unwrap();
        house.set([("PALETTE_BIN", bin.to_str().unwrap())]);
        house
    }

    /// Gives all further commands these variables.
    pub fn set<N: Into<String>, V: Into<String>>(
        &mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.environment.extend(variables);
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is in a file of the folder, nothing when it is not there.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Installs a shell script as the program of a kind of job; `$HOUSE` is the folder.
    pub fn script(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        let house = self.folder.path().display();
        std::fs::write(&path, format!("#!/bin/sh\nHOUSE='{house}'\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Any command, set up to run in this house: in its folder, with its home, quick to notice and to
    /// retry, without the user's own settings, and without GPUs unless `PALETTE_TEST_DEVICE` names one.
    pub fn inside(&self, mut command: Command) -> Command {
        let kept = Path::new("PALETTE_POSTGRES_BIN").as_os_str();
        let own = |name: &std::ffi::OsString| name.as_encoded_bytes().starts_with(b"PALETTE_");
        let names = std::env::vars_os().map(|(name, _)| name);
        for name in names.filter(|name| own(name) && name != kept) {
            command.env_remove(name);
        }
        if test_device() == "cpu" {
            command.env("CUDA_VISIBLE_DEVICES", "");
        }
        command
            .current_dir(self.folder.path())
            .env_remove("DATABASE_URL")
            .env_remove("RUST_LOG")
            .env("PALETTE_HOME", self.path("home"))
            .env("PALETTE_LEASE_SECONDS", "2")
            .env("PALETTE_RETRY_SECONDS", "0.05")
            .env("PALETTE_GRACE_SECONDS", "20")
            // Who submits is the test itself, also to a database of its own.
            .env("PALETTE_TRUST_SUBMITTERS", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// One of our programs with these arguments, in this house.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.inside(Command::new(program(name)));
        command.args(arguments);
        command
    }

    /// A line of shell in this house, as for limits that only a shell sets.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = self.inside(Command::new("sh"));
        command.args(["-c", line]);
        command
    }

    /// Runs a program to its end.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Output {
        self.command(name, arguments).output().unwrap()
    }

    /// Runs a program that must succeed; gives its standard output.
    pub fn ok(&self, name: &str, arguments: &[&str]) -> String {
        run_ok(&mut self.command(name, arguments))
    }

    /// Runs a program that must succeed and prints JSON.
    pub fn json(&self, name: &str, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(name, arguments)).unwrap()
    }

    /// Runs a program that must fail with this status and one line on standard error; gives the line.
    pub fn fails(&self, status: i32, name: &str, arguments: &[&str]) -> String {
        let said = failed(&mut self.command(name, arguments), status);
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        said
    }

    /// Starts a command whose output goes to this file of the folder.
    pub fn start(&self, log: &str, mut command: Command) -> Process {
        Process::start(&mut command, self.path(log))
    }

    /// Starts a worker whose output goes to this file of the folder.
    pub fn worker(&self, log: &str, arguments: &[&str]) -> Process {
        let mut command = self.command("scheduler", &["worker", "--poll", "0.1"]);
        command.args(arguments);
        self.start(log, command)
    }

    /// The address of the database, whose server runs then.
    pub fn url(&self) -> String {
        self.ok("scheduler", &["url"]).trim().to_owned()
    }

    /// Runs SQL on the database; gives the rows that come back, fields between `|`.
    pub fn sql(&self, statement: &str) -> String {
        let output = psql(&self.url(), &["-A", "-t", "-c", statement]);
        assert!(output.status.success(), "{statement}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if self.path("home/postgres").exists() {
            let _ = self.command("scheduler", &["down"]).output();
        }
    }
}

/// The device under test as `train.device` names it: that of `PALETTE_TEST_DEVICE`, else the CPU.
pub fn test_device() -> &'static str {
    let named = std::env::var("PALETTE_TEST_DEVICE").unwrap_or_default();
    if named.starts_with("cuda") { "cuda" } else { "cpu" }
}
