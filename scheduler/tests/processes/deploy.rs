//! What `deploy/` says: manifests and the Compose file by their schemas (`scripts/deploy.py`), and what no schema knows
//! by the programs and a database themselves.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use registry::{GpuCount, JobState, Lease, NewJob, NewRun, NewSweep, Resources, WorkerInfo};
use serde_json::{Value, json};
use testkit::{House, program, psql, python, text};

use crate::database::{job, set_up, submit};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Checks a folder like `deploy/`; none where this machine lacks the checkers.
fn check(folder: &Path) -> Option<Output> {
    let python = python(&["kubernetes_validate", "check_jsonschema"])?;
    let mut command = Command::new(python);
    command.arg(root().join("scripts/deploy.py")).arg("--folder").arg(folder);
    Some(command.output().unwrap())
}

/// What the check of `deploy/` found in it.
fn found() -> Option<Value> {
    let output = check(&root().join("deploy"))?;
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn the_manifests_are_valid_and_the_programs_take_their_command_lines() {
    let Some(found) = found() else { return };
    let commands = found["commands"].as_array().unwrap();
    assert!(commands.len() >= 6, "{commands:?}");
    let answer = |name: &str, arguments: &[&str]| {
        let output =
            Command::new(program(name)).args(["check-arguments", "--"]).args(arguments).output();
        text(&output.unwrap().stdout).trim().to_owned()
    };
    for command in commands {
        let arguments: Vec<&str> = command["arguments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_str().unwrap())
            .collect();
        let name = command["program"].as_str().unwrap();
        assert_eq!(answer(name, &arguments), "taken", "{command}");
        for word in &arguments {
            // The image holds configs/ below share/.
            if let Some(config) = word.strip_prefix("share/") {
                assert!(root().join(config).is_file(), "{word}");
            }
        }
    }
    assert!(answer("scheduler", &["worker", "--metric=9464"]).starts_with("refused: "));
}

#[test]
fn what_is_wrong_in_a_manifest_is_found_and_named() {
    let Some(_) = found() else { return };
    let wrong = [
        ("kubernetes/workers.yaml", "restartPolicy: Never", "restartPolcy: Never", "restartPolcy"),
        ("kubernetes/workers.yaml", "parallelism: 4", "parallelism: four", "parallelism"),
        (
            "kubernetes/workers.yaml",
            "apiVersion: batch/v1",
            "apiVersion: batch/v2",
            "no such object",
        ),
        ("kubernetes/workers.yaml", "=0.0.0.0:9464", "=9464", "0.0.0.0:PORT"),
        ("kubernetes/workers.yaml", "Seconds: 360", "Seconds: 30", "must exceed --grace"),
        ("kubernetes/workers.yaml", "key: worker-password", "key: password", "no key password"),
        ("kubernetes/workers.yaml", "port: metrics", "port: metric", "asks port metric"),
        (
            "kubernetes/workers.yaml",
            "cpu: \"8\"",
            "cpu: \"4\"",
            "differ from those of workers.yaml",
        ),
        ("kubernetes/gang.yaml", "completions: 4", "completions: 8", "must be the same number"),
        ("kubernetes/gang.yaml", "subdomain: palette-gang", "subdomain: gang", "no Service gang"),
        ("kubernetes/scaled-workers.yaml", "pollingInterval", "pollInterval", "pollInterval"),
        ("kubernetes/scaled-workers.yaml", "strategy: accurate", "strategy: exact", "'exact'"),
        ("kubernetes/scaled-workers.yaml", "backoffLimit: 2", "backofLimit: 2", "backofLimit"),
        ("kubernetes/postgres.yaml", "readinessProbe", "readinesProbe", "readinesProbe"),
        ("kubernetes/kustomization.yaml", "migrate.yaml", "migration.yaml", "is not there"),
        ("compose.yaml", "restart: unless-stopped", "restrt: unless-stopped", "restrt"),
        ("compose.yaml", "127.0.0.1:${POSTGRES_PORT:-5432}", "5432", "open to the network"),
        ("compose.yaml", "${OWNER_PASSWORD:?put it into deploy/.env}", "secret", "deploy/.env"),
    ];
    for (file, from, to, says) in wrong {
        let folder = tempfile::tempdir().unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-r").args([root().join("deploy"), root().join("migrations")]).arg(folder.path());
        assert!(copy.status().unwrap().success());
        let path = folder.path().join("deploy").join(file);
        let whole = std::fs::read_to_string(&path).unwrap();
        assert!(whole.contains(from), "{file} has no `{from}`");
        std::fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        let output = check(&folder.path().join("deploy")).unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{file}, {to}: {said}");
        assert!(said.contains(says), "{file}, {to}: {said}");
    }
}

#[test]
fn keda_counts_the_jobs_that_a_worker_can_claim() {
    let Some(found) = found() else { return };
    let (house, runtime, db) = set_up();
    let query = found["queries"][0].as_str().unwrap();
    let waiting = || house.sql(query).trim().parse::<usize>().unwrap();
    assert_eq!(waiting(), 0);
    let first = submit(&runtime, &db, job("plain"));
    let gpus = |text: &str| text.parse::<GpuCount>().unwrap();
    for (name, count) in [("one", "1"), ("many", "1..8"), ("two", "2")] {
        submit(&runtime, &db, NewJob { gpus: gpus(count), ..job(name) });
    }
    let labels = [("site".to_owned(), "b".to_owned())].into();
    submit(&runtime, &db, NewJob { labels, ..job("elsewhere") });
    submit(&runtime, &db, NewJob { held: true, ..job("held") });
    submit(&runtime, &db, NewJob { after: vec![first.id], ..job("child") });
    let soon = time::OffsetDateTime::now_utc() + time::Duration::HOUR;
    submit(&runtime, &db, NewJob { run_after: Some(soon), ..job("later") });
    assert_eq!(waiting(), 3, "plain, one and many");
    // Of a sweep no more than may run at once, less those that run.
    runtime.block_on(db.submit_sweep(sweep())).unwrap();
    assert_eq!(waiting(), 5);

    let worker = WorkerInfo::this_process(None, 1);
    let resources = Resources {
        kinds: vec![registry::JobKind::Train],
        gpus: vec![80 << 30],
        labels: json!({}),
        except: Vec::new(),
    };
    let lease = Lease::from_env().unwrap();
    runtime.block_on(db.register_worker(&worker)).unwrap();
    for left in (0..5).rev() {
        let claimed = runtime.block_on(db.claim(&worker, &resources, &lease)).unwrap().unwrap();
        assert_eq!(claimed.job.state, JobState::Running);
        assert_eq!(waiting(), left, "after {}", claimed.job.name);
    }
    assert!(runtime.block_on(db.claim(&worker, &resources, &lease)).unwrap().is_none());
}

/// Three runs of which two may run at once.
fn sweep() -> NewSweep {
    let run = |n: i32| {
        let new = NewRun {
            name: format!("grid-{n}"),
            experiment: None,
            config: json!({}),
            seed: 0,
            total_steps: 10,
            uri: Some("/runs/x".into()),
            under: None,
            best_metric: "loss".into(),
            git_revision: None,
            datasets: Vec::new(),
            fork: None,
            job: job("grid"),
        };
        (new, json!({ "n": n }))
    };
    NewSweep {
        name: "grid".into(),
        owner: "ann".into(),
        submit_key: None,
        at_most: Some(2),
        runs: (1..=3).map(run).collect(),
    }
}

/// The logins of `deploy/logins.sql`, made twice, as the Job and the Compose file make them.
#[test]
fn the_logins_may_work_and_watch_and_no_more() {
    let house = House::with_scripts();
    house.ok("scheduler", &["up"]);
    let roles = |password: &str| {
        let mut command = house.inside(Command::new("psql"));
        command.args(["-qX", "-v", "owner=palette", "-f"]).arg(root().join("migrations/roles.sql"));
        command.arg("-f").arg(root().join("deploy/logins.sql")).arg(house.url());
        command.env("WORKER_PASSWORD", password).env("READER_PASSWORD", "it's \"his\"");
        command.output().unwrap()
    };
    let server = house.url().replace("palette?", "postgres?");
    if text(&psql(&server, &["-Atc", "show server_version_num"]).stdout).as_str() < "140000" {
        println!("skipped: psql has \\getenv since 14");
        return;
    }
    for password in ["first", "second"] {
        let output = roles(password);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
    }
    let hashed = "select count(*) from pg_authid
                  where rolname in ('palette_workers', 'palette_watcher') and rolpassword like 'SCRAM-%'";
    assert_eq!(house.sql(hashed).trim(), "2");
    // As in the manifests the address names no user: PGUSER does.
    let url = house.url().replace("&user=palette", "");
    let run = |user: &str, arguments: &[&str]| {
        let mut command = house.command("scheduler", arguments);
        command.env("DATABASE_URL", &url).env("PGUSER", user).output().unwrap()
    };
    house.script("trainer", "exit 0");
    let work = ["worker", "--exit-when-idle", "--metrics=0"];
    let output = run("palette_workers", &work);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(run("palette_watcher", &["jobs"]).status.success());
    assert!(!run("palette_watcher", &work).status.success());
}
