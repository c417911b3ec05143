//! Workers and their children as real processes: claims, ends, kills, pauses.

use std::collections::BTreeSet;

use registry::{
    Attempt, CheckpointKind, CheckpointRecord, Ending, Job, JobState, NewJob, NewRun, Outcome,
    STOPPED,
};
use serde_json::json;
use testkit::{Signal, alive, until};

use crate::database::{Session, job, row, set_up, submit};

/// A script that says it is there and stays until it is asked to stop, then ends with status 75.
const STAYS: &str = r#"trap 'exit 75' TERM
echo $$ > "$HOUSE/pid-${PALETTE_ATTEMPT##*:}"
while :; do sleep 0.05; done"#;

#[test]
fn the_queue_is_drained_and_every_end_says_why() {
    let (house, runtime, db) = set_up();
    house.script(
        "trainer",
        r#"test "$1" = attempt || exit 2
           echo "in $(pwd)"
           number=${PALETTE_ATTEMPT##*:}
           . "$HOUSE/${PALETTE_ATTEMPT%%:*}""#,
    );
    let plans = [
        ("good", "exit 0"),
        ("flaky", "test $number = 2 && exit 0; echo 'error: no luck' >&2; exit 1"),
        ("bad", "echo 'error: steps must be positive' >&2; exit 2"),
        ("crash", "kill -SEGV $$"),
    ];
    let jobs: Vec<Job> = runtime.block_on(async {
        let mut jobs: Vec<Job> = vec![];
        for (name, plan) in plans {
            let after = jobs.last().filter(|_| name == "flaky").map(|job| job.id);
            let new = NewJob { after: after.into_iter().collect(), ..job(name) };
            let job = db.submit(new).await.unwrap().job;
            std::fs::write(house.path(&job.id.to_string()), plan).unwrap();
            jobs.push(job);
        }
        jobs
    });
    let mut worker = house.worker("report", &["--drain"]);
    assert_eq!(worker.end(), Some(1), "{}", house.read("report"));
    let rows: Vec<Job> = jobs.iter().map(|job| row(&runtime, &db, job)).collect();
    let states: Vec<JobState> = rows.iter().map(|row| row.state).collect();
    use JobState::{Failed, Succeeded};
    assert_eq!(states, [Succeeded, Succeeded, Failed, Failed], "{}", house.read("report"));
    let attempts: Vec<i32> = rows.iter().map(|row| row.attempt).collect();
    assert_eq!(attempts, [1, 2, 1, 3]);
    assert_eq!(rows[2].reason.as_deref(), Some("exit status 2: steps must be positive"));
    assert!(rows[3].reason.as_ref().unwrap().starts_with("killed by SIGSEGV"), "{rows:?}");
    let flaky = runtime.block_on(db.attempts(jobs[1].id)).unwrap();
    assert_eq!(flaky[0].reason.as_deref(), Some("exit status 1: no luck"));
    assert_eq!(flaky[0].outcome, Some(Outcome::Failed));
    assert!(
        house
            .ok("scheduler", &["logs", "good"])
            .contains(&format!("jobs/{}/attempt-1", jobs[0].short))
    );
    assert!(house.ok("scheduler", &["show", "flaky"]).contains("no luck"));
    assert!(house.read("report").contains("2 of 4 jobs failed"));
}

#[test]
fn jobs_that_end_at_once_leave_their_notes_and_the_connection_to_the_next() {
    let (house, runtime, db) = set_up();
    house.script("trainer", "exit 0");
    let jobs: Vec<Job> =
        (0..100).map(|number| submit(&runtime, &db, job(&format!("short-{number}")))).collect();
    let mut beside = Session::new(&house, &runtime);
    const SESSIONS: &str =
        "select sessions from pg_stat_database where datname = current_database()";
    let before = beside.count(SESSIONS);
    let mut worker = house.worker("report", &["--drain"]);
    assert_eq!(worker.end(), Some(0), "{}", house.read("report"));
    // A statement that is given up half-way takes its connection with it.
    let opened = beside.count(SESSIONS) - before;
    assert!(opened < 10, "{opened} connections for {} jobs", jobs.len());
    for job in &jobs {
        let attempts = runtime.block_on(db.attempts(job.id)).unwrap();
        let log = format!("jobs/{}/attempt-1/log", job.short);
        let noted = attempts[0].log_path.as_ref();
        assert!(noted.is_some_and(|path| path.ends_with(&log)), "{attempts:?}");
    }
}

#[test]
fn a_killed_worker_takes_its_child_along_and_another_goes_on() {
    let (house, runtime, db) = set_up();
    house.script("trainer", &format!("test ${{PALETTE_ATTEMPT##*:}} = 2 && exit 0\n{STAYS}"));
    let job = submit(&runtime, &db, job("long"));
    let first = house.worker("first", &[]);
    until("the child runs", || house.read("pid-1").ends_with('\n'));
    let child = house.read("pid-1");
    assert!(alive(&child));
    first.signal(Signal::SIGKILL);
    until("the child is gone", || !alive(&child));

    let mut second = house.worker("second", &["--drain"]);
    assert_eq!(second.end(), Some(0), "{}", house.read("second"));
    let row = row(&runtime, &db, &job);
    assert_eq!((row.state, row.attempt, row.attempts_used), (JobState::Succeeded, 2, 1));
    let attempts = runtime.block_on(db.attempts(job.id)).unwrap();
    assert_eq!(attempts[0].outcome, Some(Outcome::Lost));
    assert!(house.read("second").contains("its worker was lost"));
}

#[test]
fn a_drain_that_is_told_to_end_does_not_say_that_all_is_done() {
    let (house, runtime, db) = set_up();
    house.script("trainer", STAYS);
    let job = submit(&runtime, &db, job("long"));
    let mut worker = house.worker("report", &["--drain"]);
    until("the child runs", || house.read("pid-1").ends_with('\n'));
    worker.signal(Signal::SIGINT);
    assert_eq!(worker.end(), Some(i32::from(STOPPED)), "{}", house.read("report"));
    assert!(house.read("report").contains("ended before the queue was empty"));
    assert_eq!(row(&runtime, &db, &job).state, JobState::Queued);
}

#[test]
fn a_job_that_is_lost_once_too_often_fails_the_drain_that_finds_it() {
    let (house, runtime, db) = set_up();
    house.script("trainer", STAYS);
    let lost = submit(&runtime, &db, NewJob { max_attempts: 1, ..job("lost") });
    let first = house.worker("first", &[]);
    until("the child runs", || house.read("pid-1").ends_with('\n'));
    first.signal(Signal::SIGKILL);
    let mut second = house.worker("second", &["--drain"]);
    assert_eq!(second.end(), Some(1), "{}", house.read("second"));
    assert!(house.read("second").contains("1 of 1 jobs failed"), "{}", house.read("second"));
    assert_eq!(row(&runtime, &db, &lost).state, JobState::Failed);
}

#[test]
fn a_frozen_worker_cannot_write_once_its_job_is_anothers() {
    let (house, runtime, db) = set_up();
    house.script("trainer", &format!("test ${{PALETTE_ATTEMPT##*:}} = 2 && exit 0\n{STAYS}"));
    let job = submit(&runtime, &db, job("frozen"));
    let first = house.worker("first", &[]);
    until("the child runs", || house.read("pid-1").ends_with('\n'));
    first.signal(Signal::SIGSTOP);
    let mut second = house.worker("second", &["--drain"]);
    assert_eq!(second.end(), Some(0));
    first.signal(Signal::SIGCONT);
    let child = house.read("pid-1");
    until("the stale child is gone", || !alive(&child));
    until("the worker says so", || house.read("first").contains("given to another worker"));
    let row = row(&runtime, &db, &job);
    assert_eq!((row.state, row.attempt), (JobState::Succeeded, 2));
    let attempts = runtime.block_on(db.attempts(job.id)).unwrap();
    assert_eq!(attempts[0].outcome, Some(Outcome::Lost));
    assert_eq!(attempts[1].outcome, Some(Outcome::Succeeded));
}

#[test]
fn pause_resume_cancel_and_shutdown_ask_the_child_and_use_no_try() {
    let (house, runtime, db) = set_up();
    house.script("trainer", STAYS);
    let job = submit(&runtime, &db, job("asked"));
    let mut worker = house.worker("report", &[]);
    let wait = |state| {
        until(&format!("the job is {state}"), || row(&runtime, &db, &job).state == state);
    };
    let runs = |attempt: &str| until("the child runs", || house.read(attempt).ends_with('\n'));

    runs("pid-1");
    assert!(house.ok("scheduler", &["pause", "asked"]).contains("is asked to pause"));
    wait(JobState::Paused);
    house.ok("scheduler", &["resume", &job.short]);
    runs("pid-2");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end(), Some(0));
    wait(JobState::Queued);
    assert_eq!(row(&runtime, &db, &job).attempts_used, 0);

    let _worker = house.worker("report", &[]);
    runs("pid-3");
    house.ok("scheduler", &["cancel", "asked"]);
    wait(JobState::Cancelled);
    assert!(house.fails(1, "scheduler", &["pause", "asked"]).contains("it is cancelled"));
    let attempts = runtime.block_on(db.attempts(job.id)).unwrap();
    assert!(attempts.iter().all(|attempt| attempt.outcome == Some(Outcome::Stopped)));
}

