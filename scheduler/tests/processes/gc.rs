//! `scheduler gc` as a user meets it: what it prints, what a kill leaves, who works beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use home::Home;
use registry::{
    Attempt, CheckpointKind, CheckpointRecord, Database, JobState, NewJob, NewRun, Run, Uuid,
    WorkerInfo,
};
use scheduler::gc::{self, Fate, Policy};
use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::{House, s3, text, until};

use crate::database::{job, set_up};

/// A house with a server, and runs that have ended.
struct Laboratory {
    house: House,
    runtime: tokio::runtime::Runtime,
    db: Database,
    pool: PgPool,
    worker: WorkerInfo,
}

impl Laboratory {
    fn new() -> Self {
        let (house, runtime, db) = set_up();
        let worker = WorkerInfo::this_process(None, 1);
        let pool = runtime.block_on(async {
            db.register_worker(&worker).await.unwrap();
            PgPool::connect(&house.url()).await.unwrap()
        });
        fs::create_dir_all(house.path("home/runs")).unwrap();
        Self { house, runtime, db, pool, worker }
    }

    fn home(&self) -> Home {
        Home::at(&self.house.path("home")).unwrap()
    }

    fn run(&self, name: &str, under: &str, job: NewJob) -> Run {
        let new = NewRun {
            name: name.into(),
            experiment: None,
            config: json!({}),
            seed: 1,
            total_steps: 100,
            uri: None,
            under: Some(under.into()),
            best_metric: "loss".into(),
            git_revision: None,
            datasets: vec![],
            fork: None,
            job,
        };
        self.runtime.block_on(self.db.create_run(new)).unwrap().run
    }

    /// A run that ended in this state, with rows of checkpoints; where its place is a folder, files
    /// too, and an attempt with a log.
    fn ended(&self, name: &str, under: &str, state: &str, steps: i64) -> Run {
        let run = self.run(name, under, job(name));
        let log = self.home().attempt(&run.short, 1).join("log");
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        fs::write(&log, "a log").unwrap();
        self.runtime.block_on(async {
            sqlx::query(
                "insert into attempts
                     (job_id, number, worker_id, host, ended_at, outcome, log_path, log_tail, log_bytes)
                 values ($1, 1, $2, $3, now(), 'failed', $4, 'a tail', 6)",
            )
            .bind(run.id)
            .bind(self.worker.id)
            .bind(&self.worker.host)
            .bind(log.to_str().unwrap())
            .execute(&self.pool)
            .await
            .unwrap();
            sqlx::query(
                "update jobs set state = $2::job_state, attempt = 1,
                     ended_at = now() - interval '40 days'
                 where id = $1",
            )
            .bind(run.id)
            .bind(state)
            .execute(&self.pool)
            .await
            .unwrap();
            for step in 1..=steps {
                let uri = format!("{}/step-{step:08}", run.uri);
                if !uri.contains("://") {
                    write_folder(Path::new(&uri));
                }
                sqlx::query(
                    "insert into checkpoints (run_id, step, attempt, kind, uri, bytes, digest)
                     values ($1, $2, 1, 'regular', $3, 100, $4)",
                )
                .bind(run.id)
                .bind(step)
                .bind(&uri)
                .bind(storage::atomic::sha256(uri.as_bytes()))
                .execute(&self.pool)
                .await
                .unwrap();
            }
        });
        run
    }

    fn local(&self, name: &str, state: &str, steps: i64) -> Run {
        let under = self.house.path("home/runs");
        self.ended(name, under.to_str().unwrap(), state, steps)
    }

    fn marked(&self) -> i64 {
        let query = sqlx::query_scalar("select count(*) from checkpoints where state = 'retiring'");
        self.runtime.block_on(query.fetch_one(&self.pool)).unwrap()
    }

    /// The folders that rows name.
    fn named(&self) -> BTreeSet<PathBuf> {
        let query = sqlx::query_scalar("select uri from checkpoints where state = 'kept'");
        let uris: Vec<String> = self.runtime.block_on(query.fetch_all(&self.pool)).unwrap();
        uris.into_iter().map(PathBuf::from).collect()
    }

    /// All that is in the folders of runs, hidden or not.
    fn on_disk(&self) -> BTreeSet<PathBuf> {
        let runs = fs::read_dir(self.house.path("home/runs")).unwrap();
        let steps = runs.flat_map(|run| fs::read_dir(run.unwrap().path()).unwrap());
        steps.map(|step| step.unwrap().path()).collect()
    }

    /// Fails where a kept row is without its files, or a file is without a row.
    fn check(&self) {
        let named = self.named();
        assert_eq!(named, self.on_disk());
        for folder in named {
            assert!(is_whole(&folder), "{}", folder.display());
        }
        assert_eq!(self.marked(), 0);
    }

