//! A worker that was given roots: what its jobs reach, by the real programs.

use std::path::Path;

use registry::{CommandLine, Database, JobKind, NewJob};
use serde_json::Value;
use testkit::{House, failed, run_ok};

/// A house with a dataset, whose workers are given roots or trust nobody.
fn house() -> House {
    let mut house = House::new();
    house.set([("PALETTE_TRUST_SUBMITTERS", "")]);
    house.dataset(12);
    for folder in ["out", "private"] {
        std::fs::create_dir(house.path(folder)).unwrap();
    }
    let photograph = std::fs::read_dir(house.path("scenes")).unwrap().next().unwrap().unwrap();
    std::fs::copy(photograph.path(), house.path("private/mine.png")).unwrap();
    house
}

fn ingest(house: &House, name: &str, folder: &str, arguments: &[&str]) {
    let mut command = house.command("scheduler", &["submit", "ingest", "--name", name, "--"]);
    run_ok(command.args(arguments).current_dir(house.path(folder)));
}

fn work(house: &House, more: &[&str]) -> String {
    let mut arguments =
        vec!["--drain", "--data-root", "scenes", "--data-root", "data", "--output-root", "out"];
    arguments.extend(more);
    let mut worker = house.worker("report", &arguments);
    worker.end();
    house.read("report")
}

/// Jobs that were tried more than once.
const AGAIN: &str = "select name, reason from jobs where attempt > 1";

