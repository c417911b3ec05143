//! Commands that are run to their end.

use std::process::{Command, Output};

/// Runs a command that must succeed; gives its standard output.
pub fn run_ok(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail with this status; gives its standard error.
pub fn failed(command: &mut Command, status: i32) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{command:?}: {stderr}");
    stderr
}

/// Asks a database by `psql`, which stops at the first error and reads nobody's settings.
pub fn psql(url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("psql");
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]).args(arguments).arg(url);
    command.output().unwrap()
}

/// What a program printed.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