    /// Every file of the home but the server's, with what is in it.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for part in ["home/runs", "home/jobs"] {
            collect(&self.house.path(part), &mut files);
        }
        files
    }

    /// What the rows say that gc may change.
    fn rows(&self) -> Value {
        let query = sqlx::query_scalar(
            "select jsonb_build_array(
                 (select jsonb_agg(to_jsonb(checkpoints) order by run_id, step) from checkpoints),
                 (select jsonb_agg(to_jsonb(attempts) order by job_id) from attempts),
                 (select jsonb_agg(to_jsonb(jobs) order by id) from jobs))",
        );
        self.runtime.block_on(query.fetch_one(&self.pool)).unwrap()
    }

    fn row(&self, run: Uuid) -> registry::Job {
        self.runtime.block_on(self.db.job(run)).unwrap()
    }
}

fn write_folder(folder: &Path) {
    let hidden = folder.with_file_name(".new");
    fs::create_dir_all(&hidden).unwrap();
    for file in ["ema", "model", "state.json"] {
        fs::write(hidden.join(file), folder.to_str().unwrap()).unwrap();
    }
    fs::rename(&hidden, folder).unwrap();
}

fn is_whole(folder: &Path) -> bool {
    let good = |file: &str| {
        fs::read(folder.join(file)).is_ok_and(|bytes| bytes == folder.to_str().unwrap().as_bytes())
    };
    ["ema", "model", "state.json"].into_iter().all(good)
}

fn collect(at: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => collect(&entry.path(), files),
            false => drop(files.insert(entry.path(), fs::read(entry.path()).unwrap())),
        }
    }
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let lab = Laboratory::new();
    lab.local("good", "succeeded", 5);
    let failed = lab.local("bad", "failed", 3);
    fs::write(
        lab.house.path("policy.toml"),
        "checkpoints = \"keep-last=2\"\nfailed-runs = true\nlogs = true\nolder-than = \"30d\"\n",
    )
    .unwrap();
    let file = lab.house.path("policy.toml");
    let from_file = ["gc", "--policy", file.to_str().unwrap()];
    let (files, rows) = (lab.files(), lab.rows());
    let said = lab.house.ok("scheduler", &[&from_file[..], &["--dry-run"]].concat());
    let json = lab.house.ok("scheduler", &[&from_file[..], &["--dry-run", "--json"]].concat());
    assert_eq!((lab.files(), lab.rows()), (files, rows));
    assert!(
        said.starts_with(
            "policy: checkpoints keep-last=2, failed-runs, logs, older-than 30d\nclass "
        ),
        "{said}"
    );
    assert!(said.contains("checkpoints: 6, 600 B\nlogs: 2, 10 B\n"), "{said}");
    assert!(said.ends_with("610 B would be reclaimed; nothing was changed\n"), "{said}");
    let dry: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(dry["items"].as_array().unwrap().len(), 8);
    assert_eq!(dry["policy"]["older-than"], "30d");

    // The same by options, in all but the last line.
    let options = "gc --checkpoints keep-last=2 --failed-runs --logs --older-than 30d";
    let options: Vec<&str> = options.split(' ').collect();
    let real = lab.house.run("scheduler", &options);
    assert!(real.status.success(), "{}", text(&real.stderr));
    let real_said = text(&real.stdout);
    assert!(text(&real.stderr).starts_with("reclaim: 610 B of 610 B"), "{}", text(&real.stderr));
    assert_eq!(real_said.lines().last(), Some("610 B reclaimed"));
    let but_last = |text: &str| text.trim_end().rsplit_once('\n').unwrap().0.to_owned();
    assert_eq!(but_last(&real_said), but_last(&said));
    lab.check();
    assert!(lab.house.ok("scheduler", &["logs", "bad"]).contains("a tail"));
    assert!(lab.house.ok("scheduler", &["show", "bad"]).contains(&failed.short));

    let again = lab.house.ok("scheduler", &options);
    assert_eq!(again.lines().last(), Some("nothing to reclaim"), "{again}");
    let again: Value =
        serde_json::from_str(&lab.house.ok("scheduler", &[&options[..], &["--json"]].concat()))
            .unwrap();
    assert_eq!((&again["items"], &again["totals"]), (&json!([]), &json!([])));
    let bare = lab.house.ok("scheduler", &["gc"]);
    assert_eq!(bare, "policy: only removals that were begun\nnothing to reclaim\n");
}

