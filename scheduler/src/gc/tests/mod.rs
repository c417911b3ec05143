//! Reclaiming space: what goes, what stays, and who is at work at the same moment.

#[path = "../../../../registry/src/tests/house.rs"]
mod house;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use home::Home;
use registry::{
    CheckpointKind, CheckpointRecord, Database, Ended, Fence, JobKind, JobState, NewJob, NewRun,
    NewSampling, Outcome, WorkerInfo,
};
use serde_json::json;
use uuid::Uuid;

use house::{Cluster, anything, job, lease, new_run, points, set_up, worker};

use crate::gc::{self, Class, Fate, Policy};

const DAY: Duration = Duration::from_secs(86_400);

/// A house in which runs are made and end.
struct Laboratory {
    db: Database,
    home: Home,
    me: WorkerInfo,
    /// For what no program does: other times, and what rows say.
    pool: sqlx::PgPool,
}

impl Laboratory {
    async fn new(cluster: &Cluster, db: &Database) -> Self {
        let home = cluster.home();
        // The server's user owns the home; the runs are ours.
        fs::create_dir_all(home.runs()).unwrap();
        let pool = sqlx::PgPool::connect(db.url()).await.unwrap();
        Self { db: db.clone(), home, me: worker(db).await, pool }
    }

    /// A run that is being made, with its checkpoints under the home.
    async fn begin(&self, name: &str) -> Fence {
        let under = Some(self.home.runs().to_string_lossy().into_owned());
        self.db.create_run(NewRun { uri: None, under, ..new_run(name) }).await.unwrap();
        self.db.claim(&self.me, &anything(), &lease()).await.unwrap().unwrap().fence
    }

    async fn write(&self, fence: Fence, step: i64, kind: CheckpointKind, loss: f64) {
        let run = self.db.run(fence.job).await.unwrap();
        let folder = format!("{}/step-{step:08}", run.uri);
        write_folder(Path::new(&folder));
        let metrics = BTreeMap::from([("loss".to_owned(), loss)]);
        let digest = "d".into();
        let record = CheckpointRecord { step, kind, uri: folder, bytes: 100, digest, metrics };
        self.db.record_checkpoint(fence, run.id, &record).await.unwrap();
    }

    async fn end(&self, fence: Fence, outcome: Outcome) {
        let ended = Ended { again: false, ..Ended::new(outcome, None) };
        self.db.finish(fence, &ended, &lease()).await.unwrap();
    }

    /// A run with regular checkpoints at these steps, scored by none, that ended so.
    async fn ended(&self, name: &str, steps: &[i64], outcome: Outcome) -> Uuid {
        let fence = self.begin(name).await;
        for &step in steps {
            self.write(fence, step, CheckpointKind::Regular, f64::NAN).await;
        }
        self.end(fence, outcome).await;
        fence.job
    }

    /// Lets a job have ended so many days ago.
    async fn age(&self, job: Uuid, days: i32) {
        sqlx::query("update jobs set ended_at = now() - make_interval(days => $2) where id = $1")
            .bind(job)
            .bind(days)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    async fn kept(&self, run: Uuid) -> Vec<i64> {
        self.db.checkpoints(run).await.unwrap().iter().map(|checkpoint| checkpoint.step).collect()
    }

    /// Steps whose folders lie complete on disk, by step; fails where one is incomplete.
    async fn on_disk(&self, run: Uuid) -> Vec<i64> {
        let uri = self.db.run(run).await.unwrap().uri;
        let mut steps = Vec::new();
        for entry in fs::read_dir(uri).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            assert!(entry.path().join("model").is_file(), "{name}");
            assert!(entry.path().join("state.json").is_file(), "{name}");
            steps.push(name.strip_prefix("step-").unwrap().parse().unwrap());
        }
        steps.sort_unstable();
        steps
    }

