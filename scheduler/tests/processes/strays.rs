//! What an attempt leaves behind outside its group and session ends with it.

use std::path::Path;

use registry::JobState;
use testkit::{alive, separate, until};

use crate::database::{job, set_up, state, submit};

/// Leaves its session: known by its environment, and without that by its parent.
const STRAYS: &str = r#"setsid sleep 1000 &
echo $! > "$HOUSE/marked"
env -i setsid sleep 1000 &
echo $! > "$HOUSE/bare"
(setsid sh -c 'echo $$ > "$0/orphan"; exec sleep 1000' "$HOUSE" &)
until test -s "$HOUSE/orphan"; do sleep 0.02; done
"#;

#[test]
fn who_left_the_session_is_ended_by_force_and_reaped() {
    let (house, runtime, db) = set_up();
    house.script("trainer", &format!("{STRAYS}\ntrap '' TERM\nwhile :; do sleep 0.05; done"));
    let one = submit(&runtime, &db, job("one"));
    let _worker = house.worker("report", &[]);
    until("they run", || {
        ["marked", "bare", "orphan"].iter().all(|name| alive(&house.read(name)))
            && house.read("orphan").ends_with('\n')
    });
    house.ok("scheduler", &["cancel", "--force", "one"]);
    for name in ["marked", "bare", "orphan"] {
        let process = Path::new("/proc").join(house.read(name).trim());
        until(&format!("{name} is gone, and no zombie"), || !process.exists());
    }
    assert_eq!(state(&runtime, &db, &one), JobState::Cancelled);
}

#[test]
fn what_is_left_of_a_job_that_ended_by_itself_is_ended_too() {
    let (house, runtime, db) = set_up();
    house.script("trainer", &format!("{STRAYS}\nexit 0"));
    let one = submit(&runtime, &db, job("one"));
    let _worker = house.worker("report", &[]);
    until("the job is done", || state(&runtime, &db, &one) == JobState::Succeeded);
    for name in ["marked", "orphan"] {
        let process = Path::new("/proc").join(house.read(name).trim());
        until(&format!("{name} is gone, and no zombie"), || !process.exists());
    }
}

/// The second job sees what the first left behind: as a zombie at first, then not at all.
const ORPHAN: &str = r#"if ! test -e "$HOUSE/orphan"; then
    (setsid sh -c 'echo $$ > "$0/orphan"' "$HOUSE" &)
    until test -s "$HOUSE/orphan"; do sleep 0.02; done
    exit 0
fi
while kill -0 "$(cat "$HOUSE/orphan")"; do sleep 0.02; done"#;

#[test]
fn as_the_first_process_of_a_container_it_reaps_orphans() {
    // Also where /proc is not the container's own and has other numbers.
    for own_proc in [&["--mount-proc"][..], &[]] {
        let options = [&["--pid", "--fork", "--kill-child"], own_proc].concat();
        let Some(separate) = separate(&options) else { return };
        let (house, runtime, db) = set_up();
        house.script("trainer", ORPHAN);
        let jobs = ["one", "two"].map(|name| submit(&runtime, &db, job(name)));
        let scheduler = testkit::program("scheduler");
        let line = format!("exec {separate} '{}' worker --drain", scheduler.display());
        let mut command = house.shell(&line);
        command.env("DATABASE_URL", house.url());
        let mut worker = house.start("report", command);
        assert_eq!(worker.end(), Some(0), "{}", house.read("report"));
        for job in &jobs {
            assert_eq!(state(&runtime, &db, job), JobState::Succeeded);
        }
    }
}

#[test]
fn what_left_the_session_is_found_where_proc_has_other_numbers() {
    let Some(separate) = separate(&["--pid", "--fork", "--kill-child"]) else { return };
    let (house, runtime, db) = set_up();
    // It sees by itself that they are gone: their numbers are those of its name space.
    house.script(
        "trainer",
        &format!(
            r#"if test -e "$HOUSE/orphan"; then
    for one in marked bare orphan; do
        while kill -0 "$(cat "$HOUSE/$one")"; do sleep 0.02; done
    done
    exit 0
fi
{STRAYS}
trap '' TERM
while :; do sleep 0.05; done"#
        ),
    );
    let one = submit(&runtime, &db, job("one"));
    let scheduler = testkit::program("scheduler");
    let line = format!("exec {separate} '{}' worker --poll 0.1 --drain", scheduler.display());
    let mut command = house.shell(&line);
    command.env("DATABASE_URL", house.url());
    let mut worker = house.start("report", command);
    until("they run", || house.read("orphan").ends_with('\n'));
    let two = submit(&runtime, &db, job("two"));
    house.ok("scheduler", &["cancel", "--force", "one"]);
    assert_eq!(worker.end(), Some(0), "{}", house.read("report"));
    assert_eq!(state(&runtime, &db, &one), JobState::Cancelled);
    assert_eq!(state(&runtime, &db, &two), JobState::Succeeded);
}

#[test]
fn what_a_killed_worker_left_does_not_work_beside_the_next_attempt() {
    let (house, runtime, db) = set_up();
    house.script(
        "trainer",
        r#"test -e "$HOUSE/left" && exit 0
setsid sleep 1000 & echo $! > "$HOUSE/left"
while :; do sleep 0.05; done"#,
    );
    let one = submit(&runtime, &db, job("one"));
    let mut worker = house.worker("first", &[]);
    until("it runs", || house.read("left").ends_with('\n'));
    worker.kill();
    assert!(alive(&house.read("left")), "its worker could not end it");
    let mut worker = house.worker("second", &["--drain"]);
    assert_eq!(worker.end(), Some(0), "{}", house.read("second"));
    assert_eq!(state(&runtime, &db, &one), JobState::Succeeded);
    assert!(!alive(&house.read("left")));
}