#[test]
fn a_child_that_does_not_stop_is_killed_with_its_group() {
    let (house, runtime, db) = set_up();
    house.script(
        "trainer",
        r#"trap '' TERM
           sleep 1000 &
           echo $! > "$HOUSE/grandchild"
           wait; wait; sleep 1000"#,
    );
    let job = submit(&runtime, &db, job("deaf"));
    let _worker = house.worker("report", &["--grace", "0.2"]);
    until("the child runs", || house.read("grandchild").ends_with('\n'));
    house.ok("scheduler", &["cancel", "deaf"]);
    until("the job ends", || row(&runtime, &db, &job).state == JobState::Cancelled);
    until("the group is gone", || !alive(&house.read("grandchild")));
    let attempts = runtime.block_on(db.attempts(job.id)).unwrap();
    assert!(attempts[0].reason.as_ref().unwrap().contains("was killed"));
}

#[test]
fn a_worker_with_nothing_to_do_says_so_in_one_line() {
    let (house, runtime, db) = set_up();
    let message = house.fails(1, "scheduler", &["worker", "--drain"]);
    assert!(message.contains("no program for any job"), "{message}");
    house.script("sampler", "exit 0");
    let mut worker = house.worker("empty", &["--drain"]);
    assert_eq!(worker.end(), Some(0));
    assert!(house.read("empty").contains("the queue is empty"), "{}", house.read("empty"));
    runtime.block_on(db.submit(job("not-for-it"))).unwrap();
    let mut worker = house.worker("other", &["--drain"]);
    assert_eq!(worker.end(), Some(0));
    let report = house.read("other");
    assert!(report.contains("of 1 queued, 0 running and 0 paused jobs none can come"), "{report}");
    assert_eq!(report.lines().filter(|line| line.contains("nothing to do")).count(), 1);
}

