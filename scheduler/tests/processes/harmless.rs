//! What people and jobs write reaches no terminal raw, and names have one rule wherever they are given.

use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use registry::{JobState, NewJob};
use testkit::text;

use crate::database::{job, row, set_up, state, submit};

/// Moves a title, clears a screen, turns the direction, and the one-byte form of ESC [.
const HOSTILE: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}\u{9b}31m";

/// What is said of wrong use, of the command line's own too.
fn misused(house: &testkit::House, arguments: &[&str]) -> String {
    testkit::failed(&mut house.command("scheduler", arguments), 2)
}

/// What a command prints on a terminal, both streams in one.
fn on_terminal(house: &testkit::House, arguments: &str) -> String {
    let mut script = house.inside(Command::new("script"));
    let line = format!("exec '{}' {arguments}", testkit::program("scheduler").display());
    let drawn = house.path("drawn");
    script.args(["--quiet", "--flush", "--return", "--command", &line]).arg(&drawn);
    script.env("SHELL", "/bin/sh").env("COLUMNS", "200").env_remove("NO_COLOR");
    script.env("TERM", "xterm").stdin(std::process::Stdio::null()).output().unwrap();
    // The first line is of `script` itself, with the command.
    let drawn = house.read("drawn");
    drawn.split_once('\n').map(|(_, drawn)| drawn.to_owned()).unwrap_or_default()
}

/// That nothing is in it but text and our own colours, and what was hostile is shown.
fn harmless(what: &str, drawn: &str) {
    assert!(drawn.contains("owned"), "{what}: {drawn:?}");
    for raw in ["\u{1b}]", "\u{7}", "\u{1b}[2J", "\u{202e}", "\u{9b}"] {
        assert!(!drawn.contains(raw), "{what} lets {raw:?} through: {drawn:?}");
    }
    assert!(drawn.contains("\\x1b]0;owned\\x07\\x1b[2J"), "{what}: {drawn:?}");
}

#[test]
fn what_is_stored_and_logged_reaches_no_terminal_raw() {
    let (house, runtime, db) = set_up();
    house.script("trainer", &format!("printf '%s\\n' '{HOSTILE}' >&2; exit 2"));
    let queued = submit(&runtime, &db, job("demo"));
    let held = submit(&runtime, &db, NewJob { held: true, ..job("other") });
    house.run("scheduler", &["worker", "--drain"]);
    assert_eq!(state(&runtime, &db, &queued), JobState::Failed);
    // As rows of before the rule: a name, a tag, a note, a reason.
    house.sql(&format!(
        "update jobs set name = '{HOSTILE}', tags = array['{HOSTILE}'], note = '{HOSTILE}', reason = '{HOSTILE}'"
    ));
    for arguments in ["jobs --all", "show SHORT", "logs SHORT", "tag SHORT x"] {
        let drawn = on_terminal(&house, &arguments.replace("SHORT", &queued.short));
        harmless(arguments, &drawn);
    }
    let renamed = on_terminal(&house, &format!("rename {} fine", held.short));
    harmless("rename", &renamed);
    // JSON is JSON still.
    let listed = house.json("scheduler", &["jobs", "--all", "--json"]);
    assert_eq!(listed[0]["note"], HOSTILE, "{listed}");
    // A pipe gets the log as it is.
    let logged = house.run("scheduler", &["logs", &queued.short]).stdout;
    assert!(text(&logged).contains(HOSTILE));
    // Our own colours stay ours.
    let drawn = on_terminal(&house, "jobs --all");
    assert!(drawn.contains("\u{1b}[31mfailed\u{1b}[0m"), "{drawn:?}");
    harmless("an argument", &on_terminal(&house, &format!("show '{HOSTILE}'")));
    harmless("an option", &on_terminal(&house, &format!("jobs --state '{HOSTILE}'")));
}