fn state(house: &House, job: &str) -> (String, String) {
    let job: Value = house.json("scheduler", &["show", job, "--json"]);
    let text = |key: &str| {
        let found = job.get(key).or_else(|| job.get("job").and_then(|job| job.get(key)));
        found.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    (text("state"), text("reason"))
}

#[test]
fn jobs_reach_what_their_worker_was_given_and_nothing_else() {
    let house = house();
    let scenes = house.path("scenes").display().to_string();
    let beside = house.path("beside").display().to_string();
    let profile = house.path("profile").display().to_string();
    std::fs::write(&profile, "untouched").unwrap();
    ingest(&house, "good", "out", &[&scenes, "--out", "again"]);
    ingest(&house, "writes-beside", "out", &[&scenes, "--out", &beside]);
    ingest(&house, "reads-private", "out", &["../private", "--out", "stolen"]);
    ingest(&house, "writes-data", "out", &[&scenes, "--out", "../data/more"]);
    ingest(&house, "far-data", "out", &["s3://foreign/photographs", "--out", "far"]);
    ingest(&house, "far-out", "out", &[&scenes, "--out", "s3://foreign/out"]);
    ingest(&house, "from-private", "private", &[&scenes, "--out", "../out/from"]);
    let memory = format!("/dev/shm/palette-{}", std::process::id());
    ingest(&house, "shared-memory", "out", &[&scenes, "--out", &memory]);
    let root = format!("/proc/self/root{}", house.path("private").display());
    ingest(&house, "around-the-root", "out", &[&root, "--out", "around"]);
    let labels =
        ["--layout", "imagenet-val", "--labels", "../private/mine.png", "--out", "labelled"];
    ingest(&house, "reads-labels", "out", &[&[scenes.as_str()], &labels[..]].concat());
    std::os::unix::fs::symlink(house.path("private"), house.path("out/link")).unwrap();
    ingest(&house, "by-a-link", "out", &["link", "--out", "linked"]);
    house.ok("trainer", &["submit", &house.config("palette", 5)]);
    run_ok(
        std::process::Command::new("cp")
            .arg("-r")
            .args([house.path("data"), house.path("private/data")]),
    );
    let private = house.path("private/data").display().to_string();
    house.ok("trainer", &["submit", &house.config("reads-data", 5), "--dataset", &private]);
    let report = work(&house, &[]);
    for (job, words) in [
        ("reads-data", "denied (os error 13); it lies outside of the roots of this worker"),
        ("writes-beside", "denied (os error 13); it lies outside of the roots of this worker"),
        ("reads-private", "denied (os error 13); it lies outside of the roots of this worker"),
        ("writes-data", "denied (os error 13); it lies outside of the roots of this worker"),
        ("far-data", "outside of the roots of this worker"),
        ("far-out", "outside of the"),
        ("from-private", "outside of the roots of this worker"),
        ("by-a-link", "denied (os error 13); it lies outside of the roots of this worker"),
        ("shared-memory", "denied (os error 13); it lies outside of the roots of this worker"),
        ("around-the-root", "denied (os error 13); it lies outside of the roots of this worker"),
    ] {
        let (state, reason) = state(&house, job);
        assert_eq!(state, "failed", "{job}: {report}");
        assert!(reason.contains(words), "{job}: {reason}");
        let tries = house.sql(&format!("select attempt from jobs where name = '{job}'"));
        assert_eq!(tries, "1\n", "{job}");
    }
    for made in ["beside", "out/stolen/manifest.json", "data/more", "out/linked/manifest.json"] {
        assert!(!house.path(made).exists(), "{made}");
    }
    assert!(!Path::new(&memory).exists());
    assert_ne!(state(&house, "reads-labels").0, "succeeded");
    assert_eq!(house.read("profile"), "untouched");
    assert!(house.path("out/again/manifest.json").exists());
    for job in ["good", "palette"] {
        assert_eq!(state(&house, job).0, "succeeded", "{report}");
    }
}

/// Nobody wants to hear after hours of training that its checkpoints could not be kept.
#[test]
fn a_run_whose_place_cannot_be_written_fails_before_it_trains_and_once() {
    let house = house();
    let private = house.path("private/runs").display().to_string();
    let below_a_file = house.path("out/file/runs").display().to_string();
    std::fs::write(house.path("out/file"), "").unwrap();
    let places = [
        ("far", "s3://nowhere/runs", "lies outside of the roots of this worker"),
        ("beside", &private, "ermission denied"),
        ("below", &below_a_file, "Not a directory"),
    ];
    for (name, place, _) in places {
        let place = format!("train.checkpoint.place=\"{place}\"");
        house.ok("trainer", &["submit", &house.config(name, 5), "--set", &place]);
    }
    let report = work(&house, &[]);
    for (name, place, why) in places {
        let (state, reason) = state(&house, name);
        assert_eq!(state, "failed", "{name}: {report}");
        for words in
            [why, &format!("checkpoints cannot be kept in {place}"), "train.checkpoint.place"]
        {
            assert!(reason.contains(words), "{name}: {reason}");
        }
    }
    assert_eq!(house.sql("select count(*) from attempts"), "3\n", "{report}");
    assert_eq!(house.sql("select count(*) from metrics"), "0\n", "{report}");
    assert!(!house.path("private/runs").exists());
}

#[test]
fn outputs_and_scores_that_cannot_be_written_fail_before_the_work_and_once() {
    let house = house();
    house.ok("trainer", &["submit", &house.config("trained", 5)]);
    work(&house, &[]);
    let checkpoint = house.last_checkpoint("trained");
    let sample = |out: &str| {
        let about = ["--checkpoint", &checkpoint, "--dataset", "data", "--task", "jpeg"];
        let queued =
            house.json("sampler", &[&["submit"], &about[..], &["--out", out, "--json"]].concat());
        queued["job"].as_str().unwrap().to_owned()
    };
    let score = |name: &str, file: &str| {
        let mut command = house
            .command("scheduler", &["submit", "evaluate", "--name", name, "--", "--size", "32"]);
        let line = ["--outputs", "../scenes", "--reference", "../scenes", "--details", file];
        run_ok(command.args(line).current_dir(house.path("out")));
        name.to_owned()
    };
    let jobs = [
        (sample("private/samples"), "outputs cannot be written to"),
        (score("details", "../private/details.csv"), "details.csv"),
        (score("deep", "../private/scores/details.csv"), "create folder"),
    ];
    for out in ["private/samples", "private/scores"] {
        assert!(!house.path(out).exists(), "whoever submits makes no {out}");
    }
    let report = work(&house, &[]);
    for (job, words) in jobs {
        let (state, reason) = state(&house, &job);
        assert_eq!(state, "failed", "{job}: {report}");
        assert!(reason.contains(words), "{job}: {reason}");
        let shown: Value = house.json("scheduler", &["show", &job, "--json"]);
        assert_eq!(shown["job"]["attempts_used"], 1, "{shown}");
    }
    assert_eq!(house.files("private").len(), 1);
}

#[test]
fn a_job_gets_of_the_environment_what_it_needs() {
    let house = house();
    let bin = house.path("bin");
    std::fs::create_dir(&bin).unwrap();
    for program in ["pipeline", "evaluator"] {
        house.script(program, "env");
    }
    let variables = [
        ("DATABASE_URL", ""),
        ("PGPASSWORD", "s3cret"),
        ("SSH_AUTH_SOCK", "/agent"),
        ("AWS_REGION", "here"),
    ];
    let names_of = |job: &str| {
        let log = house.ok("scheduler", &["logs", job]);
        log.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, _)| name.to_owned())
            .collect::<Vec<_>>()
    };
    for (number, bounds) in [vec![], vec!["--output-root", "out"]].into_iter().enumerate() {
        let (pictures, scores) = (format!("pictures-{number}"), format!("scores-{number}"));
        ingest(&house, &pictures, "out", &["../scenes", "--out", "x"]);
        let mut command = house.command(
            "scheduler",
            &["submit", "evaluate", "--name", &scores, "--", "--outputs", "x"],
        );
        run_ok(command.current_dir(house.path("out")));
        let mut worker = house.command("scheduler", &["worker", "--drain"]);
        run_ok(worker.args(&bounds).env("PALETTE_BIN", &bin).envs(variables));
        let has = |job: &str, name: &str| names_of(job).iter().any(|found| found == name);
        assert!(
            !has(&pictures, "DATABASE_URL") && !has(&pictures, "PGPASSWORD"),
            "an ingest needs no database"
        );
        assert!(has(&scores, "DATABASE_URL"));
        assert!(has(&pictures, "AWS_REGION") && has(&pictures, "PALETTE_HOME"));
        assert_eq!(has(&pictures, "SSH_AUTH_SOCK"), bounds.is_empty());
    }
}

