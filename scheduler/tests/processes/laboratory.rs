//! What a laboratory asks of its workers: a wall time, preemption, ends by force, logs from elsewhere,
//! jobs that are command lines.

use nix::sys::signal::Signal;
use registry::{Database, JobKind, JobState, NewJob};
use serde_json::json;

use crate::house::{alive, set_up, until};

/// Says that it is there, prints a line, and stays until it is asked to stop.
const STAYS: &str = r#"trap 'exit 75' TERM
echo "attempt ${PALETTE_ATTEMPT##*:} works"
echo $$ > "$HOUSE/pid-${PALETTE_ATTEMPT%%:*}"
while :; do sleep 0.05; done"#;

fn submit(runtime: &tokio::runtime::Runtime, db: &Database, new: NewJob) -> registry::Job {
    runtime.block_on(db.submit(new)).unwrap().job
}

fn job(name: &str) -> NewJob {
    NewJob::new(JobKind::Train, name, json!({}))
}

fn state(runtime: &tokio::runtime::Runtime, db: &Database, job: &registry::Job) -> JobState {
    runtime.block_on(db.job(job.id)).unwrap().state
}

#[test]
fn at_the_end_of_its_wall_time_a_worker_requeues_what_it_does_and_ends() {
    let (house, runtime, db) = set_up();
    house.program("trainer", STAYS);
    let job = submit(&runtime, &db, job("long"));
    let mut worker = house.worker("report", &["--grace", "1", "--max-walltime", "3s"]);
    assert_eq!(worker.end(), Some(0), "{}", house.read("report"));
    let row = runtime.block_on(db.job(job.id)).unwrap();
    assert_eq!((row.state, row.attempt, row.attempts_used), (JobState::Queued, 1, 0));
    assert!(house.read("report").contains("wall time is nearly over"), "{}", house.read("report"));
    assert_eq!(row.reason.as_deref(), Some("the wall time of its worker was nearly over"));
    let output = house.run(&["worker", "--grace", "60", "--max-walltime", "30s"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_job_of_higher_priority_takes_the_place_of_a_lower_one_which_goes_on_after_it() {
    let (house, runtime, db) = set_up();
    house.program(
        "trainer",
        &format!("test -e \"$HOUSE/done-${{PALETTE_ATTEMPT%%:*}}\" && exit 0\n{STAYS}"),
    );
    let low = submit(&runtime, &db, job("low"));
    let _worker = house.worker("report", &[]);
    until("the low one runs", || house.path(&format!("pid-{}", low.id)).exists());
    let high = submit(&runtime, &db, NewJob { priority: 5, preempts: true, ..job("high") });
    std::fs::write(house.path(&format!("done-{}", high.id)), "").unwrap();
    std::fs::write(house.path(&format!("done-{}", low.id)), "").unwrap();
    until("both are done", || {
        [&low, &high].iter().all(|job| state(&runtime, &db, job) == JobState::Succeeded)
    });
    let attempts = runtime.block_on(db.attempts(low.id)).unwrap();
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0].reason.as_deref(), Some("gave way to a job of higher priority"));
    let first = runtime.block_on(db.attempts(high.id)).unwrap();
    assert!(first[0].ended_at.unwrap() <= attempts[1].started_at, "the high one came first");
    assert!(house.read("report").contains("asked to give way to"), "{}", house.read("report"));
    assert_eq!(runtime.block_on(db.job(low.id)).unwrap().attempts_used, 0);
}

#[test]
fn an_end_by_force_kills_a_child_that_hears_nothing() {
    let (house, runtime, db) = set_up();
    house.program(
        "trainer",
        r#"trap '' TERM; echo $$ > "$HOUSE/pid"; while :; do sleep 0.05; done"#,
    );
    let job = submit(&runtime, &db, job("deaf"));
    let worker = house.worker("report", &[]);
    until("the child runs", || house.read("pid").ends_with('\n'));
    house.ok(&["cancel", "--force", &job.short]);
    assert_eq!(state(&runtime, &db, &job), JobState::Cancelled);
    until("the child is gone", || !alive(&house.read("pid")));
    worker.signal(Signal::SIGTERM);
}

#[test]
fn a_log_is_followed_from_a_host_that_does_not_have_its_file() {
    let (house, runtime, db) = set_up();
    house.program("trainer", STAYS);
    let job = submit(&runtime, &db, job("far"));
    let _worker = house.worker("report", &[]);
    until("the child runs", || house.path(&format!("pid-{}", job.id)).exists());
    until("its log is in the database", || {
        let attempts = runtime.block_on(db.attempts(job.id)).unwrap();
        attempts[0].log_tail.as_deref() == Some("attempt 1 works\n")
    });
    let path = runtime.block_on(db.attempts(job.id)).unwrap()[0].log_path.clone().unwrap();
    std::fs::rename(&path, format!("{path}.away")).unwrap();
    assert_eq!(house.ok(&["logs", "far"]), "attempt 1 works\n");
    let mut command = house.command(&["logs", "-f", "far"]);
    let output = std::fs::File::create(house.path("followed")).unwrap();
    let mut following = crate::house::Process(command.stdout(output).spawn().unwrap());
    until("the log is followed", || house.read("followed").contains("attempt 1 works"));
    house.ok(&["cancel", "far"]);
    assert_eq!(following.end(), Some(0));
}

#[test]
fn an_ingest_is_a_job_of_its_command_line() {
    let (house, runtime, db) = set_up();
    house.program("pipeline", r#"echo "$@"; pwd"#);
    let mut command = house.command(&["submit", "ingest", "--name", "photos", "--json", "--"]);
    command.args(["some folder", "--out", "data"]).current_dir(house.path("bin"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", crate::house::text(&output.stderr));
    let mut worker = house.worker("report", &["--drain"]);
    assert_eq!(worker.end(), Some(0), "{}", house.read("report"));
    let log = house.ok(&["logs", "photos"]);
    assert_eq!(log, format!("ingest some folder --out data\n{}\n", house.path("bin").display()));
    let job = runtime.block_on(db.find_job("photos")).unwrap();
    assert_eq!((job.state, job.kind), (JobState::Succeeded, JobKind::Ingest));
}