    async fn marked(&self) -> i64 {
        sqlx::query_scalar("select count(*) from checkpoints where state = 'retiring'")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Plans and carries out; gives what became of what.
    async fn reclaim(&self, policy: &Policy) -> Vec<(String, Fate)> {
        let plan = gc::plan(&self.db, &self.home, policy).await.unwrap();
        let mut fates = Vec::new();
        gc::run(&self.db, &plan, |item, fate| fates.push((item.what.clone(), fate.clone())))
            .await
            .unwrap();
        fates
    }

    /// Carries out what must succeed and gives what is gone.
    async fn gone(&self, policy: &Policy) -> Vec<String> {
        let fates = self.reclaim(policy).await;
        assert!(fates.iter().all(|(_, fate)| *fate == Fate::Gone), "{fates:?}");
        fates.into_iter().map(|(what, _)| what).collect()
    }
}

fn write_folder(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for file in ["model", "state.json"] {
        fs::write(folder.join(file), [b'x'; 100]).unwrap();
    }
}

fn keep(rule: &str) -> Policy {
    Policy { checkpoints: Some(rule.parse().unwrap()), ..Policy::default() }
}

fn failed_runs() -> Policy {
    Policy { failed_runs: true, ..Policy::default() }
}

fn older(policy: Policy, age: &str) -> Policy {
    Policy { older_than: Some(age.parse().unwrap()), ..policy }
}

fn sampling(run: Uuid, at: &str) -> NewSampling {
    NewSampling {
        run_id: Some(run),
        step: None,
        dataset_uri: "/data".into(),
        task: "colorization".into(),
        output_uri: "/out".into(),
        shares: 0,
        job: NewJob::new(JobKind::Sample, "samples", json!({"run": format!("{run}@{at}")})),
    }
}

/// Makes everything in a folder look so old.
fn make_old(path: &Path, age: Duration) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            make_old(&entry.unwrap().path(), age);
        }
    }
    fs::File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn of_an_ended_run_stays_what_the_rule_says_and_what_is_needed() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let fence = lab.begin("demo").await;
        let run = fence.job;
        for step in [0, 10, 20, 30, 40, 50, 60, 70] {
            let loss = if step == 20 { 0.1 } else { 0.5 };
            lab.write(fence, step, CheckpointKind::Regular, loss).await;
        }
        lab.write(fence, 80, CheckpointKind::Final, 0.5).await;
        assert_eq!(lab.gone(&keep("keep-last=1")).await, [""; 0], "it runs");
        lab.end(fence, Outcome::Succeeded).await;
        let names = lab.db.submit_sampling(sampling(run, "30")).await.unwrap().job;

        assert_eq!(lab.gone(&Policy::default()).await, [""; 0], "nothing is named");
        assert_eq!(lab.gone(&failed_runs()).await, [""; 0], "it succeeded");
        assert_eq!(lab.gone(&older(keep("keep-last=1"), "1d")).await, [""; 0], "it has just ended");
        let policy = keep("keep-last=2,keep-every=50");
        let plan = gc::plan(&lab.db, &lab.home, &policy).await.unwrap();
        let total = gc::totals(&plan.items);
        assert_eq!(total, [gc::Total { class: Class::Checkpoints, count: 3, bytes: 300 }]);
        assert_eq!(plan.items[0].why, "not in keep-last=2,keep-every=50");
        assert_eq!(lab.on_disk(run).await.len(), 9, "a plan changes nothing");
        assert_eq!(lab.marked().await, 0);

        let short = registry::short(&run);
        let gone = [10, 40, 60].map(|step| format!("run {short} step {step}"));
        assert_eq!(lab.gone(&policy).await, gone);
        let stay = [0, 20, 30, 50, 70, 80];
        assert_eq!((lab.kept(run).await, lab.on_disk(run).await), (stay.into(), stay.into()));
        assert_eq!(lab.gone(&policy).await, [""; 0], "again there is nothing");
        lab.db.cancel(names.id).await.unwrap();
        lab.age(run, 31).await;
        assert_eq!(lab.gone(&older(policy, "30d")).await, [format!("run {short} step 30")]);
    });
}

#[test]
fn a_failed_run_loses_all_but_what_unfinished_samplings_need() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let [named, awaited, plain, cancelled] = ["named", "awaited", "plain", "cancelled"];
        let named = lab.ended(named, &[10, 20, 30], Outcome::Failed).await;
        let plain = lab.ended(plain, &[10, 20, 30], Outcome::Failed).await;
        let good = lab.ended("good", &[10, 20, 30], Outcome::Succeeded).await;
        let fence = lab.begin(awaited).await;
        for (step, loss) in [(10, 0.1), (20, 0.2), (30, 0.3)] {
            lab.write(fence, step, CheckpointKind::Regular, loss).await;
        }
        lab.end(fence, Outcome::Failed).await;
        let fence_of_cancelled = lab.begin(cancelled).await;
        lab.write(fence_of_cancelled, 5, CheckpointKind::Final, 0.1).await;
        lab.db.cancel(fence_of_cancelled.job).await.unwrap();
        lab.end(fence_of_cancelled, Outcome::Stopped).await;
        let awaited = fence.job;
        lab.db.submit_sampling(sampling(named, "20")).await.unwrap();
        lab.db.submit_sampling(sampling(awaited, "best")).await.unwrap();
        lab.age(plain, 5).await;

        assert_eq!(lab.gone(&older(failed_runs(), "4d")).await.len(), 3);
        assert_eq!(lab.kept(plain).await, [0; 0]);
        assert_eq!(lab.gone(&failed_runs()).await.len(), 4);
        for (run, stay) in [
            (named, vec![20]),
            (awaited, vec![10, 30]),
            (plain, vec![]),
            (good, vec![10, 20, 30]),
            (fence_of_cancelled.job, vec![]),
        ] {
            assert_eq!((lab.kept(run).await, lab.on_disk(run).await), (stay.clone(), stay));
        }
        assert_eq!(lab.db.runs(registry::RunFilter::default()).await.unwrap().len(), 5, "all stay");
    });
}

