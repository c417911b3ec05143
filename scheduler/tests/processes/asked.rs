//! Workers that are asked to end, by signals and by terminals that hang up or that nobody reads.

use registry::{JobState, NewJob, Outcome, STOPPED};
use testkit::{House, Process, Signal, alive, until};

use crate::database::{job, row, set_up, state, submit};

/// Stays; asked to stop, it says so and ends with status 75 once it may.
const WAITS: &str = r#"trap 'echo > "$HOUSE/asked"' TERM
echo $$ > "$HOUSE/pid"
until test -e "$HOUSE/asked" && test -e "$HOUSE/go"; do sleep 0.05; done
exit 75"#;

/// Runs a command on a terminal that nobody reads. `hangup` in the folder closes it; how the command ended is in `end`.
const TERMINAL: &str = r#"
import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
open("terminal-pid", "w").write(f"{pid}\n")
while True:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        open("end", "w").write(f"{os.waitstatus_to_exitcode(status)}\n")
        break
    if terminal is not None and os.path.exists("hangup"):
        os.close(terminal)
        terminal = None
    time.sleep(0.02)
"#;

/// A worker on such a terminal; none where there is no Python.
fn on_terminal(house: &House, arguments: &[&str]) -> Option<Process> {
    let mut command = house.inside(std::process::Command::new(testkit::python(&[])?));
    command.args(["-c", TERMINAL]).arg(testkit::program("scheduler"));
    command.args(["worker", "--poll", "0.1"]).args(arguments);
    Some(house.start("python", command))
}

fn runs(house: &House) {
    until("the child runs", || house.read("pid").ends_with('\n'));
}

#[test]
fn a_hangup_is_a_request_to_stop_and_a_second_one_or_sigterm_kills_nothing() {
    let (house, runtime, db) = set_up();
    house.script("trainer", WAITS);
    let one = submit(&runtime, &db, job("one"));
    let mut worker = house.worker("report", &["--drain"]);
    runs(&house);
    worker.signal(Signal::SIGHUP);
    until("the child is asked", || house.path("asked").exists());
    let more = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGINT];
    for signal in more {
        worker.signal(signal);
        assert!(alive(&house.read("pid")), "{signal}");
    }
    std::fs::write(house.path("go"), "").unwrap();
    assert_eq!(worker.end(), Some(i32::from(STOPPED)), "{}", house.read("report"));
    let row = row(&runtime, &db, &one);
    assert_eq!((row.state, row.attempts_used), (JobState::Queued, 0));
    let attempts = runtime.block_on(db.attempts(one.id)).unwrap();
    assert_eq!(attempts[0].exit_status, Some(75), "it was not killed");
}

#[test]
fn who_presses_ctrl_c_twice_does_not_wait() {
    let (house, runtime, db) = set_up();
    let below = r#"sleep 1000 & echo $! > "$HOUSE/below""#;
    house.script("trainer", &format!("{below}\n{WAITS}"));
    submit(&runtime, &db, job("one"));
    let mut worker = house.worker("report", &[]);
    runs(&house);
    worker.signal(Signal::SIGINT);
    until("the child is asked", || house.path("asked").exists());
    worker.signal(Signal::SIGINT);
    assert_eq!(worker.end(), Some(130));
    for process in ["pid", "below"] {
        until("it is gone", || !alive(&house.read(process)));
    }
}

#[test]
fn who_stops_though_nobody_asked_is_not_started_again_at_once() {
    let (mut house, runtime, db) = set_up();
    house.set([("PALETTE_RETRY_SECONDS", "1000")]);
    house.script("trainer", "exit 75");
    let one = submit(&runtime, &db, job("one"));
    let mut worker = house.worker("report", &[]);
    until("it stopped", || house.read("report").contains("stopped by itself"));
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end(), Some(0));
    let row = row(&runtime, &db, &one);
    assert_eq!((row.state, row.attempt, row.attempts_used), (JobState::Queued, 1, 0));
    // Ten minutes at most, by half more or less.
    assert!(row.run_after > one.created_at + time::Duration::seconds(300));
}

#[test]
fn nohup_stays_what_it_is() {
    let (house, runtime, db) = set_up();
    house.script("trainer", "exit 0");
    let scheduler = testkit::program("scheduler");
    let line = format!("trap '' HUP; exec '{}' worker --poll 0.1", scheduler.display());
    let mut worker = house.start("report", house.shell(&line));
    until("it is ready", || house.read("report").contains("nothing to do"));
    worker.signal(Signal::SIGHUP);
    let one = submit(&runtime, &db, job("one"));
    until("it works on", || state(&runtime, &db, &one) == JobState::Succeeded);
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn a_drain_says_whether_its_wall_time_stopped_it_and_a_failure_counts_for_more() {
    let (house, runtime, db) = set_up();
    house.script("trainer", WAITS);
    std::fs::write(house.path("go"), "").unwrap();
    let long = submit(&runtime, &db, job("long"));
    let mut worker = house.worker("report", &["--drain", "--grace", "60", "--max-walltime", "62s"]);
    assert_eq!(worker.end(), Some(i32::from(STOPPED)), "{}", house.read("report"));
    assert_eq!(state(&runtime, &db, &long), JobState::Queued);

    let bad = submit(&runtime, &db, NewJob { priority: 9, max_attempts: 1, ..job("bad") });
    let id = bad.id;
    for file in ["asked", "pid"] {
        std::fs::remove_file(house.path(file)).unwrap();
    }
    house.script("trainer", &format!("case $PALETTE_ATTEMPT in {id}:*) exit 1;; esac\n{WAITS}"));
    let mut worker = house.worker("report", &["--drain"]);
    runs(&house);
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end(), Some(1), "{}", house.read("report"));
}

#[test]
fn a_terminal_that_hangs_up_stops_the_worker_in_order() {
    let (house, runtime, db) = set_up();
    house.script("trainer", WAITS);
    std::fs::write(house.path("go"), "").unwrap();
    let one = submit(&runtime, &db, job("one"));
    let Some(_terminal) = on_terminal(&house, &["--drain"]) else { return };
    runs(&house);
    std::fs::write(house.path("hangup"), "").unwrap();
    until("the worker ends", || house.read("end").ends_with('\n'));
    assert_eq!(house.read("end"), "75\n");
    let attempts = runtime.block_on(db.attempts(one.id)).unwrap();
    assert_eq!(attempts[0].outcome, Some(Outcome::Stopped));
    assert_eq!(state(&runtime, &db, &one), JobState::Queued);
}

#[test]
fn a_terminal_that_nobody_reads_stops_no_worker() {
    let (house, runtime, db) = set_up();
    house.script("trainer", &format!("yes some line of a log | head -n 200000\n{WAITS}"));
    let one = submit(&runtime, &db, job("one"));
    let Some(_terminal) = on_terminal(&house, &["--follow"]) else { return };
    runs(&house);
    let lease = || row(&runtime, &db, &one).lease_expires_at.unwrap();
    let began = lease();
    until("the lease is renewed again and again", || lease() > began + time::Duration::SECOND * 6);
    assert_eq!(row(&runtime, &db, &one).attempt, 1, "its lease never ran out");
    std::fs::write(house.path("go"), "").unwrap();
    let worker = house.read("terminal-pid").trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::SIGTERM).unwrap();
    until("the worker ends", || house.read("end").ends_with('\n'));
    assert_eq!(house.read("end"), "0\n");
    let row = row(&runtime, &db, &one);
    assert_eq!((row.state, row.attempt, row.attempts_used), (JobState::Queued, 1, 0));
}
