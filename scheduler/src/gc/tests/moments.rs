//! Who is at work at the same moment: jobs, submissions, another reclaim.

use super::*;

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
            let run = lab.ended(&format!("run-{round}"), &[1, 2], Outcome::Failed).await;
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
