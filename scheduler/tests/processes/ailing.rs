//! A worker whose host is sick: it costs no job a try, says what ails it, and others do the work.

use registry::{Job, JobKind, JobState, NewJob, Outcome};
use serde_json::json;
use testkit::{House, Process, separate, until};

use crate::database::{job, row, set_up, state, submit};
use crate::disk::Disk;

/// The one worker that is there, as `workers --json` has it.
fn shown(house: &House, name: &str) -> serde_json::Value {
    let workers = house.json("scheduler", &["workers", "--json"]);
    let all = workers.as_array().unwrap().iter();
    all.clone().find(|worker| worker["name"] == name).cloned().unwrap()
}

/// A worker with a home of its own, below the house.
fn elsewhere(house: &House, name: &str, arguments: &[&str]) -> Process {
    let mut command = house.command("scheduler", &["worker", "--poll", "0.1", "--name", name]);
    command.args(arguments).env("DATABASE_URL", house.url()).env("PALETTE_HOME", house.path(name));
    house.start(&format!("{name}.log"), command)
}

fn allow(house: &House, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(house.path("bin/trainer"), mode).unwrap();
}

#[test]
fn a_home_that_cannot_be_written_costs_no_try_and_others_do_the_jobs() {
    let (house, runtime, db) = set_up();
    house.script("trainer", "exit 0");
    std::fs::create_dir(house.path("sick")).unwrap();
    std::fs::write(house.path("sick/jobs"), "no folder").unwrap();
    let new = |name: &str| NewJob { max_attempts: 1, ..job(name) };
    let jobs: Vec<Job> =
        ["a", "b", "c"].map(|name| submit(&runtime, &db, new(name))).into_iter().collect();
    let _sick = elsewhere(&house, "sick", &[]);
    until("it says what ails it", || house.read("sick.log").contains("warning: ailing: "));
    until("it is shown", || shown(&house, "sick")["state"] == "ailing");
    let ails = shown(&house, "sick")["ails"].as_str().unwrap().to_owned();
    assert!(ails.contains("sick/jobs cannot be written: "), "{ails}");
    let table = house.ok("scheduler", &["workers"]);
    assert!(table.contains("ailing: ") && table.contains("sick/jobs"), "{table}");
    let doctor = testkit::text(&house.run("scheduler", &["doctor"]).stdout);
    assert!(doctor.contains("1 worker claims nothing: sick on"), "{doctor}");
    let show = house.ok("scheduler", &["show", "a"]);
    assert!(show.contains("the workers that are there (1) are ailing"), "{show}");

    let mut idle = elsewhere(&house, "sick", &["--exit-when-idle"]);
    assert_eq!(idle.end(), Some(1), "{}", house.read("sick.log"));
    let said = house.read("sick.log");
    assert!(said.contains("error: jobs wait, and this worker could do none of them: "), "{said}");

    let mut well = house.worker("well", &["--drain"]);
    assert_eq!(well.end(), Some(0), "{}", house.read("well"));
    for job in &jobs {
        let row = row(&runtime, &db, job);
        assert_eq!((row.state, row.attempts_used), (JobState::Succeeded, 0), "{}", row.name);
    }
}

#[test]
fn a_program_that_vanishes_is_no_jobs_fault_and_the_worker_goes_on_when_it_is_back() {
    let (house, runtime, db) = set_up();
    house.script("trainer", "exit 0");
    let _worker = house.worker("report", &["--name", "worker"]);
    until("it is ready", || house.read("report").contains("nothing to do"));
    allow(&house, 0);
    let first = submit(&runtime, &db, NewJob { max_attempts: 1, ..job("first") });
    until("it ails", || house.read("report").contains("warning: ailing: "));
    until("it is shown", || shown(&house, "worker")["state"] == "ailing");
    let attempts = runtime.block_on(db.attempts(first.id)).unwrap();
    assert_eq!(attempts[0].outcome, Some(Outcome::Stopped));
    let reason = attempts[0].reason.clone().unwrap();
    assert!(reason.starts_with("its worker could not start it: "), "{reason}");
    assert!(reason.contains("bin/trainer: Permission denied"), "{reason}");
    allow(&house, 0o755);
    until("it is done", || state(&runtime, &db, &first) == JobState::Succeeded);
    assert_eq!(row(&runtime, &db, &first).attempts_used, 0);
    assert!(house.read("report").contains("well again: jobs are claimed"));
    assert_eq!(shown(&house, "worker")["state"], "alive");
    assert_eq!(shown(&house, "worker")["ails"], serde_json::Value::Null);
}