#[test]
fn a_removal_that_was_begun_is_finished_unless_its_run_runs() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let run = lab.ended("killed", &[10, 20, 30], Outcome::Failed).await;
        sqlx::query("update checkpoints set state = 'retiring' where step in (10, 20)")
            .execute(&lab.pool)
            .await
            .unwrap();
        // Killed between the files and the row, and between the hiding and the removal.
        let uri = PathBuf::from(lab.db.run(run).await.unwrap().uri);
        fs::remove_dir_all(uri.join("step-00000010")).unwrap();
        fs::rename(uri.join("step-00000020"), uri.join(".step-00000020.removed")).unwrap();

        lab.db.retry(run).await.unwrap();
        let fence = lab.db.claim(&lab.me, &anything(), &lease()).await.unwrap().unwrap().fence;
        assert_eq!(lab.gone(&failed_runs()).await, [""; 0]);
        assert_eq!(lab.marked().await, 2, "the attempt does it itself");
        lab.end(fence, Outcome::Succeeded).await;
        let short = registry::short(&run);
        let gone = [10, 20].map(|step| format!("run {short} step {step}"));
        assert_eq!(lab.gone(&Policy::default()).await, gone);
        assert_eq!((lab.kept(run).await, lab.on_disk(run).await), (vec![30], vec![30]));
        assert_eq!(lab.marked().await, 0);
    });
}

#[test]
fn a_removal_that_fails_stops_nothing_and_is_tried_again() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let run = lab.ended("stuck", &[10, 20, 30], Outcome::Failed).await;
        let uri = PathBuf::from(lab.db.run(run).await.unwrap().uri);
        let strange = uri.join("step-00000020/mine");
        fs::create_dir(&strange).unwrap();
        let fates = lab.reclaim(&failed_runs()).await;
        let Fate::Failed(why) = &fates[1].1 else { panic!("{fates:?}") };
        assert!(why.ends_with("is no folder of plain files, so it is not removed"), "{why}");
        assert_eq!((&fates[0].1, &fates[2].1), (&Fate::Gone, &Fate::Gone));
        assert_eq!((lab.marked().await, lab.on_disk(run).await), (1, vec![20]));
        fs::remove_dir(strange).unwrap();
        assert_eq!(lab.gone(&Policy::default()).await.len(), 1);
        assert_eq!((lab.marked().await, lab.on_disk(run).await), (0, vec![]));
    });
}

#[test]
fn what_lies_on_another_host_is_left_to_it() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let run = lab.ended("far", &[10, 20], Outcome::Failed).await;
        for query in [
            "update attempts set host = 'elsewhere'",
            "update checkpoints set uri = '/nowhere/step-10' where step = 10",
        ] {
            sqlx::query(query).execute(&lab.pool).await.unwrap();
        }
        let plan = gc::plan(&lab.db, &lab.home, &failed_runs()).await.unwrap();
        assert_eq!(plan.notes, ["checkpoints on host elsewhere: 1; reclaim them there"]);
        // Where hosts share the home, each of them may.
        assert_eq!(
            lab.gone(&failed_runs()).await,
            [format!("run {} step 20", registry::short(&run))]
        );
        assert_eq!(lab.kept(run).await, [10]);
    });
}

