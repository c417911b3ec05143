//! The script of a pilot where there is no Slurm.

use std::process::Command;

use testkit::{House, program, run_ok, text};

/// A line of shell in a house that has our programs and no other.
fn shell(house: &House, line: &str) -> Command {
    let mut command = house.inside(Command::new("/bin/sh"));
    command.args(["-c", line]).env("PATH", program("scheduler").parent().unwrap());
    command
}

#[test]
fn examples_are_what_the_command_prints() {
    let house = House::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/slurm");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "sbatch") {
            continue;
        }
        let example = std::fs::read_to_string(&path).unwrap();
        let line = example.lines().find_map(|line| line.strip_prefix("#   scheduler slurm "));
        let line = format!("scheduler slurm {}", line.unwrap());
        let printed = run_ok(&mut shell(&house, &line));
        assert_eq!(printed, example, "{}: print it again: {line} > {0}", path.display());
        found += 1;
    }
    assert!(found > 1);
}

#[test]
fn without_slurm_a_script_is_printed_and_none_is_submitted() {
    let house = House::new();
    let said = |line: &str, status: i32| {
        let output = shell(&house, line).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{line}: {}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let (script, warnings) = said("scheduler slurm --partition gpu --json", 0);
    let script: serde_json::Value = serde_json::from_str(&script).unwrap();
    assert!(script["script"].as_str().unwrap().starts_with("#!/bin/bash\n"));
    assert_eq!(script["submitted"], serde_json::Value::Null);
    assert!(warnings.contains("DATABASE_URL is not set"), "{warnings}");
    let (_, error) = said("scheduler slurm --partition gpu --submit", 1);
    assert!(error.contains("there is no sbatch here"), "{error}");
    for (line, says) in [
        ("--partition 'gpu; rm'", "a name of Slurm"),
        ("--partition gpu --time 2m", "no job could run"),
        ("--partition gpu --grace 30", "a time with its unit"),
        ("--partition gpu --grace 19h", "at most 18 hours"),
        ("--partition gpu -- --drain", "cannot be used multiple times"),
        ("--partition gpu -- --name 'a\nb'", "control characters"),
        ("--partition gpu --no-requeue --restarts 3", "cannot be used with"),
    ] {
        let (_, error) = said(&format!("scheduler slurm {line}"), 2);
        assert!(error.contains(says), "{line}: {error}");
    }
}