/// Not a test: the trainer of the test below, a real child with the child's side of the library.
/// Ten steps, a checkpoint at the fifth; the first attempt waits there to be killed.
#[test]
fn act_as_trainer() {
    let Some(attempt) = Attempt::from_env().unwrap() else { return };
    let house = std::path::PathBuf::from(std::env::var("HOUSE").unwrap());
    let from = attempt.resume_point().unwrap().map_or(0, |checkpoint| checkpoint.step);
    attempt.resumed_at(from).unwrap();
    for step in from + 1..=10 {
        attempt.metrics(step, &[("loss", f64::from(attempt.number()))]);
        attempt.progress(step, 10, "");
        if step == 5 || step == 10 {
            let record = CheckpointRecord {
                step,
                kind: if step == 10 { CheckpointKind::Final } else { CheckpointKind::Regular },
                uri: format!("/step-{step}"),
                bytes: 1,
                digest: "d".into(),
                metrics: [].into(),
            };
            attempt.checkpoint(&record).unwrap();
        }
        if step == 7 && attempt.number() < 3 {
            attempt.flush().unwrap();
            std::fs::write(house.join(format!("at-seven-{}", attempt.number())), "").unwrap();
            while attempt.stop_requested().is_none() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            attempt.finish(Ending::Stopped).unwrap();
            std::process::exit(i32::from(STOPPED));
        }
    }
    attempt.finish(Ending::Succeeded).unwrap();
}