#[test]
fn only_what_jobs_of_a_kind_are_is_run() {
    let house = house();
    house.ok("scheduler", &["up"]);
    let runtime = registry::runtime().unwrap();
    let db = runtime.block_on(Database::open_url(&house.url())).unwrap();
    for (kind, command, says) in [
        (JobKind::Ingest, "verify", "`pipeline verify` is no job: only `pipeline ingest` is"),
        (
            JobKind::Evaluate,
            "classifier",
            "`evaluator classifier` is no job: only `evaluator run` is",
        ),
        (JobKind::Train, "export", "a train job is no command line"),
    ] {
        let line =
            CommandLine { arguments: vec![command.into(), "x".into()], folder: house.path("out") };
        let new = NewJob::new(kind, command, line.payload().unwrap());
        runtime.block_on(db.submit(new)).unwrap();
        house.worker("report", &["--drain"]).end();
        let (state, reason) = state(&house, command);
        assert_eq!((state.as_str(), reason.contains(says)), ("failed", true), "{reason}");
    }
    assert_eq!(house.sql(AGAIN), "", "none is tried again");
}

/// Fields and versions that a program does not know may mean what it must not ignore.
#[test]
fn a_payload_that_is_not_known_in_full_is_refused_before_anything_is_done() {
    let house = house();
    house.ok("trainer", &["submit", &house.config("trained", 5)]);
    work(&house, &[]);
    let checkpoint = house.last_checkpoint("trained");
    let queue = |number: usize| {
        let named = |name: &str| format!("{name}-{number}");
        let [run, sampled, scored, ingested] = ["run", "sampled", "scored", "ingested"].map(named);
        let [outputs, made, details] = ["outputs", "made", "details"].map(named);
        house.ok("trainer", &["submit", &house.config(&run, 5)]);
        let sample = ["submit", "--checkpoint", &checkpoint, "--dataset", "data", "--task", "jpeg"];
        let sampling =
            house.json("sampler", &[&sample[..], &["--out", &outputs, "--json"]].concat());
        let sampled_id = sampling["job"].as_str().unwrap_or_else(|| panic!("{sampling}"));
        house.sql(&format!(
            "update jobs set name = '{sampled}' where id::text like '{sampled_id}%'"
        ));
        ingest(&house, &ingested, "out", &["../scenes", "--out", &made]);
        let mut command =
            house.command("scheduler", &["submit", "evaluate", "--name", &scored, "--"]);
        let line = ["--outputs", "../scenes", "--reference", "../scenes", "--details", &details];
        run_ok(command.args(line).current_dir(house.path("out")));
        [run, sampled, scored, ingested]
    };
    let changes = [
        "payload || '{\"surprise\": 1}'",
        "payload || '{\"version\": 99}'",
        "payload || '{\"version\": \"1\"}'",
    ];
    for (number, change) in changes.iter().enumerate() {
        let jobs = queue(number);
        house.sql(&format!("update jobs set payload = {change} where state = 'queued'"));
        let report = work(&house, &[]);
        for job in jobs {
            let (state, reason) = state(&house, &job);
            assert_eq!(state, "failed", "{job}: {report}");
            let told = reason.contains("surprise") || reason.contains("version");
            assert!(told, "{job}: {reason}");
        }
        for made in ["made", "details"] {
            assert!(!house.path(&format!("out/{made}-{number}")).exists(), "{made}");
        }
        assert!(house.files(&format!("outputs-{number}")).is_empty());
    }
    assert_eq!(house.sql(AGAIN), "", "none is tried again");
    assert_eq!(house.sql("select count(*) from checkpoints join runs on runs.id = run_id where runs.name like 'run-%'"), "0\n");
}

