//! `scheduler doctor`: what it finds in houses where something is wrong.

use std::os::unix::fs::PermissionsExt;

use registry::{JobKind, NewJob, NewRun};
use serde_json::{Value, json};
use testkit::{House, text};

use crate::database::{job, open};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// All findings, and the exit status.
fn examine(house: &House, environment: &[(&str, &str)]) -> (Vec<Value>, Option<i32>) {
    let mut command = house.command("scheduler", &["doctor", "--json"]);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let findings = serde_json::from_slice(&output.stdout);
    (findings.unwrap_or_else(|_| panic!("{}", text(&output.stderr))), output.status.code())
}

/// The findings of a check, as `VERDICT TEXT: REMEDY`.
fn of(findings: &[Value], area: &str, check: &str) -> Vec<String> {
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    findings
        .iter()
        .filter(|finding| finding["area"] == area && finding["check"] == check)
        .map(|it| format!("{} {}: {}", word(it, "verdict"), word(it, "text"), word(it, "remedy")))
        .collect()
}

#[track_caller]
fn assert_found(findings: &[Value], area: &str, check: &str, parts: &[&str]) {
    let lines = of(findings, area, check);
    let found = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found, "{area} {check}: {lines:?} does not say {parts:?}");
}

#[test]
fn what_is_open_to_others_is_said_with_what_closes_it() {
    let house = House::new();
    assert!(!house.ok("scheduler", &["up"]).contains("chmod"));
    let home = house.path("home");
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).unwrap();
    house.sql("grant create on schema public to public");
    let (findings, status) = examine(&house, &[]);
    assert_eq!(status, Some(0), "{findings:?}");
    let home = home.to_str().unwrap();
    assert_found(&findings, "storage", "privacy", &["warning", "chmod o=", home]);
    assert_found(&findings, "database", "schema", &["warning", "revoke create on schema public"]);
    let up = text(&house.run("scheduler", &["up"]).stderr);
    assert!(
        up.contains("warning: all users of this machine may look into") && up.contains("chmod o="),
        "{up}"
    );
}

#[test]
fn a_house_in_order_has_one_ok_line_a_check() {
    let house = House::with_scripts();
    for program in ["trainer", "sampler", "evaluator", "pipeline"] {
        house.script(program, &format!("echo {program} {VERSION}"));
    }
    // A fresh server has no tables; the doctor looks and makes none.
    for _ in 0..2 {
        let (findings, status) = examine(&house, &[]);
        assert_eq!(status, Some(0));
        assert_found(&findings, "database", "migrations", &["warning", "no tables yet"]);
    }
    house.ok("scheduler", &["up"]);
    let (findings, status) = examine(&house, &[]);
    assert_eq!(status, Some(0), "{findings:?}");
    for (area, check, part) in [
        ("database", "reachable", "home/postgres/run"),
        ("database", "version", "Postgres "),
        ("database", "latency", " ms"),
        ("database", "clock", "ms apart"),
        ("database", "durability", "synchronous_commit are on"),
        ("database", "connections", " of 297 connections"),
        ("database", "tls", "on this host"),
        ("database", "migrations", "has the tables of this program"),
        ("database", "privileges", "role palette may read, submit, control, work, migrate"),
        ("database", "schema", "only the owner"),
        ("database", "sizes", "the biggest tables: "),
        ("storage", "privacy", "is kept from others"),
        ("workers", "bounds", "can hold jobs to --data-root"),
        ("queue", "leases", "held by a worker"),
        ("queue", "reach", "no job is queued"),
        ("workers", "alive", "none is alive"),
        ("programs", "trainer", VERSION),
        ("programs", "pipeline", VERSION),
    ] {
        assert_found(&findings, area, check, &["ok ", part]);
    }
    assert_found(&findings, "storage", "home", &["1 MB is safe on disk after"]);
    let printed = house.ok("scheduler", &["doctor"]);
    assert_eq!(printed.lines().count(), findings.len(), "{printed}");
    assert!(printed.lines().all(|line| line.starts_with("ok ") || line.starts_with("warning ")));
    let left: Vec<_> = std::fs::read_dir(house.path("home")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "it leaves nothing behind: {left:?}");
}

