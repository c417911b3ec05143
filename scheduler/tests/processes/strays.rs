//! What an attempt leaves behind outside its group and session ends with it.

use std::path::Path;

use registry::JobState;
use testkit::{alive, until};

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

#[test]
fn as_the_first_process_of_a_container_it_reaps_orphans() {
    let (house, runtime, db) = set_up();
    let can = std::process::Command::new("unshare").args(["-pf", "--mount-proc", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        println!("skipped: this user cannot make a name space of processes");
        return;
    }
    // The second job sees what the first left behind: as a zombie at first, then not at all.
    house.script(
        "trainer",
        r#"if ! test -e "$HOUSE/orphan"; then
               (setsid sh -c 'echo $$ > "$0/orphan"' "$HOUSE" &)
               until test -s "$HOUSE/orphan"; do sleep 0.02; done
               exit 0
           fi
           while test -e "/proc/$(cat "$HOUSE/orphan")"; do sleep 0.02; done"#,
    );
    let jobs = ["one", "two"].map(|name| submit(&runtime, &db, job(name)));
    let scheduler = testkit::program("scheduler");
    let line = format!(
        "exec unshare -pf --mount-proc --kill-child '{}' worker --drain",
        scheduler.display()
    );
    let mut command = house.shell(&line);
    command.env("DATABASE_URL", house.url());
    let mut worker = house.start("report", command);
    assert_eq!(worker.end(), Some(0), "{}", house.read("report"));
    for job in &jobs {
        assert_eq!(state(&runtime, &db, job), JobState::Succeeded);
    }
}
