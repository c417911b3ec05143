//! Checkpoints: which stay, and removals that do not come to their end.

use super::*;

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
        // What had once ended well has its end.
        assert_eq!(lab.gone(&failed_runs()).await.len(), 3);
        for (run, stay) in [
            (named, vec![20]),
            (awaited, vec![10, 30]),
            (plain, vec![]),
            (good, vec![10, 20, 30]),
            (fence_of_cancelled.job, vec![5]),
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
        assert!(why.ends_with("is no folder of plain files: not removed"), "{why}");
        assert_eq!((&fates[0].1, &fates[2].1), (&Fate::Gone, &Fate::Gone));
        assert_eq!((lab.marked().await, lab.on_disk(run).await), (1, vec![20]));
        fs::remove_dir(strange).unwrap();
        assert_eq!(lab.gone(&Policy::default()).await.len(), 1);
        assert_eq!((lab.marked().await, lab.on_disk(run).await), (0, vec![]));
    });
}

#[test]
fn what_the_registry_names_falsely_is_left_and_said() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let run = lab.ended("liar", &[10, 20], Outcome::Failed).await;
        let victim = lab.ended("victim", &[10], Outcome::Succeeded).await;
        let victim_uri = lab.db.run(victim).await.unwrap().uri;
        let photographs = lab.home.path().join("photographs");
        fs::create_dir(&photographs).unwrap();
        for file in ["dog.jpg", "state.json"] {
            fs::write(photographs.join(file), "mine").unwrap();
        }
        let name = |uri: String, step: i64| {
            sqlx::query("update checkpoints set uri = $1 where run_id = $2 and step = $3")
                .bind(uri)
                .bind(run)
                .bind(step)
                .execute(&lab.pool)
        };
        name(photographs.display().to_string(), 10).await.unwrap();
        name(format!("{victim_uri}/step-00000010"), 20).await.unwrap();
        let fates = lab.reclaim(&failed_runs()).await;
        for (fate, says) in
            fates.iter().zip(["not where its run keeps this step", "another run has"])
        {
            let Fate::Failed(why) = &fate.1 else { panic!("{fates:?}") };
            assert!(why.contains(says), "{why}");
        }
        assert_eq!((fates.len(), lab.marked().await), (2, 2));
        assert!(photographs.join("dog.jpg").exists());
        assert_eq!(lab.on_disk(victim).await, vec![10]);
    });
}

/// Whoever submits names the folder of a run, and may learn the digest of another's checkpoint.
#[test]
fn nobody_has_a_checkpoint_of_another_run_removed_by_another_name_of_its_folder() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let run = lab.ended("liar", &[10], Outcome::Failed).await;
        let victim = lab.ended("victim", &[10], Outcome::Succeeded).await;
        let uri = PathBuf::from(lab.db.run(victim).await.unwrap().uri);
        let (runs, name) = (uri.parent().unwrap(), uri.file_name().unwrap().to_str().unwrap());
        let link = lab.home.path().join("link");
        std::os::unix::fs::symlink(runs, &link).unwrap();
        let runs = runs.display();
        for alias in [
            format!("{runs}//{name}"),
            format!("{runs}/./{name}"),
            format!("{runs}/../runs/{name}"),
            format!("file://{runs}/{name}"),
            format!("{}/{name}", link.display()),
        ] {
            for query in [
                "update runs set uri = $1 where id = $2",
                "update checkpoints set uri = $1 || '/step-00000010' where run_id = $2",
            ] {
                sqlx::query(query).bind(&alias).bind(run).execute(&lab.pool).await.unwrap();
            }
            let fates = lab.reclaim(&failed_runs()).await;
            let [(_, Fate::Failed(why))] = fates.as_slice() else { panic!("{alias}: {fates:?}") };
            assert!(why.contains("another run has a checkpoint there"), "{alias}: {why}");
            assert_eq!(lab.on_disk(victim).await, vec![10]);
        }
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
