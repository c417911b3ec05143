//! Lists, the story of a job, comparisons and the watch, as a laboratory uses them daily.

use std::process::{Command, Stdio};

use registry::{JobKind, NewJob, NewRun, NewSampling, RunDataset, Uuid};
use serde_json::{Value, json};
use testkit::{House, Signal, failed, text, until};

use crate::database::{self, set_up};

fn job(name: &str) -> NewJob {
    NewJob { owner: "ann".into(), ..database::job(name) }
}

fn run(name: &str, learning_rate: f64) -> NewRun {
    NewRun {
        name: name.into(),
        experiment: Some("demo".into()),
        config: json!({"train": {"lr": learning_rate, "steps": 10}, "data": [{"uri": "/d"}]}),
        seed: 7,
        total_steps: 10,
        uri: Some(format!("/runs/{name}")),
        under: None,
        best_metric: "loss".into(),
        git_revision: Some("abc123".into()),
        datasets: vec![RunDataset {
            role: registry::DataRole::Train,
            name: "tiny".into(),
            uri: "/data/tiny".into(),
            manifest_digest: "0123456789abcdef".into(),
            rows: 100,
            weight: 1.0,
        }],
        fork: None,
        job: job(name),
    }
}

/// Runs a command that must be refused as wrong use, in few lines, and gives them.
fn misused(house: &House, arguments: &[&str]) -> String {
    failed(&mut house.command("scheduler", arguments), 2)
}

