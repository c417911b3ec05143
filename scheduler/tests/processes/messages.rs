//! Messages of a worker and its children for programs, and what must not be in any.

use serde_json::Value;

use crate::database::{job, row, set_up, submit};

/// A child that fails as our programs do, in the form that the worker asks for.
const FAILS: &str = r#"echo "$PALETTE_LOG_FORMAT" > "$HOUSE/format"
echo 'a plain line'
echo '{"level":"INFO","message":"step 5/10","target":"trainer","step":5}' >&2
echo '{"level":"ERROR","message":"no \"luck\"","target":"terminal"}' >&2
echo '{"level":"INFO","message":"tidied up","target":"trainer"}' >&2
exit 2"#;

#[test]
fn a_worker_prints_json_with_fields_and_reads_that_of_its_children() {
    let (house, runtime, db) = set_up();
    house.script("trainer", FAILS);
    let job = submit(&runtime, &db, job("unlucky"));
    let arguments = ["--drain", "--follow", "--log-format", "json", "--name", "bench-1"];
    let mut worker = house.worker("report", &arguments);
    assert_eq!(worker.end(), Some(1), "{}", house.read("report"));
    assert_eq!(house.read("format").trim(), "json");
    let reason = row(&runtime, &db, &job).reason;
    assert_eq!(reason.as_deref(), Some("exit status 2: no \"luck\""));

    let report = house.read("report");
    let lines: Vec<Value> =
        report.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let find = |name: &str, value: &str| {
        let holds = |line: &&Value| line[name].as_str().is_some_and(|text| text.contains(value));
        lines.iter().find(holds).unwrap_or_else(|| panic!("{name}: {value}\n{report}"))
    };
    assert_eq!(find("message", "at a time")["worker"], "bench-1");
    let started = find("message", "started, attempt 1");
    assert_eq!((&started["job"], &started["attempt"]), (&job.short.as_str().into(), &1.into()));
    assert_eq!(find("state", "failed")["job"], job.short.as_str());
    // What the child said is passed on as it is, with the job.
    let step = find("message", "step 5/10");
    assert_eq!((&step["target"], &step["step"]), (&"trainer".into(), &5.into()));
    assert_eq!(step["job"], job.short.as_str());
    assert_eq!(find("message", "a plain line")["job"], job.short.as_str());
    assert_eq!(find("message", "1 of 1 jobs failed")["level"], "ERROR");
}

#[test]
fn children_of_a_worker_that_prints_text_print_text() {
    let (house, runtime, db) = set_up();
    house.script("trainer", FAILS);
    submit(&runtime, &db, job("unlucky"));
    let mut worker = house.worker("report", &["--drain", "--quiet"]);
    assert_eq!(worker.end(), Some(1), "{}", house.read("report"));
    assert_eq!(house.read("format").trim(), "text");
    let report = house.read("report");
    assert!(report.starts_with("error: 1 of 1 jobs failed") && report.lines().count() == 1);
}

#[test]
fn the_password_of_a_database_is_in_no_message() {
    let house = testkit::House::with_scripts();
    for url in ["postgres://me:sesame@127.0.0.1:1/none", "postgres://me:sesame@127.0.0.1:none/none"]
    {
        let mut command = house.command("scheduler", &["jobs"]);
        let output = command.env("DATABASE_URL", url).env("RUST_LOG", "trace").output().unwrap();
        let stderr = testkit::text(&output.stderr);
        assert!(!output.status.success() && stderr.contains("error: "), "{stderr}");
        assert!(!stderr.contains("sesame"), "{stderr}");
    }
}