#[test]
fn roots_that_were_hardly_meant_are_warned_of_at_the_start() {
    let house = house();
    house.ok("scheduler", &["up"]);
    let said = |arguments: &[&str]| {
        let mut command = house.command("scheduler", &["worker", "--drain"]);
        let output = command.args(arguments).env("HOME", house.path("private")).output().unwrap();
        let said = testkit::text(&output.stderr);
        assert!(output.status.success(), "{said}");
        said
    };
    let narrow = said(&["--data-root", "scenes", "--output-root", "out"]);
    assert!(!narrow.contains("-root "), "{narrow}");
    let us = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(house.path("out")).unwrap());
    assert_eq!(narrow.contains("this worker runs as root"), us == 0, "{narrow}");
    let all = said(&["--data-root", "/", "--output-root", "out"]);
    assert!(all.contains("--data-root / holds"), "{all}");
    let home = said(&["--data-root", "scenes", "--output-root", "."]);
    assert!(home.contains("holds the home of this user"), "{home}");
}

#[test]
fn a_worker_of_a_shared_database_is_told_whom_it_trusts() {
    let house = house();
    house.ok("scheduler", &["up"]);
    // The same server by another address is not known to be private.
    let shared = house.url() + "&application_name=elsewhere";
    let refused =
        failed(house.command("scheduler", &["worker", "--drain"]).env("DATABASE_URL", &shared), 2);
    assert!(refused.contains("--data-root") && refused.contains("--trust-submitters"), "{refused}");
    for more in [&["--trust-submitters"][..], &["--output-root", "out"]] {
        let mut worker = house.command("scheduler", &["worker", "--drain"]);
        run_ok(worker.args(more).env("DATABASE_URL", &shared));
    }
    run_ok(&mut house.command("scheduler", &["worker", "--drain"]));
    let both = ["worker", "--trust-submitters", "--data-root", "out"];
    assert!(house.fails(2, "scheduler", &both).contains("one or the other"));
    for option in ["--data-root", "--output-root"] {
        let said = house.fails(2, "scheduler", &["worker", option, "nowhere"]);
        assert!(said.contains(option) && said.contains("nowhere: No such file"), "{said}");
    }
    assert!(Path::new(&house.path("out")).is_dir());
}