#[test]
fn what_is_wrong_in_the_queue_and_with_workers_is_said_with_its_reason() {
    let house = House::with_scripts();
    house.ok("scheduler", &["up"]);
    let (runtime, db) = open(&house);
    let submit = |name: &str, change: fn(NewJob) -> NewJob| {
        runtime.block_on(db.submit(change(job(name)))).unwrap().job
    };
    submit("plain", |job| job);
    let (findings, _) = examine(&house, &[]);
    assert_found(&findings, "queue", "reach", &["warning", "1 queued job and no worker is alive"]);

    let worker = |name: &str, kinds: &str, gpus: u8, version: &str, seen: &str| {
        let insert = format!(
            "insert into workers (id, name, host, pid, slots, gpus, gpu_sizes, kinds, labels,
                 version, last_seen_at)
             values (gen_random_uuid(), '{name}', 'there', 1, 2, {gpus},
                 array_fill(8589934592, array[{gpus}]), '{kinds}',
                 '{{\"site\": \"a\"}}', {version}, now() - interval '{seen}')"
        );
        house.sql(&insert);
    };
    let ours = format!("'{VERSION}'");
    worker("one", "{train,sample}", 1, &ours, "0 s");
    worker("old", "{train}", 0, "'0.0.1'", "0 s");
    worker("gone", "{train}", 8, &ours, "1 hour");
    worker("history", "{train}", 8, &ours, "3 days");
    let many = submit("many", |job| NewJob { gpus: 2.into(), ..job });
    submit("many-more", |job| NewJob { gpus: 2.into(), ..job });
    let big = submit("big", |job| NewJob { gpus: 1.into(), gpu_memory: 80 << 30, ..job });
    let site = submit("site", |job| NewJob { labels: [("site".into(), "b".into())].into(), ..job });
    let kind = submit("kind", |job| NewJob { kind: JobKind::Ingest, ..job });
    let lost = submit("lost", |job| job);
    let take = format!(
        "update jobs set state = 'running', lease_expires_at = now() - interval '1 hour',
             worker_id = (select id from workers where name = 'gone')
         where id = '{}'",
        lost.id
    );
    house.sql(&take);

    // A lease as long as the test, so that workers whose row nobody renews count as alive.
    let (findings, status) = examine(&house, &[("PALETTE_LEASE_SECONDS", "600")]);
    assert_eq!(status, Some(1));
    let leases = ["failed", "1 running job ran out 1 h 0 min ago", &lost.short, "scheduler worker"];
    assert_found(&findings, "queue", "leases", &leases);
    let reach = |parts: &[&str]| assert_found(&findings, "queue", "reach", parts);
    reach(&["warning", &many.short, "and 1 like it asks for 2 GPUs", "have 1 at most"]);
    reach(&["warning", &big.short, "asks for GPUs of 86 GB", "8.6 GB at most"]);
    reach(&["warning", &site.short, "the label site=b", "--label site=b"]);
    reach(&["warning", &kind.short, "is of kind ingest", "the program pipeline"]);
    assert_eq!(of(&findings, "queue", "reach").len(), 4);
    assert_found(
        &findings,
        "workers",
        "alive",
        &["ok", "2 alive", "one on there (2 slots, 1 GPU)"],
    );
    assert_found(
        &findings,
        "workers",
        "lost",
        &["warning", "1 worker was lost", "gone on there, 1 h"],
    );
    assert_found(&findings, "workers", "versions", &["warning", "old on there is 0.0.1", VERSION]);
    let mut command = house.command("scheduler", &["doctor"]);
    let printed = testkit::failed(command.env("PALETTE_LEASE_SECONDS", "600"), 1);
    assert_eq!(printed.lines().count(), 1, "{printed}");
    assert!(printed.contains("1 of ") && printed.contains("checks failed"), "{printed}");
}

#[test]
fn what_is_wrong_with_programs_runs_and_the_server_is_said_and_the_rest_is_looked_at() {
    let house = House::with_scripts();
    house.ok("scheduler", &["up"]);
    house.script("trainer", "echo trainer 9.9.9");
    house.script("sampler", "echo 'libtorch_cpu.so: cannot open shared object file' >&2; exit 127");
    house.script("evaluator", "exit 0");
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(house.path("bin/evaluator"), mode).unwrap();
    let (runtime, db) = open(&house);
    for (name, folder) in [("here", house.path("bin")), ("away", house.path("away"))] {
        let new = NewRun {
            name: name.into(),
            experiment: None,
            config: json!({}),
            seed: 1,
            total_steps: 1,
            uri: Some(folder.to_string_lossy().into_owned()),
            under: None,
            best_metric: "loss".into(),
            git_revision: None,
            datasets: vec![],
            fork: None,
            job: job(name),
        };
        runtime.block_on(db.create_run(new)).unwrap();
    }
    let host = nix::sys::utsname::uname().unwrap().nodename().to_str().unwrap().to_owned();
    let made = format!(
        "update runs set host = '{host}';
         insert into checkpoints (run_id, step, attempt, kind, uri, bytes, digest)
         select id, 1, 1, 'final', uri || '/step-1', 1, 'd' from runs"
    );
    house.sql(&made);
    let (findings, status) = examine(&house, &[]);
    assert_eq!(status, Some(1));
    assert_found(&findings, "programs", "trainer", &["warning", "says `trainer 9.9.9`", VERSION]);
    assert_found(&findings, "programs", "sampler", &["failed", "libtorch_cpu.so: cannot open"]);
    assert_found(&findings, "programs", "evaluator", &["failed", "cannot be executed", "chmod"]);
    assert_found(&findings, "programs", "pipeline", &["warning", "not there", "no ingest jobs"]);
    assert_found(
        &findings,
        "storage",
        "runs",
        &["warning", "1 lack", &house.path("away").to_string_lossy()],
    );

    house.sql("insert into _sqlx_migrations values (999, 'later', now(), true, '', 1)");
    let (findings, _) = examine(&house, &[]);
    assert_found(&findings, "database", "migrations", &["failed", "has migration 999"]);
    assert!(of(&findings, "queue", "reach").is_empty());
    let url = "postgres://x:s3cret@127.0.0.1:1/d";
    let (findings, status) = examine(&house, &[("DATABASE_URL", url)]);
    assert_eq!(status, Some(1));
    assert_found(&findings, "database", "reachable", &["failed", "postgres://x@127.0.0.1:1/d"]);
    assert!(!format!("{findings:?}").contains("s3cret"));
    assert_found(&findings, "programs", "trainer", &["warning"]);
    assert_found(&findings, "storage", "room", &["free at"]);
}