#[test]
fn a_run_that_is_killed_and_paused_ends_with_each_step_once() {
    let (house, runtime, db) = set_up();
    let myself = std::env::current_exe().unwrap();
    house.script(
        "trainer",
        &format!(
            "export HOUSE; exec '{}' --exact worker::act_as_trainer --nocapture",
            myself.display()
        ),
    );
    let new = NewRun {
        name: "real".into(),
        experiment: None,
        config: json!({}),
        seed: 1,
        total_steps: 10,
        uri: Some("/runs/real".into()),
        under: None,
        best_metric: "loss".into(),
        git_revision: None,
        datasets: vec![],
        fork: None,
        job: job("real"),
    };
    let run = runtime.block_on(db.create_run(new)).unwrap();
    let first = house.worker("first", &[]);
    until("the first attempt is at step seven", || house.path("at-seven-1").exists());
    first.signal(Signal::SIGKILL);

    let _second = house.worker("second", &[]);
    until("the second attempt is at step seven", || house.path("at-seven-2").exists());
    house.ok("scheduler", &["pause", "real"]);
    until("it is paused", || row(&runtime, &db, &run.job).state == JobState::Paused);
    house.ok("scheduler", &["resume", "real"]);
    until("it is done", || row(&runtime, &db, &run.job).state == JobState::Succeeded);

    let series = runtime.block_on(db.metric_series(run.run.id, Some("loss"))).unwrap();
    let shown: Vec<(i64, i32)> = series.iter().map(|point| (point.step, point.attempt)).collect();
    let expected: Vec<(i64, i32)> =
        (1..=10).map(|step| (step, if step <= 5 { 1 } else { 3 })).collect();
    assert_eq!(shown, expected);
    let row = row(&runtime, &db, &run.job);
    assert_eq!((row.attempt, row.attempts_used, row.progress_done), (3, 1, Some(10)));
    let steps: Vec<i64> = runtime
        .block_on(db.checkpoints(run.run.id))
        .unwrap()
        .iter()
        .map(|checkpoint| checkpoint.step)
        .collect();
    assert_eq!(steps, [5, 10]);
    assert!(house.ok("scheduler", &["runs"]).contains("10/10"));
    assert!(house.ok("scheduler", &["checkpoints", "real", "--json"]).contains("/step-10"));
    assert!(house.ok("scheduler", &["metrics", "real", "--name", "loss"]).contains("3.0000"));
    assert!(house.ok("scheduler", &["show", "real"]).contains("from step 5"));
}

/// Not a test: a job in the foreground, for the test below.
#[test]
fn act_in_foreground() {
    let Ok(job) = std::env::var("FOREGROUND") else { return };
    let house = std::path::PathBuf::from(std::env::var("HOUSE").unwrap());
    let attempt = Attempt::foreground(job.parse().unwrap()).unwrap();
    let number = attempt.number();
    std::fs::write(house.join(format!("pid-{number}")), format!("{}\n", std::process::id()))
        .unwrap();
    if number == 2 {
        attempt.finish(Ending::Succeeded).unwrap();
        return;
    }
    while attempt.stop_requested().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    attempt.finish(Ending::Stopped).unwrap();
}

#[test]
fn a_job_in_the_foreground_keeps_its_own_lease_and_an_interrupt_sets_it_aside() {
    let (house, runtime, db) = set_up();
    house.script("trainer", "exit 1");
    let job = submit(&runtime, &db, NewJob { held: true, ..job("front") });
    let myself = std::env::current_exe().unwrap();
    let start = || {
        let mut command = house.inside(std::process::Command::new(&myself));
        command
            .args(["--exact", "worker::act_in_foreground", "--nocapture"])
            .env("HOUSE", house.path(""))
            .env("FOREGROUND", job.id.to_string());
        house.start("output", command)
    };
    let mut first = start();
    until("it runs", || house.read("pid-1").ends_with('\n'));
    let claimed = row(&runtime, &db, &job).lease_expires_at.unwrap();
    until("the lease is renewed", || row(&runtime, &db, &job).lease_expires_at > Some(claimed));
    // A worker finds nothing to take.
    let mut worker = house.worker("report", &["--exit-when-idle"]);
    assert_eq!(worker.end(), Some(0), "{}", house.read("report"));
    first.signal(Signal::SIGINT);
    assert_eq!(first.end(), Some(0), "{}", house.read("output"));
    let paused = row(&runtime, &db, &job);
    assert_eq!((paused.state, paused.attempts_used), (JobState::Paused, 0));
    assert_eq!(start().end(), Some(0), "{}", house.read("output"));
    assert_eq!(row(&runtime, &db, &job).state, JobState::Succeeded);
}