#[test]
fn names_tags_labels_and_keys_have_one_rule_at_submit() {
    let (house, runtime, db) = set_up();
    let long = "x".repeat(10_000);
    let submit_with = |option: &str, value: &str| {
        let arguments = ["submit", "ingest", option, value, "--", "a", "--out", "b"];
        misused(&house, &arguments)
    };
    for bad in ["", "two words", "a\u{1b}[31m", "a\u{200b}b", "a\u{202e}b", "a@b", "a/b", &long] {
        let error = submit_with("--name", bad);
        assert!(error.contains("a name is 1 to 100 characters"), "{bad:.20}: {error:.300}");
        assert!(!error.contains('\u{1b}') && !error.contains('\u{202e}'), "{error:?}");
        let error = misused(&house, &["worker", "--drain", "--name", bad]);
        assert!(error.contains("a name is"), "{error:.300}");
    }
    for (option, bad) in [
        ("--tag", long.as_str()),
        ("--tag", "a\u{7}b"),
        ("--label", "a=\u{1b}"),
        ("--label", "a"),
        ("--key", "a\nb"),
        ("--owner", "a\u{202e}b"),
    ] {
        let error = submit_with(option, bad);
        assert!(
            error.contains("characters") && !error.contains('\u{1b}'),
            "{option}: {error:.300}"
        );
    }
    let unicode = "é".repeat(100);
    house.ok("scheduler", &["submit", "ingest", "--name", &unicode, "--", "a", "--out", "b"]);
    let made = submit(&runtime, &db, job("demo"));
    for bad in ["a\u{1b}b", &long] {
        house.fails(2, "scheduler", &["rename", "demo", bad]);
        house.fails(2, "scheduler", &["tag", "demo", bad]);
    }
    assert_eq!(row(&runtime, &db, &made).name, "demo");
    let refused = runtime.block_on(db.submit(job("a\u{1b}b"))).unwrap_err();
    assert!(refused.is_usage(), "{refused}");
}

#[test]
fn what_is_not_archived_is_not_listed_again() {
    let (house, runtime, db) = set_up();
    let demo = submit(&runtime, &db, NewJob { held: true, ..job("demo") });
    let short = &demo.short;
    let said = house.ok("scheduler", &["unarchive", "demo"]);
    assert_eq!(said, format!("job {short} demo is not archived\n"));
    house.ok("scheduler", &["cancel", "demo"]);
    house.ok("scheduler", &["archive", "demo"]);
    let said = house.ok("scheduler", &["unarchive", "demo"]);
    assert_eq!(said, format!("job {short} demo is listed again\n"));
}

#[test]
fn a_moment_is_counted_by_the_server_and_spans_have_limits() {
    let (house, _runtime, _db) = set_up();
    let submit = |moment: &str| {
        ["submit", "ingest", "--not-before", moment, "--", "a", "--out", "b"].map(str::to_owned)
    };
    let run = |moment: &str, zone: &str| {
        let arguments = submit(moment);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        house.command("scheduler", &arguments).env("TZ", zone).output().unwrap()
    };
    let output = run("+90m", "UTC");
    assert!(text(&output.stderr).contains("not before "), "{}", text(&output.stderr));
    // The row's own clock is the server's.
    let late = "select abs(extract(epoch from run_after - created_at) - 5400) < 30 from jobs";
    assert_eq!(house.sql(late), "t\n");
    for (moment, says) in [
        ("+99999999h", "more than a year"),
        ("+99999999999999999999999d", "more than a year"),
        ("18:00+25:00", "a moment such as"),
        ("18:60", "a moment such as"),
        ("18:00:60", "a moment such as"),
    ] {
        let output = run(moment, "UTC");
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(says), "{moment}: {said}");
    }
    // Local time that cannot be known is asked for only where it is needed.
    assert!(run("+2h", "No/Where").status.success());
    assert!(run("23:00Z", "No/Where").status.success());
    let said = run("23:00", "No/Where");
    assert!(said.status.code() == Some(2) && text(&said.stderr).contains("TZ"), "{said:?}");
    for arguments in [
        &["worker", "--drain", "--max-walltime", "99999999999999h"][..],
        &["gc", "--older-than", "99999999999999h"],
        &["jobs", "--since", "99999999999999h"],
    ] {
        let said = misused(&house, arguments);
        assert!(said.contains("years"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_folder_whose_name_is_no_text_is_named_in_one_line() {
    let (house, _runtime, _db) = set_up();
    let folder = house.path("").join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&folder).unwrap();
    let mut command = house.command("scheduler", &["submit", "ingest", "--", "a", "--out", "b"]);
    let said = testkit::failed(command.current_dir(&folder), 2);
    assert!(said.contains("caf\\xE9") && said.lines().count() == 1, "{said}");
    let mut command = house.command("scheduler", &["jobs"]);
    let said = testkit::failed(command.env_remove("DATABASE_URL").env("PALETTE_HOME", &folder), 1);
    assert!(said.contains("UTF-8") && said.lines().count() == 1, "{said}");
}

#[test]
fn colours_are_forced_by_no_zero() {
    let (house, runtime, db) = set_up();
    submit(&runtime, &db, job("demo"));
    let colours = |force: &str| {
        let mut command = house.command("scheduler", &["jobs"]);
        let output = command.env_remove("NO_COLOR").env("CLICOLOR_FORCE", force).output().unwrap();
        text(&output.stdout).contains('\u{1b}')
    };
    assert!(colours("1") && !colours("0") && !colours(""));
}