#[test]
fn a_job_that_is_held_cannot_begin_and_one_that_runs_cannot_be_held() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let run = lab.ended("held", &[10], Outcome::Failed).await;
        lab.db.retry(run).await.unwrap();
        let idle = lab.db.idle(run).await.unwrap().unwrap();
        assert_eq!(idle.state, JobState::Queued);
        let claim = async || lab.db.claim(&lab.me, &anything(), &lease()).await.unwrap();
        assert!(claim().await.is_none(), "workers pass over it");
        let other = lab.db.submit(job("other")).await.unwrap().job;
        assert_eq!(claim().await.unwrap().job.id, other.id, "and take the next");
        // Dropped, it would end a moment later, and the claim might still pass over the job.
        idle.roll_back().await.unwrap();
        assert_eq!(claim().await.unwrap().job.id, run);
        assert!(lab.db.idle(run).await.unwrap().is_none());
        let plan = gc::plan(&lab.db, &lab.home, &failed_runs()).await.unwrap();
        assert!(plan.items.is_empty(), "{plan:?}");
    });
}

#[test]
fn of_a_retry_and_a_removal_at_the_same_moment_neither_harms_the_other() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let run = lab.ended("race", &[1, 2, 3], Outcome::Failed).await;
        let (mut whole, mut cut) = (0, 0);
        for round in 0..30 {
            let (db, me) = (lab.db.clone(), lab.me.clone());
            let retrying = tokio::spawn(async move {
                // Begins now before, now after the first removals.
                for _ in 0..round % 6 {
                    db.job(run).await.unwrap();
                }
                db.retry(run).await.unwrap();
                loop {
                    if let Some(claimed) = db.claim(&me, &anything(), &lease()).await.unwrap() {
                        return claimed.fence;
                    }
                }
            });
            lab.reclaim(&failed_runs()).await;
            let fence = retrying.await.unwrap();
            let kept = lab.kept(run).await;
            whole += u32::from(kept.len() == 3);
            cut += u32::from(lab.marked().await > 0);
            // What the attempt may go on from lies there, and what it writes again stays.
            let disk = lab.on_disk(run).await;
            assert!(kept.iter().all(|step| disk.contains(step)), "{kept:?} of {disk:?}");
            for step in 1..=3 {
                lab.write(fence, step, CheckpointKind::Regular, f64::NAN).await;
            }
            lab.reclaim(&failed_runs()).await;
            assert_eq!(
                (lab.kept(run).await, lab.on_disk(run).await),
                (vec![1, 2, 3], vec![1, 2, 3])
            );
            lab.end(fence, Outcome::Failed).await;
        }
        println!("of 30 retries {whole} came first, {cut} in between");
    });
}

#[test]
fn of_a_submission_and_a_removal_at_the_same_moment_one_gives_way() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let mut refused = 0;
        for round in 0..20 {
            let run = lab.ended(&format!("run {round}"), &[1, 2], Outcome::Failed).await;
            let db = lab.db.clone();
            let submitting = tokio::spawn(async move {
                for _ in 0..round % 5 {
                    db.run(run).await.unwrap();
                }
                db.submit_sampling(sampling(run, "2")).await
            });
            lab.reclaim(&failed_runs()).await;
            let submitted = submitting.await.unwrap();
            let there = lab.on_disk(run).await == [2];
            assert_eq!(lab.kept(run).await == [2], there);
            refused += u32::from(submitted.is_err());
            if let Ok(submitted) = submitted {
                lab.db.cancel(submitted.job.id).await.unwrap();
            }
            assert_eq!(lab.marked().await, 0);
        }
        println!("refused {refused} of 20 submissions");
    });
}