#[test]
fn a_worker_ends_with_75_only_where_work_is_left_and_does_not_idle_for_ever() {
    let (house, runtime, db) = set_up();
    house.script("trainer", STAYS);
    let elsewhere =
        NewJob { labels: [("rack".to_owned(), "b".to_owned())].into(), ..job("elsewhere") };
    submit(&runtime, &db, elsewhere);
    let mut idle = house.worker("idle", &["--idle", "1h"]);
    idle.says("none can come to this worker");
    idle.signal(Signal::SIGTERM);
    assert_eq!(idle.end(), Some(0), "{}", house.read("idle"));

    let long = submit(&runtime, &db, job("long"));
    let busy = house.worker("busy", &[]);
    until("the child runs", || house.read("pid-1").ends_with('\n'));
    // A job of another worker may come to this one.
    let mut idle = house.worker("idle", &["--drain", "--idle", "1h"]);
    idle.says("waiting for jobs");
    idle.signal(Signal::SIGTERM);
    assert_eq!(idle.end(), Some(i32::from(STOPPED)), "{}", house.read("idle"));
    let mut idle = house.worker("idle", &["--drain", "--idle", "1s"]);
    assert_eq!(idle.end(), Some(0), "{}", house.read("idle"));
    assert_eq!(row(&runtime, &db, &long).state, JobState::Running);
    drop(busy);
}

#[test]
fn under_slurm_a_worker_says_where_it_is_and_that_work_is_left() {
    let (house, runtime, db) = set_up();
    house.script(
        "trainer",
        &format!(
            "test -e \"$HOUSE/${{PALETTE_ATTEMPT%%:*}}\" && exit 2\n\
             echo \"$SLURM_JOB_ID:$SLURM_NTASKS\" > \"$HOUSE/slurm\"\n{STAYS}"
        ),
    );
    let bad = submit(&runtime, &db, NewJob { priority: 1, ..job("bad") });
    std::fs::write(house.path(&bad.id.to_string()), "").unwrap();
    let end = |seconds: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        (now.as_secs() + seconds).to_string()
    };
    let worker = |report: &str, seconds: u64| {
        let mut command =
            house.command("scheduler", &["worker", "--poll", "0.1", "--drain", "--slurm"]);
        command
            .env("SLURM_JOB_ID", "12")
            .env("SLURM_NTASKS", "2")
            .env("SLURM_ARRAY_JOB_ID", "12")
            .env("SLURM_ARRAY_TASK_ID", "3")
            .env("SLURM_JOB_PARTITION", "gpu")
            .env("SLURMD_NODENAME", "n7")
            .env("SLURM_JOB_END_TIME", end(seconds));
        house.start(report, command)
    };
    let asked = [("partition", "gpu"), ("node", "n7"), ("slurm-job", "12_3")];
    let asked = asked.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let here = submit(&runtime, &db, NewJob { labels: asked, ..job("here") });
    let mut first = worker("first", 3600);
    until("the child runs", || house.read("pid-1").ends_with('\n'));
    assert_eq!(house.read("slurm"), "12:\n", "its jobs are no tasks of Slurm");
    first.signal(Signal::SIGUSR1);
    // A job failed here, which without `--slurm` would be the status.
    assert_eq!(first.end(), Some(i32::from(STOPPED)), "{}", house.read("first"));
    assert_eq!(row(&runtime, &db, &bad).state, JobState::Failed);
    assert_eq!(row(&runtime, &db, &here).state, JobState::Queued);

    let mut late = worker("late", 25);
    assert_eq!(late.end(), Some(2), "{}", house.read("late"));
    assert!(house.read("late").contains("Slurm leaves this job"), "{}", house.read("late"));
}

#[test]
fn idle_workers_that_spread_their_looks_all_hear_of_jobs() {
    let (house, runtime, db) = set_up();
    house.script("trainer", STAYS);
    // Far beyond the test's time: only what the database calls out has them look.
    let start = |number: usize| {
        let mut command = house.command("scheduler", &["worker", "--poll", "3600", "--slots", "1"]);
        command.args(["--name", &format!("idle-{number}")]);
        house.start(&format!("idle-{number}"), command)
    };
    let workers: Vec<_> = (0..3).map(start).collect();
    until("all listen", || {
        house.sql("select count(*) from pg_stat_activity where query like 'LISTEN%'").trim() == "3"
    });
    let jobs: Vec<Job> = (0..3).map(|n| submit(&runtime, &db, job(&format!("job-{n}")))).collect();
    until("each has a job", || {
        jobs.iter().all(|job| row(&runtime, &db, job).state == JobState::Running)
    });
    let holders: BTreeSet<_> =
        jobs.iter().map(|job| row(&runtime, &db, job).worker_id.unwrap()).collect();
    assert_eq!(holders.len(), 3);
    drop(workers);
}