#[test]
fn a_child_that_fails_on_a_sick_host_has_not_failed_and_one_on_a_sound_host_has() {
    let (house, runtime, db) = set_up();
    house.script(
        "trainer",
        r#"mv "$PALETTE_HOME/jobs" "$PALETTE_HOME/gone" || exit 7
           : > "$PALETTE_HOME/jobs"
           echo 'error: no space left'
           exit 1"#,
    );
    house.script("pipeline", "exit 1");
    let sick = submit(&runtime, &db, NewJob { max_attempts: 1, ..job("sick") });
    let _worker = house.worker("report", &[]);
    until("it ails", || house.read("report").contains("warning: ailing: "));
    assert_eq!(state(&runtime, &db, &sick), JobState::Queued);
    let attempts = runtime.block_on(db.attempts(sick.id)).unwrap();
    let reason = attempts[0].reason.clone().unwrap();
    assert!(reason.starts_with("its worker is ailing: "), "{reason}");
    assert!(reason.contains("exit status 1"), "{reason}");
    assert_eq!(row(&runtime, &db, &sick).attempts_used, 0);

    house.script("trainer", "exit 1");
    std::fs::remove_file(house.path("home/jobs")).unwrap();
    until("it has failed", || state(&runtime, &db, &sick) == JobState::Failed);
    let folder = json!({"arguments": ["ingest"], "folder": "/nowhere"});
    let lost = NewJob { max_attempts: 1, ..NewJob::new(JobKind::Ingest, "lost", folder) };
    let lost = submit(&runtime, &db, lost);
    until("it has failed too", || state(&runtime, &db, &lost) == JobState::Failed);
    let reason = row(&runtime, &db, &lost).reason.unwrap();
    assert!(reason.contains("/nowhere is not there on this host"), "{reason}");
    assert_eq!(house.read("report").matches("warning: ailing: ").count(), 1);
}

#[test]
fn a_job_cannot_be_started_by_a_sick_worker_that_drains_and_it_does_not_end_before_others() {
    let (house, runtime, db) = set_up();
    house.script("trainer", "exit 0");
    std::fs::create_dir(house.path("sick")).unwrap();
    std::fs::write(house.path("sick/jobs"), "no folder").unwrap();
    let one = submit(&runtime, &db, job("one"));
    let mut sick = elsewhere(&house, "sick", &["--drain"]);
    until("it says that it waits", || {
        house.read("sick.log").contains("for other workers, or until")
    });
    let mut well = house.worker("well", &["--drain"]);
    assert_eq!(well.end(), Some(0), "{}", house.read("well"));
    assert_eq!(sick.end(), Some(0), "{}", house.read("sick.log"));
    assert_eq!(state(&runtime, &db, &one), JobState::Succeeded);
}

/// Sets how many files a process may have open.
fn limit_files(process: &Process, most: usize) {
    let mut command = std::process::Command::new("prlimit");
    command.args([format!("--pid={}", process.id()), format!("--nofile={most}:")]);
    testkit::run_ok(&mut command);
}

/// On a small disk it fills that, and fails.
const FILLS: &str = r#"test -e "$PALETTE_HOME/small" || exit 0
cat /dev/zero > "$PALETTE_HOME/fill"
echo 'error: no space left'
exit 1"#;

#[test]
fn disks_that_are_full_or_read_only_and_no_descriptors_cost_no_try_and_others_do_the_jobs() {
    let (house, runtime, db) = set_up();
    house.script("trainer", FILLS);
    let Some(closed) = Disk::new(house.path("closed"), "8m") else { return };
    let Some(full) = Disk::new(house.path("full"), "2m") else { return };
    std::fs::write(full.path().join("small"), "").unwrap();
    closed.remount("ro");
    let says = |name: &str, text: &str| {
        until(&format!("{name} says {text}"), || house.read(&format!("{name}.log")).contains(text));
    };
    let few = elsewhere(&house, "few", &[]);
    says("few", "nothing to do");
    let has = std::fs::read_dir(format!("/proc/{}/fd", few.id())).unwrap().count();
    // Below what it has open, so that none can be opened, whatever it closes meanwhile.
    limit_files(&few, has / 2);
    let submit = |name: &str| submit(&runtime, &db, NewJob { max_attempts: 1, ..job(name) });
    let mut jobs = vec![submit("first")];
    says("few", "warning: ailing: ");
    let _full = elsewhere(&house, "full", &[]);
    says("full", "warning: ailing: ");
    let _closed = elsewhere(&house, "closed", &[]);
    says("closed", "warning: ailing: ");

    jobs.extend((0..8).map(|number| submit(&format!("job-{number}"))));
    let mut well = house.worker("well", &["--drain"]);
    assert_eq!(well.end(), Some(0), "{}", house.read("well"));
    for job in &jobs {
        let row = row(&runtime, &db, job);
        assert_eq!((row.state, row.attempts_used), (JobState::Succeeded, 0), "{}", row.name);
    }
    let doctor = testkit::text(&house.run("scheduler", &["doctor"]).stdout);
    assert!(doctor.contains("3 workers claim nothing: "), "{doctor}");
    for (name, why) in [
        ("few", "Too many open files"),
        ("full", "No space left on device"),
        ("closed", "Read-only file system"),
    ] {
        let worker = shown(&house, name);
        let ails = worker["ails"].as_str().unwrap();
        assert!(worker["state"] == "ailing" && ails.contains(why), "{name}: {worker}");
        assert!(doctor.contains(name), "{doctor}");
    }

    limit_files(&few, 1024);
    full.make_room();
    std::fs::remove_file(full.path().join("small")).unwrap();
    closed.remount("rw");
    for name in ["few", "full", "closed"] {
        says(name, "well again: jobs are claimed");
    }
    until("they are shown as well", || {
        ["few", "full", "closed"].iter().all(|name| shown(&house, name)["state"] == "alive")
    });
}