#[test]
fn working_folders_go_and_their_last_lines_stay() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let make = async |name: &str, logged: bool| {
            let job = lab.db.submit(job(name)).await.unwrap().job;
            let fence = lab.db.claim(&lab.me, &anything(), &lease()).await.unwrap().unwrap().fence;
            let folder = lab.home.attempt(&job.short, 1);
            fs::create_dir_all(folder.join("checkpoints")).unwrap();
            fs::write(folder.join("log"), "1234567").unwrap();
            if logged {
                let log = folder.join("log");
                lab.db.note_start(fence, log.to_str().unwrap(), "").await.unwrap();
            }
            let tail = Some("last words".to_owned());
            let ended = Ended {
                log: tail.map(|text| registry::Tail { text, bytes: 0 }),
                ..Ended::new(Outcome::Succeeded, None)
            };
            lab.db.finish(fence, &ended, &lease()).await.unwrap();
            (job, folder)
        };
        let (old, old_folder) = make("old", true).await;
        let (front, front_folder) = make("foreground", false).await;
        let (new, new_folder) = make("new", true).await;
        let (far, far_folder) = make("far", true).await;
        let (other, other_folder) = make("other home", true).await;
        for job in [&old, &front, &far, &other] {
            lab.age(job.id, 9).await;
        }
        sqlx::query("update attempts set host = 'elsewhere' where job_id = $1")
            .bind(far.id)
            .execute(&lab.pool)
            .await
            .unwrap();
        sqlx::query("update attempts set log_path = '/their/log' where job_id = $1")
            .bind(other.id)
            .execute(&lab.pool)
            .await
            .unwrap();
        // Killed after the hiding.
        let hidden = front_folder.with_file_name(".attempt-1.removed");
        fs::rename(&front_folder, &hidden).unwrap();

        let logs = older(Policy { logs: true, ..Policy::default() }, "8d");
        let plan = gc::plan(&lab.db, &lab.home, &logs).await.unwrap();
        assert_eq!(
            gc::totals(&plan.items),
            [gc::Total { class: Class::Logs, count: 2, bytes: 14 }]
        );
        let gone = [&old, &front].map(|job| format!("job {} attempt 1", job.short));
        assert_eq!(lab.gone(&logs).await, gone);
        assert!(!old_folder.parent().unwrap().exists() && !hidden.exists());
        assert!(new_folder.exists() && far_folder.exists() && other_folder.exists());
        let attempt = lab.db.attempts(old.id).await.unwrap().remove(0);
        assert_eq!((attempt.log_path, attempt.log_tail.as_deref()), (None, Some("last words")));
        assert!(lab.db.attempts(new.id).await.unwrap()[0].log_path.is_some());
        assert_eq!(lab.gone(&logs).await, [""; 0]);

        // Killed before the row was written, and a link where a folder should be.
        fs::remove_dir_all(&new_folder).unwrap();
        std::os::unix::fs::symlink(&far_folder, &new_folder).unwrap();
        let all = Policy { logs: true, ..Policy::default() };
        let fates = lab.reclaim(&all).await;
        assert!(matches!(&fates[..], [(_, Fate::Failed(why))] if why.contains("is a link")));
        fs::remove_file(&new_folder).unwrap();
        assert_eq!(lab.gone(&all).await.len(), 1);
        assert!(lab.db.attempts(new.id).await.unwrap()[0].log_path.is_none());
        assert!(far_folder.join("log").exists());
    });
}

#[test]
fn points_that_are_hidden_for_good_go_and_the_series_stays_as_it_was() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let first = lab.begin("hidden").await;
        let run = first.job;
        lab.db.mark_resumed(first, run, 0).await.unwrap();
        lab.db.record_metrics(first, run, &points(1..=9, 0.5)).await.unwrap();
        lab.db.finish(first, &Ended::new(Outcome::Failed, None), &lease()).await.unwrap();
        let second = lab.db.claim(&lab.me, &anything(), &lease()).await.unwrap().unwrap().fence;
        lab.db.mark_resumed(second, run, 4).await.unwrap();
        lab.db.record_metrics(second, run, &points(5..=7, 0.25)).await.unwrap();
        let shown = lab.db.metric_series(run, None).await.unwrap();
        let policy = Policy { metrics: true, ..Policy::default() };
        assert_eq!(lab.gone(&policy).await, [""; 0], "it runs");
        lab.end(second, Outcome::Succeeded).await;

        let plan = gc::plan(&lab.db, &lab.home, &policy).await.unwrap();
        assert_eq!((plan.items[0].count, plan.items.len()), (5, 1), "steps 5 to 9 of the first");
        assert!(plan.items[0].bytes >= 5 * 28, "{plan:?}");
        assert_eq!(lab.gone(&policy).await.len(), 1);
        assert_eq!(lab.db.metric_series(run, None).await.unwrap(), shown);
        let left: i64 =
            sqlx::query_scalar("select count(*) from metrics").fetch_one(&lab.pool).await.unwrap();
        assert_eq!(left, 7);
        assert_eq!(lab.gone(&policy).await, [""; 0]);
    });
}