/// The column of names in a list.
fn names(json: &str) -> Vec<String> {
    let rows: Vec<Value> = serde_json::from_str(json).unwrap();
    rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lists_are_filtered_by_options_and_say_when_nothing_fits() {
    let (house, runtime, db) = set_up();
    assert!(house.ok("scheduler", &["jobs"]).contains("no jobs (`trainer submit` queues one)"));
    runtime.block_on(async {
        db.create_run(run("first", 0.1)).await.unwrap();
        db.create_run(run("second", 0.2)).await.unwrap();
        let tags = vec!["night".into(), "big".into()];
        db.submit(NewJob { tags, held: true, ..job("third") }).await.unwrap();
        let kind = JobKind::Evaluate;
        db.submit(NewJob { kind, owner: "bob".into(), ..job("scores") }).await.unwrap();
    });
    let list = |line: &str| {
        let arguments: Vec<&str> = line.split_whitespace().chain(["--json"]).collect();
        names(&house.ok("scheduler", &arguments))
    };
    for (line, wanted) in [
        ("jobs", &["scores", "third", "second", "first"][..]),
        ("jobs --limit 1", &["scores"]),
        ("jobs --all", &["scores", "third", "second", "first"]),
        ("jobs --state paused", &["third"]),
        ("jobs --state paused,running --state failed", &["third"]),
        ("jobs --kind evaluate,sample", &["scores"]),
        ("jobs --owner bob", &["scores"]),
        ("jobs --tag big --tag night", &["third"]),
        ("jobs --tag big --tag day", &[]),
        ("jobs --name *s*", &["scores", "second", "first"]),
        ("jobs --since 2h --state queued --owner ann", &["second", "first"]),
        ("jobs --since 2126-01-01", &[]),
        ("runs", &["second", "first"]),
        ("runs --experiment demo --limit 1", &["second"]),
        ("runs --name f*", &["first"]),
        ("runs --kind import", &[]),
    ] {
        assert_eq!(list(line), wanted, "{line}");
    }
    let mut mine = house.command("scheduler", &["jobs", "--mine", "--json"]);
    let mine = mine.env("USER", "bob").output().unwrap();
    assert_eq!(names(&text(&mine.stdout)), ["scores"]);
    assert!(house.ok("scheduler", &["jobs", "--owner", "eve"]).contains("no jobs that fit"));
    assert!(house.ok("scheduler", &["runs", "--experiment", "x"]).contains("no runs that fit"));
    assert!(house.fails(1, "scheduler", &["jobs", "--sweep", "grid"]).contains("no sweep `grid`"));
    assert!(misused(&house, &["jobs", "--state", "done"]).contains("succeeded"));
    assert!(misused(&house, &["jobs", "--kind", "cook"]).contains("evaluate"));
    assert!(misused(&house, &["jobs", "--since", "yesterday"]).contains("2h"));
    assert!(misused(&house, &["jobs", "--all", "--limit", "3"]).contains("--limit"));
}

#[test]
fn where_no_terminal_is_nothing_is_cut_and_nothing_watched() {
    let (house, runtime, db) = set_up();
    let long = "long".repeat(25);
    runtime.block_on(db.submit(job(&long))).unwrap();
    let output = house.command("scheduler", &["jobs"]).env("COLUMNS", "40").output().unwrap();
    let lines = text(&output.stdout);
    assert!(lines.contains(&long) && lines.lines().count() == 2, "{lines}");
    for arguments in
        [&["jobs", "--watch"][..], &["runs", "--watch", "1"], &["show", "x", "--watch"]]
    {
        let refused = misused(&house, arguments);
        assert!(refused.contains("--watch draws on a terminal"), "{refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }
    assert!(misused(&house, &["jobs", "--watch", "often"]).contains("0.1 to 3600"));
    assert!(misused(&house, &["jobs", "--watch", "--json"]).contains("--json"));
}

#[test]
fn a_watch_draws_what_changes_within_the_terminal_and_gives_the_terminal_back() {
    let (house, runtime, db) = set_up();
    let long = "long".repeat(25);
    runtime.block_on(db.submit(job(&long))).unwrap();
    let drawn = house.path("drawn");
    let mut script = house.inside(Command::new("script"));
    let scheduler = testkit::program("scheduler");
    let scheduler = scheduler.display();
    let pid = house.path("pid");
    let line = format!("echo $$ > '{}'; exec '{scheduler}' jobs --watch 0.1", pid.display());
    script
        .args(["--quiet", "--flush", "--return", "--command", &line])
        .arg(&drawn)
        .env("SHELL", "/bin/sh")
        .env("NO_COLOR", "1")
        .env("COLUMNS", "72")
        .env("LINES", "10")
        .stdin(Stdio::piped());
    let mut script = house.start("script", script);
    until("the first frame is there", || house.read("drawn").contains("1 queued"));
    runtime.block_on(db.submit(NewJob { held: true, ..job("second") })).unwrap();
    until("the change is drawn", || house.read("drawn").contains("1 paused"));
    let pid: i32 = house.read("pid").trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGINT).unwrap();
    assert_eq!(script.end(), Some(0));
    let drawn = house.read("drawn");
    assert!(drawn.contains("\x1b[?1049h") && drawn.contains("\x1b[?1049l"), "{drawn:?}");
    assert!(drawn.contains("longlong") && drawn.contains('…') && !drawn.contains(&long));
    assert!(drawn.matches("\x1b[H").count() >= 2 && !drawn.contains("\x1b[2J"), "{drawn:?}");
}

#[test]
fn the_story_of_a_job_says_what_it_waits_for_and_what_came_out() {
    let (house, runtime, db) = set_up();
    house.script("trainer", "echo 'error: steps must be positive' >&2; exit 2");
    house.script("pipeline", "echo 'error: no luck' >&2; exit 1");
    let (bad, flaky) = runtime.block_on(async {
        let bad = db.create_run(run("bad", 0.1)).await.unwrap().job;
        let after = vec![bad.id];
        db.submit(NewJob { kind: JobKind::Evaluate, after, ..job("child") }).await.unwrap();
        let sampling = NewSampling {
            run_id: Some(bad.id),
            step: None,
            dataset_uri: "/data".into(),
            task: "colorization".into(),
            output_uri: "/out/colors".into(),
            shares: 0,
            job: NewJob {
                gpus: 2.into(),
                gpu_memory: 24 << 30,
                labels: [("zone".to_owned(), "a".to_owned())].into(),
                held: true,
                ..NewJob::new(JobKind::Sample, "colors", json!({"dataset": "/data"}))
            },
        };
        db.submit_sampling(sampling).await.unwrap();
        let flaky = NewJob { kind: JobKind::Ingest, max_attempts: 2, ..job("flaky") };
        (bad, db.submit(flaky).await.unwrap().job)
    });
    let child = house.ok("scheduler", &["show", "child"]);
    assert!(child.contains(&format!("queued: waits for {} bad", bad.short)), "{child}");
    let story = house.ok("scheduler", &["show", "bad"]);
    assert!(story.contains("queued: no worker is there"), "{story}");
    assert!(story.contains("before") && story.contains("child (queued)"), "{story}");
    assert!(story.contains("paused, colorization: /out/colors"), "{story}");
    let colors = house.ok("scheduler", &["show", "colors"]);
    assert!(colors.contains("needs        2 gpus with 24 GiB each, zone=a"), "{colors}");
    assert!(colors.contains(&format!("{} bad (queued, step 0 of 10)", bad.short)), "{colors}");
    assert_eq!(house.json("scheduler", &["show", "bad", "--config", "--json"])["train"]["lr"], 0.1);
    let config = house.ok("scheduler", &["show", "bad", "--config"]);
    assert!(config.contains("revision abc123") && config.contains("lr = 0.1"), "{config}");
    let payload = house.ok("scheduler", &["show", "colors", "--config"]);
    assert!(payload.contains("dataset = \"/data\""), "{payload}");

    let mut worker = house.worker("report", &["--drain"]);
    worker.end();
    let story = house.ok("scheduler", &["show", "bad"]);
    let wanted =
        "failed: exit status 2: steps must be positive (not tried again: a bad configuration)";
    assert!(story.contains(wanted), "{story}");
    let story = house.ok("scheduler", &["show", &flaky.short[..6]]);
    let wanted = format!("(2 of 2 tries used; `scheduler retry {}` gives new ones)", flaky.short);
    assert!(story.contains("failed: exit status 1: no luck") && story.contains(&wanted), "{story}");
    let child: Value =
        serde_json::from_str(&house.ok("scheduler", &["show", "child", "--json"])).unwrap();
    assert_eq!(child["job"]["state"], "cancelled");
    assert!(child["outlook"].as_str().unwrap().contains("scheduler retry"));
    assert_eq!(child["after"][0]["name"], "bad");
    let ended: Value =
        serde_json::from_str(&house.ok("scheduler", &["workers", "--all", "--json"])).unwrap();
    assert_eq!(ended[0]["state"], "ended");
    assert!(house.ok("scheduler", &["workers"]).contains("no workers"));
}

#[test]
fn who_holds_a_job_is_told_by_its_story_and_by_the_workers() {
    let (house, runtime, db) = set_up();
    house.script(
        "trainer",
        "trap 'exit 75' TERM\n: > \"$HOUSE/runs\"\nwhile :; do sleep 0.05; done",
    );
    let job = runtime.block_on(db.submit(job("held"))).unwrap().job;
    let worker = house.worker("report", &["--name", "bench"]);
    until("the child runs", || house.path("runs").exists());
    let story = house.ok("scheduler", &["show", "held"]);
    assert!(story.contains("running: try 1 of 3"), "{story}");
    assert!(story.contains("worker       bench on ") && story.contains("lease ends in"), "{story}");
    let workers = house.ok("scheduler", &["workers"]);
    assert!(workers.contains("bench") && workers.contains("alive"), "{workers}");
    assert!(workers.contains(&job.short), "{workers}");
    worker.signal(Signal::SIGKILL);
    until("the worker is seen to be lost", || house.ok("scheduler", &["workers"]).contains("lost"));
}

#[test]
fn a_comparison_shows_what_differs_and_counts_what_is_equal() {
    let (house, runtime, db) = set_up();
    let (a, b) = runtime.block_on(async {
        let a = db.create_run(run("first", 0.1)).await.unwrap().run;
        let b = NewRun { seed: 8, ..run("second", 0.2) };
        (a, db.create_run(b).await.unwrap().run)
    });
    let record = |run: Uuid, mse: f64| {
        let new = registry::NewEvaluation {
            run_id: Some(run),
            step: Some(5),
            label: "palette".into(),
            task: Some("colorization".into()),
            outputs_uri: "/out".into(),
            reference_uri: None,
            scores: json!({ "mse": mse }),
        };
        runtime.block_on(db.record_evaluation(&new)).unwrap();
    };
    record(a.id, 0.5);
    record(b.id, 0.25);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = house.ok("scheduler", &["diff", "first", &b.short[..7]]);
    let lines: Vec<String> = shown.lines().map(words).collect();
    for wanted in [
        format!("configuration {} {}", a.short, b.short),
        "train.lr 0.1 0.2".into(),
        "2 other values of the configuration are equal".into(),
        "seed 7 8".into(),
        "equal: experiment, revision, dataset tiny".into(),
        "palette colorization mse 5 0.5000 0.2500 no interval".into(),
    ] {
        assert!(lines.contains(&wanted), "{wanted}:\n{shown}");
    }
    let same = house.ok("scheduler", &["diff", "first", "first"]);
    assert!(same.contains("3 values of the configuration are equal"), "{same}");
    assert!(!same.contains("seed  "), "{same}");
    let diff: Value =
        serde_json::from_str(&house.ok("scheduler", &["diff", "first", "second", "--json"]))
            .unwrap();
    assert_eq!(diff["config"], json!([{"key": "train.lr", "a": 0.1, "b": 0.2}]));
    assert_eq!((&diff["config_equal"], &diff["b"]["short"]), (&json!(2), &json!(b.short)));
    assert!(house.fails(1, "scheduler", &["diff", "first", "third"]).contains("no run `third`"));
}
