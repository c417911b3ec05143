//! A run in the foreground whose output nobody reads, or that has nowhere to go.

use testkit::{House, program, python, run_ok, until};

/// Runs a command on a terminal that nobody reads; how it ended is in `end`.
const TERMINAL: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
status = os.waitpid(pid, 0)[1]
open("end", "w").write(f"{os.waitstatus_to_exitcode(status)}\n")
"#;

fn state(house: &House, run: &str) -> String {
    let jobs = house.json("scheduler", &["jobs", "--all", "--name", run, "--json"]);
    jobs[0]["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_run_on_a_terminal_that_nobody_reads_trains_to_its_end() {
    let house = House::new();
    let Some(python) = python(&[]) else { return };
    house.dataset(8);
    // Far more lines than a terminal holds: a point of metrics is a line at each step.
    let config = house.config("unread", 400);
    let mut command = house.inside(std::process::Command::new(python));
    command.args(["-c", TERMINAL]).arg(program("trainer"));
    command.args(["run", &config, "--verbose", "--set", "train.log_every=1"]);
    command.args(["--set", "train.checkpoint={ every = 200 }"]);
    let _terminal = house.start("python", command);
    until("it ends", || house.read("end").ends_with('\n'));
    assert_eq!(house.read("end"), "0\n", "{}", house.read("python"));
    assert_eq!(state(&house, "unread"), "succeeded");
}

#[test]
fn a_run_whose_output_goes_nowhere_trains_to_its_end() {
    let house = House::new();
    house.dataset(8);
    for (name, line) in [
        ("piped", "trainer run piped.toml 2>&1 | head -n 1; echo >end-piped"),
        ("full", "trainer run full.toml >/dev/full 2>/dev/full && echo >end-full"),
        ("closed", "trainer run closed.toml >&- 2>&- && echo >end-closed"),
    ] {
        house.config(name, 6);
        let folder = program("trainer").parent().unwrap().display().to_string();
        run_ok(&mut house.shell(&format!("PATH='{folder}':$PATH; {line}")));
        until("it ends", || state(&house, name) != "running");
        assert_eq!(state(&house, name), "succeeded", "{name}");
        assert!(house.path(&format!("end-{name}")).exists(), "{name}");
    }
    let mut ingest = house.shell(&format!(
        "'{}' ingest scenes --layout folder --name scenes --out again 2>/dev/full",
        program("pipeline").display()
    ));
    run_ok(&mut ingest);
    assert!(house.ok("pipeline", &["inspect", "again"]).contains('8'));
}