#[test]
fn of_the_cache_the_least_recently_used_goes_first_and_nothing_that_is_in_use() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let cache = lab.home.checkpoint_cache();
        let name = |n: u32| format!("{n:016x}");
        for (n, days) in [(1, 9), (2, 7), (3, 5), (4, 3), (5, 0)] {
            write_folder(&cache.join(name(n)));
            make_old(&cache.join(name(n)), days * DAY);
        }
        let lock = fs::File::create(cache.join(format!("{}.lock", name(1)))).unwrap();
        lock.lock().unwrap();
        let policy = |age: Option<&str>, size: Option<&str>| Policy {
            cache: true,
            cache_bytes: size.map(|size| size.parse().unwrap()),
            older_than: age.map(|age| age.parse().unwrap()),
            ..Policy::default()
        };
        let copies = |numbers: &[u32]| -> Vec<String> {
            numbers.iter().map(|&n| format!("copy {}", name(n))).collect()
        };
        let plan = gc::plan(&lab.db, &lab.home, &policy(Some("6d"), None)).await.unwrap();
        assert_eq!(plan.notes, [format!("copy {} is being fetched: left alone", name(1))]);
        assert_eq!(lab.gone(&policy(Some("6d"), None)).await, copies(&[2]));
        drop(lock);
        // Of 800 bytes: 200 too many, and then all but what was given out within the hour.
        assert_eq!(lab.gone(&policy(None, Some("600B"))).await, copies(&[1]));
        assert_eq!(lab.gone(&policy(None, Some("600B"))).await, [""; 0]);
        assert_eq!(lab.gone(&policy(Some("8d"), Some("1B"))).await, copies(&[3, 4]));
        let plan = gc::plan(&lab.db, &lab.home, &policy(None, Some("1B"))).await.unwrap();
        assert!(plan.notes[0].ends_with("used within the hour"), "{:?}", plan.notes);
        assert!(cache.join(name(5)).join("state.json").exists());
    });
}

#[test]
fn files_that_no_row_names_go_once_they_are_old_and_their_run_does_not_run() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let run = lab.ended("left", &[10, 20], Outcome::Failed).await;
        let running = lab.begin("running").await;
        lab.write(running, 10, CheckpointKind::Regular, 0.1).await;
        let uri = async |run: Uuid| PathBuf::from(lab.db.run(run).await.unwrap().uri);
        let folder = uri(run).await;
        for name in ["step-00000030", ".step-00000020.partial-77", ".step-00000040.removed"] {
            write_folder(&folder.join(name));
        }
        write_folder(&folder.join("mine"));
        write_folder(&folder.join("previews"));
        fs::write(folder.join("previews/00000010.png.77.part"), "x").unwrap();
        // A writer was killed between two renames: this is all there is of a kept checkpoint.
        fs::rename(folder.join("step-00000010"), folder.join(".step-00000010.replaced")).unwrap();
        write_folder(&uri(running.job).await.join("step-00000020"));
        let strange = lab.home.run("0123abcd");
        write_folder(&strange.join("step-00000010"));
        let outside = lab.home.path().join("outside");
        write_folder(&outside.join("step-00000010"));
        std::os::unix::fs::symlink(&outside, folder.join("step-00000050")).unwrap();

        let policy = Policy { orphans: true, ..Policy::default() };
        assert_eq!(lab.gone(&policy).await, [""; 0], "all is young");
        for path in [&folder.join("previews"), &strange, &uri(running.job).await] {
            make_old(path, 2 * DAY);
        }
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            if !entry.file_type().unwrap().is_symlink() {
                make_old(&entry.path(), 2 * DAY);
            }
        }
        assert_eq!(lab.gone(&older(policy.clone(), "3d")).await, [""; 0]);
        let short = registry::short(&run);
        let names = [
            ".step-00000020.partial-77",
            ".step-00000040.removed",
            "00000010.png.77.part",
            "step-00000030",
        ];
        let plan = gc::plan(&lab.db, &lab.home, &policy).await.unwrap();
        assert!(plan.notes[0].ends_with("of no run of this database: 1; left alone"));
        assert_eq!(lab.gone(&policy).await, names.map(|name| format!("run {short} {name}")));
        assert_eq!(lab.gone(&policy).await, [""; 0]);
        let mut left: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let stay =
            [".step-00000010.replaced", "mine", "previews", "step-00000020", "step-00000050"];
        assert_eq!(left, stay);
        assert!(strange.join("step-00000010/model").exists());
        assert!(outside.join("step-00000010/model").exists());
        assert!(uri(running.job).await.join("step-00000020/model").exists());
    });
}

#[test]
fn only_one_reclaims_at_a_time() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let first = gc::alone(&db).await.unwrap();
        let said = gc::alone(&db).await.unwrap_err().to_string();
        assert!(said.contains("another `scheduler gc` is at work on this database"), "{said}");
        drop(first);
        gc::alone(&db).await.unwrap();
    });
}