#[test]
fn wrong_use_is_status_2_and_a_failed_removal_status_1() {
    let lab = Laboratory::new();
    let file = lab.house.path("policy.toml");
    let file = file.to_str().unwrap();
    fs::write(file, "older_than = \"30d\"\n").unwrap();
    for (arguments, said) in [
        (&["--checkpoints", "keep-last=0"][..], "keep-last=N or keep-last=N,keep-every=K"),
        (&["--older-than", "soon"], "an age is a number and s, m, h, d or w"),
        (&["--cache"], "add older-than or cache-bytes"),
        (&["--cache-bytes", "5GB"], "--cache"),
        (&["--policy", file], "policy.toml, line 1: unknown field `older_than`"),
    ] {
        let output = lab.house.run("scheduler", &[&["gc"], arguments].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
    let missing = lab.house.fails(2, "scheduler", &["gc", "--policy", "/nowhere.toml"]);
    assert!(missing.contains("/nowhere.toml: "), "{missing}");

    let run = lab.local("stuck", "failed", 3);
    let strange = PathBuf::from(format!("{}/step-00000002/mine", run.uri));
    fs::create_dir(&strange).unwrap();
    let output = lab.house.run("scheduler", &["gc", "--failed-runs"]);
    assert_eq!(output.status.code(), Some(1));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(
        stderr.contains("error: 1 of 3 could not be removed; what is marked stays"),
        "{stderr}"
    );
    let line = stdout.lines().find(|line| line.starts_with("not removed: ")).unwrap();
    assert!(line.contains(&format!("run {} step 2", run.short)), "{line}");
    assert!(line.ends_with("is no folder of plain files: not removed"), "{line}");
    assert!(stdout.contains("checkpoints: 2, 200 B\n"), "{stdout}");
    assert_eq!((lab.marked(), lab.on_disk().len()), (1, 1));
    fs::remove_dir(strange).unwrap();
    lab.house.ok("scheduler", &["gc"]);
    lab.check();
}

#[test]
fn however_often_it_is_killed_the_end_is_the_same() {
    let lab = Laboratory::new();
    for number in 0..8 {
        let state = ["succeeded", "failed", "cancelled"][number % 3];
        lab.local(&format!("run-{number}"), state, 12);
    }
    let orphan = lab.on_disk().pop_first().unwrap().with_file_name("step-00000099");
    write_folder(&orphan);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 86_400);
    for path in fs::read_dir(&orphan).unwrap().map(|entry| entry.unwrap().path()) {
        fs::File::open(path).unwrap().set_modified(old).unwrap();
    }
    fs::File::open(&orphan).unwrap().set_modified(old).unwrap();
    let arguments = ["gc", "--checkpoints", "keep-last=2", "--failed-runs", "--logs", "--orphans"];
    let logs = || fs::read_dir(lab.house.path("home/jobs")).unwrap().count();
    let mut kills = 0;
    for round in 0.. {
        let before = lab.on_disk().len() + logs();
        let mut gc = lab.house.start("gc", lab.house.command("scheduler", &arguments));
        // As soon as something is marked, or when one, two, three… are gone.
        let far_enough = || match round % 4 {
            0 => lab.marked() > 0,
            more => before - (lab.on_disk().len() + logs()) >= more,
        };
        let mut ended = false;
        while !ended && !far_enough() {
            ended = gc.ended();
        }
        if ended {
            assert_eq!(gc.end(), Some(0), "{}", gc.said());
            break;
        }
        gc.kill();
        kills += 1;
    }
    println!("killed {kills} times");
    assert!(kills >= 10, "killed {kills} times only");
    lab.check();
    let kept: usize = lab.named().len();
    assert_eq!((kept, logs()), (3 * 2, 0), "two of each run that succeeded");
    assert!(!orphan.exists());
    let again = lab.house.ok("scheduler", &arguments);
    assert_eq!(again.lines().last(), Some("nothing to reclaim"), "{again}");
}

#[test]
fn a_second_one_at_the_same_time_says_so_and_does_nothing() {
    let lab = Laboratory::new();
    lab.local("bad", "failed", 2);
    let first = lab.runtime.block_on(gc::alone(&lab.db)).unwrap();
    let said = lab.house.fails(1, "scheduler", &["gc", "--failed-runs"]);
    assert!(said.contains("another `scheduler gc` is at work on this database"), "{said}");
    assert_eq!((lab.marked(), lab.on_disk().len()), (0, 2));
    assert!(
        lab.house.ok("scheduler", &["gc", "--failed-runs", "--dry-run"]).contains("checkpoints: 2")
    );
    drop(first);
    // Several at once: those that come too late say so, and the end is the same.
    let start = || {
        let mut command = lab.house.command("scheduler", &["gc", "--failed-runs"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let all = [start(), start(), start()].map(|child| child.wait_with_output().unwrap());
    assert!(all.iter().any(|output| output.status.success()));
    for output in &all {
        let said = text(&output.stderr);
        assert!(output.status.success() || said.contains("another `scheduler gc`"), "{said}");
    }
    lab.check();
}

/// Not a test: the trainer of the test below. Goes on from the newest checkpoint, whose folder must
/// be whole, writes three more, and fails.
#[test]
fn act_as_trainer() {
    let Some(attempt) = Attempt::from_env().unwrap() else { return };
    let house = PathBuf::from(std::env::var("HOUSE").unwrap());
    let run = attempt.run().unwrap();
    let from = attempt.resume_point().unwrap();
    if from.as_ref().is_some_and(|checkpoint| !is_whole(Path::new(&checkpoint.uri))) {
        fs::write(house.join("not-whole"), format!("{from:?}")).unwrap();
    }
    let from = from.map_or(0, |checkpoint| checkpoint.step);
    attempt.resumed_at(from).unwrap();
    for step in from + 1..=from + 3 {
        let uri = format!("{}/step-{step:08}", run.uri);
        let _ = fs::remove_dir_all(&uri);
        write_folder(Path::new(&uri));
        let record = CheckpointRecord {
            step,
            kind: CheckpointKind::Regular,
            digest: storage::atomic::sha256(uri.as_bytes()),
            uri,
            bytes: 100,
            metrics: [].into(),
        };
        attempt.checkpoint(&record).unwrap();
    }
    drop(attempt);
    std::process::exit(1);
}

#[test]
fn a_worker_that_takes_a_retried_run_meanwhile_is_not_harmed() {
    const TRIES: i32 = 12;
    let lab = Laboratory::new();
    let myself = std::env::current_exe().unwrap();
    lab.house.script(
        "trainer",
        &format!("export HOUSE; exec '{}' --exact gc::act_as_trainer", myself.display()),
    );
    let under = lab.house.path("home/runs");
    let job = NewJob { max_attempts: 1, ..job("again") };
    let run = lab.run("again", under.to_str().unwrap(), job);
    let _worker = lab.house.worker("report", &[]);
    let policy = Policy { failed_runs: true, ..Policy::default() };
    let (mut gone, mut left) = (0, 0);
    for attempt in 1..=TRIES {
        // The worker wakes at the retry; gc looks at the run before, at the same time, and after.
        until("the attempt has ended", || {
            lab.runtime.block_on(async {
                let plan = gc::plan(&lab.db, &lab.home(), &policy).await.unwrap();
                let row = lab.db.job(run.id).await.unwrap();
                if row.state == JobState::Failed && row.attempt < attempt {
                    lab.db.retry(run.id).await.unwrap();
                }
                gc::run(&lab.db, &plan, |item, fate| match fate {
                    Fate::Gone => gone += 1,
                    Fate::Left(_) => left += 1,
                    Fate::Failed(why) => panic!("{}: {why}", item.what),
                })
                .await
                .unwrap();
            });
            let row = lab.row(run.id);
            row.attempt >= attempt && row.state == JobState::Failed
        });
    }
    println!("{gone} checkpoints removed, {left} left because their run was retried");
    assert!(!lab.house.path("not-whole").exists(), "{}", lab.house.read("not-whole"));
    assert!(gone > 0, "{}", lab.house.read("report"));
    lab.house.ok("scheduler", &["gc"]);
    lab.check();
}

#[test]
fn checkpoints_in_an_object_store_go_too() {
    let Some(server) = s3::Server::start() else { return };
    let lab = Laboratory::new();
    let run = lab.ended("afar", "s3://laboratory/runs", "succeeded", 3);
    for step in 1..=3 {
        for file in ["model", "state.json"] {
            let folder = format!("runs/{}/step-{step:08}", run.short);
            server.script(&format!(
                "store.put_object(Bucket='laboratory', Key='{folder}/{file}', Body=b's3://laboratory/{folder}')"
            ));
        }
    }
    let gc = |arguments: &[&str]| {
        let mut command = lab.house.command("scheduler", &[&["gc"], arguments].concat());
        server.with(&mut command).output().unwrap()
    };
    let keys = || server.names("");
    let dry = gc(&["--checkpoints", "keep-last=1", "--dry-run"]);
    assert!(text(&dry.stdout).contains("checkpoints: 2, 200 B"), "{}", text(&dry.stderr));
    assert_eq!(keys().len(), 6);
    // Without a way to the store nothing is lost but time.
    let mut lost = lab.house.command("scheduler", &["gc", "--checkpoints", "keep-last=1"]);
    let lost = server.with(&mut lost).env("AWS_ALLOW_HTTP", "false").output().unwrap();
    assert_eq!(lost.status.code(), Some(1), "{}", text(&lost.stderr));
    assert_eq!((lab.marked(), keys().len()), (2, 6));

    let real = gc(&[]);
    assert!(real.status.success(), "{}", text(&real.stderr));
    assert!(text(&real.stdout).contains("checkpoints: 2, 200 B"), "{}", text(&real.stdout));
    let step = format!("runs/{}/step-00000003", run.short);
    assert_eq!(keys(), [format!("{step}/model"), format!("{step}/state.json")]);
    assert_eq!(lab.marked(), 0);
}
