//! A server that says no for a while: time limits, locks, no writes, no connections. Nothing that was done is lost.

use registry::{Job, JobState, NewJob, Outcome};
use sqlx::{Connection, PgConnection};
use testkit::{House, Signal, until};

use crate::database::{Session, job, open, row, set_up, state, submit};

/// Says that it is there, and succeeds when it is told to.
const WAITS: &str = r#"echo $$ > "$HOUSE/pid"; while ! test -e "$HOUSE/go"; do sleep 0.05; done"#;

/// A job of one try ends while the server says no; gives it as it is in the end, with what its worker said.
fn end_in(harm: impl FnOnce(&mut Session), remedy: impl FnOnce(&mut Session)) -> (Job, String) {
    let (house, runtime, db) = set_up();
    house.script("trainer", WAITS);
    let job = submit(&runtime, &db, NewJob { max_attempts: 1, ..job("only") });
    let mut session = Session::new(&house, &runtime);
    let mut worker = house.worker("report", &["--drain"]);
    until("the child runs", || house.read("pid").ends_with('\n'));
    harm(&mut session);
    std::fs::write(house.path("go"), "").unwrap();
    until("its end could not be stored", || {
        house.read("report").contains("its end is not stored yet")
    });
    remedy(&mut session);
    let status = worker.end();
    let report = house.read("report");
    assert_eq!(status, Some(0), "{report}");
    let attempts = runtime.block_on(db.attempts(job.id)).unwrap();
    assert_eq!(attempts.len(), 1, "{report}");
    assert_eq!(attempts[0].outcome, Some(Outcome::Succeeded), "{report}");
    (row(&runtime, &db, &job), report)
}

#[test]
fn an_end_waits_for_a_locked_table_through_limits_of_statements_and_locks() {
    for limit in ["statement_timeout = '100ms'", "lock_timeout = '100ms'"] {
        let (job, report) = end_in(
            |session| {
                session.run(&format!("alter database palette set {limit}"));
                session.end_others();
                session.run("begin; lock table attempts in access exclusive mode");
            },
            |session| session.run("commit"),
        );
        assert_eq!(job.state, JobState::Succeeded, "{limit}: {report}");
        assert!(report.contains("timeout"), "{limit}: {report}");
        assert!(!report.contains("another worker"), "{limit}: {report}");
    }
}

#[test]
fn an_end_waits_for_a_server_that_takes_no_writes() {
    let (job, report) = end_in(
        |session| {
            session.run("alter database palette set default_transaction_read_only = on");
            session.end_others();
        },
        |session| {
            session.run("alter database palette reset default_transaction_read_only");
            session.end_others();
        },
    );
    assert_eq!(job.state, JobState::Succeeded, "{report}");
    assert!(report.contains("read-only transaction"), "{report}");
}

#[test]
fn an_end_waits_for_a_role_that_may_not_log_in_for_a_while() {
    let (job, report) = end_in(
        |session| {
            session.run("alter role palette nologin");
            session.end_others();
        },
        |session| session.run("alter role palette login"),
    );
    assert_eq!(job.state, JobState::Succeeded, "{report}");
    assert!(report.contains("not permitted to log in"), "{report}");
}

#[test]
fn an_end_that_can_never_be_stored_is_a_failure_that_says_why() {
    let (house, runtime, db) = set_up();
    house.script("trainer", "exit 0");
    let job = submit(&runtime, &db, job("never"));
    house.sql("alter table attempts add constraint no_success check (outcome <> 'succeeded')");
    let mut worker = house.worker("report", &["--drain"]);
    assert_eq!(worker.end(), Some(1), "{}", house.read("report"));
    let row = row(&runtime, &db, &job);
    assert_eq!((row.state, row.attempt), (JobState::Failed, 1));
    let reason = row.reason.unwrap();
    assert!(
        reason.contains("its end cannot be stored") && reason.contains("no_success"),
        "{reason}"
    );
}

#[test]
fn statements_do_not_pile_up_behind_a_locked_table() {
    let (house, runtime, db) = set_up();
    house.script("trainer", WAITS);
    let job = submit(&runtime, &db, job("locked"));
    let mut session = Session::new(&house, &runtime);
    let mut worker = house.worker("report", &["--drain"]);
    until("the child runs", || house.read("pid").ends_with('\n'));
    session.run("begin; lock table jobs in access exclusive mode");
    let (mut looks, mut most) = (0, 0);
    until("many statements have come to their limit", || {
        let waiting = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        most = most.max(session.count(waiting));
        looks += 1;
        looks >= 100
    });
    session.run("commit");
    assert!((1..=3).contains(&most), "{most} statements waited");
    std::fs::write(house.path("go"), "").unwrap();
    // Its lease ran out meanwhile, and it may have been stopped for that: it uses up no try.
    assert_eq!(worker.end(), Some(0), "{}", house.read("report"));
    let row = row(&runtime, &db, &job);
    assert_eq!((row.state, row.attempts_used), (JobState::Succeeded, 0));
}

#[test]
fn twelve_workers_work_on_a_server_of_twenty_five_connections() {
    let (house, runtime, db) = set_up();
    house.script("trainer", "sleep 0.2");
    drop((db, runtime));
    house.sql("alter system set max_connections = 25");
    house.ok("scheduler", &["down"]);
    house.ok("scheduler", &["up"]);
    let (runtime, db) = open(&house);
    let jobs: Vec<Job> =
        (0..36).map(|number| submit(&runtime, &db, job(&format!("job-{number}")))).collect();
    drop((db, runtime));
    let workers = (0..12).map(|number| house.worker(&format!("report-{number}"), &["--drain"]));
    let workers: Vec<_> = workers.collect();
    for (number, mut worker) in workers.into_iter().enumerate() {
        assert_eq!(worker.end(), Some(0), "{}", house.read(&format!("report-{number}")));
    }
    let (runtime, db) = open(&house);
    for job in &jobs {
        let row = row(&runtime, &db, job);
        assert_eq!((row.state, row.attempt, row.attempts_used), (JobState::Succeeded, 1, 0));
    }
}

#[test]
fn a_child_that_finds_no_free_connection_waits_for_one() {
    let house = House::new();
    house.ok("scheduler", &["up"]);
    let (runtime, db) = open(&house);
    let mut worker = house.worker("report", &[]);
    until("the worker is ready", || house.read("report").contains("nothing to do"));
    let held = submit(&runtime, &db, NewJob { held: true, max_attempts: 1, ..job("waits") });
    let mut session = Session::new(&house, &runtime);
    let mut others = Vec::new();
    let url = house.url();
    while let Ok(other) = runtime.block_on(PgConnection::connect(&url)) {
        others.push(other);
    }
    session.run(&format!("update jobs set state = 'queued' where id = '{}'", held.id));
    let log = format!("home/jobs/{}/attempt-1/log", held.short);
    until("the child waits", || house.read(&log).contains("waiting for the database"));
    drop(others);
    // Of an empty payload nothing can be made; that is what ends it.
    until("it went on", || state(&runtime, &db, &held) == JobState::Failed);
    let reason = row(&runtime, &db, &held).reason.unwrap();
    assert!(!reason.contains("connection"), "{reason}");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end(), Some(0));
}