#[test]
fn a_worker_that_begins_with_too_few_descriptors_says_so_and_costs_no_try() {
    let (house, runtime, db) = set_up();
    house.script("trainer", "exit 0");
    let one = submit(&runtime, &db, NewJob { max_attempts: 1, ..job("one") });
    let scheduler = testkit::program("scheduler");
    let worker = |most: u32| {
        let line =
            format!("ulimit -n {most}; exec '{}' worker --exit-when-idle", scheduler.display());
        let mut command = house.shell(&line);
        command.env("DATABASE_URL", house.url());
        let status = house.start("report", command).end();
        (status, house.read("report"))
    };
    for most in [8, 16, 32, 63] {
        let (status, report) = worker(most);
        assert_eq!(status, Some(1), "{most}: {report}");
        assert!(report.contains("raise the limit, as by `ulimit -n 1024`"), "{most}: {report}");
        assert_eq!(report.lines().count(), 1, "{most}: {report}");
        let row = row(&runtime, &db, &one);
        assert_eq!((row.state, row.attempt), (JobState::Queued, 0), "{most}");
    }
    // As few as are allowed are enough.
    let (status, report) = worker(64);
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(state(&runtime, &db, &one), JobState::Succeeded, "{report}");
}

#[test]
fn what_one_host_lacks_is_left_to_another_and_fails_where_there_is_none() {
    let Some(separate) = separate(&["--uts", "--mount"]) else { return };
    let (house, runtime, db) = set_up();
    let folder = house.path("data/of/all");
    std::fs::create_dir_all(&folder).unwrap();
    house.script("trainer", r#"until test -e "$HOUSE/go"; do sleep 0.05; done"#);
    house.script("pipeline", "exit 0");
    let blocks = submit(&runtime, &db, job("blocks"));
    let mut able = house.worker("able", &["--name", "able", "--slots", "1"]);
    until("it is busy", || state(&runtime, &db, &blocks) == JobState::Running);

    let payload = json!({"arguments": ["ingest"], "folder": folder});
    let new = NewJob { max_attempts: 1, ..NewJob::new(JobKind::Ingest, "far", payload) };
    let far = submit(&runtime, &db, new.clone());
    let line = format!(
        "exec {separate} sh -c 'hostname other-host && mount -t tmpfs none {} && exec {} worker --poll 0.1 --drain'",
        house.path("data").display(),
        testkit::program("scheduler").display()
    );
    let mut lacking = house.start("lacking", house.shell(&line));
    until("it is left to others", || house.read("lacking").contains("left to other hosts"));
    std::fs::write(house.path("go"), "").unwrap();
    until("the other does it", || state(&runtime, &db, &far) == JobState::Succeeded);
    let attempts = runtime.block_on(db.attempts(far.id)).unwrap();
    assert_eq!((attempts.len(), attempts[0].outcome), (2, Some(Outcome::Stopped)));
    assert_eq!(row(&runtime, &db, &far).attempts_used, 0);
    assert_eq!(lacking.end(), Some(0), "{}", house.read("lacking"));

    able.signal(testkit::Signal::SIGTERM);
    able.end();
    let alone = submit(&runtime, &db, NewJob { name: "alone".into(), ..new });
    let mut lacking = house.start("lacking", house.shell(&line));
    assert_eq!(lacking.end(), Some(1), "{}", house.read("lacking"));
    let reason = row(&runtime, &db, &alone).reason.unwrap();
    assert!(reason.contains("is not there on this host"), "{reason}");
}
