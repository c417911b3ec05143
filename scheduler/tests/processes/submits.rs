//! `scheduler submit`: what its program would refuse, and what a key stands for already, is refused before it is queued.

use std::os::unix::ffi::OsStrExt;

use testkit::House;

fn jobs(house: &House) -> Vec<serde_json::Value> {
    house.json("scheduler", &["jobs", "--all", "--json"]).as_array().unwrap().clone()
}

#[test]
fn arguments_that_the_program_refuses_are_not_queued() {
    let house = House::new();
    for (arguments, says) in [
        (&["evaluate", "--", "nonsense"][..], "unexpected argument 'nonsense' found"),
        (&["evaluate", "--", "--outputs", "x", "--size", "5"], "5 is not in 8..=4096"),
        (&["ingest", "--", "--nope"], "unexpected argument '--nope' found"),
        (&["ingest", "--", "photographs", "--out"], "a value is required for '--out <URI>'"),
        (&["ingest", "--", "photographs"], "--out <URI>"),
        (&["ingest", "--", "--help"], "they print help and do no work"),
    ] {
        let said = house.fails(2, "scheduler", &[&["submit"], arguments].concat());
        assert!(said.contains(" does not take these arguments: "), "{said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{says}: {said}");
    }
    assert!(jobs(&house).is_empty());

    // Named by what is scored.
    house.ok("scheduler", &["submit", "evaluate", "--", "--outputs", "outputs/palette"]);
    assert_eq!(jobs(&house)[0]["name"], "palette-scores");

    // Shown as a shell takes it, with the folder that its paths start from.
    house.ok(
        "scheduler",
        &["submit", "ingest", "--name", "odd", "--", "it's here", "--out", "data/a"],
    );
    let shown = house.ok("scheduler", &["show", "odd"]);
    let here = house.path("").canonicalize().unwrap();
    let line = format!(
        "command      pipeline ingest 'it'\\''s here' --out data/a, in {}\n",
        here.display()
    );
    assert!(shown.contains(&line), "{shown}");
}

#[test]
fn without_the_program_arguments_are_taken_as_they_are_and_that_is_said() {
    let house = House::with_scripts();
    let submit = |arguments: &[&str]| {
        let output = house.run("scheduler", &[&["submit", "ingest", "--"], arguments].concat());
        assert!(output.status.success());
        testkit::text(&output.stderr)
    };
    let said = submit(&["--nope"]);
    assert!(said.contains("are checked when a worker has the job"), "{said}");
    // A program of before, which has no such command.
    house.script("pipeline", "echo unrecognized subcommand >&2; exit 2");
    let said = submit(&["--nope"]);
    assert!(said.contains("are checked when a worker has the job"), "{said}");
    assert_eq!(jobs(&house).len(), 2);
}

#[test]
fn a_key_that_asks_for_something_else_is_refused_and_a_script_runs_again() {
    let house = House::with_scripts();
    fn ask<'a>(more: &[&'a str], arguments: &[&'a str]) -> Vec<&'a str> {
        let submit = ["submit", "ingest", "--key", "k"];
        [&submit[..], more, &["--"], arguments].concat()
    }
    let first = house.ok("scheduler", &ask(&["--not-before", "+2h"], &["a", "--out", "b"]));
    assert!(first.contains(") submitted, queued"), "{first}");
    let short = first.split(' ').nth(1).unwrap();
    house.ok("scheduler", &["priority", "9", short]);
    house.ok("scheduler", &["rename", short, "other"]);
    let again = house
        .ok("scheduler", &ask(&["--not-before", "+3h", "--owner", "bob"], &["a", "--out", "b"]));
    assert!(again.contains(") was submitted before, queued"), "{again}");
    for (more, arguments, says) in [
        (&[][..], &["c", "--out", "b"][..], r#"payload.arguments[1]: "a" there, "c" here"#),
        (&["--name", "x"], &["a", "--out", "b"], r#"name: "ingest" there, "x" here"#),
        (&["--label", "zone=a"], &["a", "--out", "b"], "labels.zone"),
    ] {
        let said = house.fails(2, "scheduler", &ask(more, arguments));
        assert!(said.contains(says) && said.contains("choose another --key"), "{says}: {said}");
        assert!(said.contains(short), "{said}");
    }
    assert_eq!(jobs(&house).len(), 1);
}

/// The environment breaks the rule of `--owner`, and whoever submits has typed nothing wrong.
#[test]
fn an_owner_that_could_not_be_asked_for_is_not_taken_from_the_environment() {
    let house = House::with_scripts();
    let uid = nix::unistd::getuid();
    let login = nix::unistd::User::from_uid(uid).unwrap().map(|user| user.name);
    let login = login.unwrap_or_else(|| format!("uid-{uid}"));
    let long = "x".repeat(300);
    let wrong = [b"".as_slice(), b"a,b", b"a b\x1b[2J", b"caf\xe9", long.as_bytes()];
    for user in wrong {
        let mut command =
            house.command("scheduler", &["submit", "ingest", "--", "a", "--out", "b"]);
        testkit::run_ok(command.env("USER", std::ffi::OsStr::from_bytes(user)));
    }
    let jobs = jobs(&house);
    assert!(jobs.len() == wrong.len() && jobs.iter().all(|job| job["owner"] == login), "{jobs:?}");
}
