//! Working folders, caches, files without a row, and points that are hidden.

use super::*;

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
        let (other, other_folder) = make("other-home", true).await;
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
