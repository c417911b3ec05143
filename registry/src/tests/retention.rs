//! Checkpoints that retire: what is never taken, who may take, and a kill in between.

use serde_json::json;
use uuid::Uuid;

use super::{anything, checkpoint, lease, new_run, no_lease, set_up, worker};
use crate::queue::fence::Fence;
use crate::{
    Attempt, CheckpointKind, CheckpointRecord, Database, JobKind, NewJob, NewSampling, Retention,
    RunRef, WorkerInfo,
};

const NEWEST: Retention = Retention { keep_last: 1, keep_every: 0 };

/// A run of this name that trains, with regular checkpoints at these steps without scores.
async fn training(db: &Database, me: &WorkerInfo, name: &str, steps: &[i64]) -> Fence {
    db.create_run(new_run(name)).await.unwrap();
    let fence = db.claim(me, &anything(), &no_lease()).await.unwrap().unwrap().fence;
    record(db, fence, steps).await;
    fence
}

async fn record(db: &Database, fence: Fence, steps: &[i64]) {
    for &step in steps {
        db.record_checkpoint(fence, fence.job, &checkpoint(step, f64::NAN)).await.unwrap();
    }
}

async fn retire(db: &Database, fence: Fence, retention: Retention) -> Vec<i64> {
    let retiring = db.retire_checkpoints(fence, fence.job, &retention).await.unwrap();
    retiring.iter().map(|checkpoint| checkpoint.step).collect()
}

async fn kept(db: &Database, run: Uuid) -> Vec<i64> {
    db.checkpoints(run).await.unwrap().iter().map(|checkpoint| checkpoint.step).collect()
}

/// A sampling as `sampler submit` writes it: the checkpoint stands in the payload.
fn sampling(run: Uuid, at: &str) -> NewSampling {
    NewSampling {
        run_id: Some(run),
        step: None,
        dataset_uri: "/data".into(),
        task: "colorization".into(),
        output_uri: format!("/out/{run}/{at}"),
        shares: 0,
        job: NewJob::new(JobKind::Sample, "samples", json!({"run": format!("{run}@{at}")})),
    }
}

#[test]
fn what_retires_is_not_seen_and_what_stays_stays() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let fence = training(&db, &me, "demo", &[0, 10, 20, 30, 40, 50, 60]).await;
        let run = fence.job;
        db.record_checkpoint(fence, run, &checkpoint(20, 0.1)).await.unwrap();
        db.record_checkpoint(fence, run, &checkpoint(30, 0.2)).await.unwrap();
        let last = CheckpointRecord { kind: CheckpointKind::Final, ..checkpoint(35, 0.9) };
        db.record_checkpoint(fence, run, &last).await.unwrap();

        let all = Retention { keep_last: 0, keep_every: 0 };
        assert_eq!(retire(&db, fence, all).await, [0; 0]);
        let many = Retention { keep_last: 5, keep_every: 0 };
        assert_eq!(retire(&db, fence, many).await, [10], "0 is the first, 20 the best");
        let some = Retention { keep_last: 2, keep_every: 40 };
        assert_eq!(retire(&db, fence, some).await, [10, 30]);
        assert_eq!(kept(&db, run).await, [0, 20, 35, 40, 50, 60]);
        assert_eq!(retire(&db, fence, NEWEST).await, [10, 30, 40, 50]);
        assert_eq!(kept(&db, run).await, [0, 20, 35, 60]);

        let at = async |text: &str| {
            let reference: RunRef = format!("demo@{text}").parse().unwrap();
            db.checkpoint(&reference).await.map(|(_, checkpoint)| checkpoint.step)
        };
        assert_eq!(at("best").await.unwrap(), 20);
        assert_eq!(at("latest").await.unwrap(), 60);
        let hidden = at("30").await.unwrap_err().to_string();
        assert!(hidden.contains("has no checkpoint demo@30"), "{hidden}");
        assert_eq!(db.latest_checkpoint(run).await.unwrap().unwrap().step, 60);

        // What keeps all forgets nothing that a process before has begun to remove.
        assert_eq!(retire(&db, fence, all).await, [10, 30, 40, 50]);
        // A better one takes the place of the best.
        db.record_checkpoint(fence, run, &checkpoint(70, 0.05)).await.unwrap();
        assert_eq!(retire(&db, fence, NEWEST).await, [10, 20, 30, 40, 50, 60]);
        assert_eq!(at("best").await.unwrap(), 70);
    });
}

#[test]
fn a_removal_that_was_killed_is_finished_by_the_next_attempt_and_only_by_that() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let first = training(&db, &me, "killed", &[10, 20, 30]).await;
        let run = first.job;
        assert_eq!(retire(&db, first, NEWEST).await, [10, 20]);
        db.checkpoint_gone(first, run, 10).await.unwrap();
        // Killed here, with the files of 20 half removed.
        db.reclaim(&lease(), &[]).await.unwrap();
        let stale = db.retire_checkpoints(first, run, &NEWEST).await.map(|_| ());
        assert!(stale.unwrap_err().is_stale());
        assert!(db.checkpoint_gone(first, run, 20).await.unwrap_err().is_stale());

        let second = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        assert_eq!(db.latest_checkpoint(run).await.unwrap().unwrap().step, 30);
        assert_eq!(retire(&db, second, NEWEST).await, [20]);
        // Sent twice, as after a lost answer; a kept one is not forgotten.
        for step in [20, 20, 30] {
            db.checkpoint_gone(second, run, step).await.unwrap();
        }
        assert_eq!(retire(&db, second, NEWEST).await, [0; 0]);
        assert_eq!(kept(&db, run).await, [30]);

        // Written again it is kept again, whatever was said of the one before.
        record(&db, second, &[40]).await;
        assert_eq!(retire(&db, second, NEWEST).await, [30]);
        record(&db, second, &[30]).await;
        db.checkpoint_gone(second, run, 30).await.unwrap();
        assert_eq!(kept(&db, run).await, [30, 40]);
    });
}

#[test]
fn what_an_unfinished_sampling_draws_with_stays_until_it_has_ended() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let fence = training(&db, &me, "drawn", &[10, 20, 30]).await;
        let run = fence.job;
        let named = db.submit_sampling(sampling(run, "10")).await.unwrap().job;
        let early = db.submit_sampling(sampling(run, "40")).await.unwrap().job;
        let explicit = NewSampling { step: Some(20), ..sampling(run, "latest") };
        let explicit = db.submit_sampling(explicit).await.unwrap().job;
        assert_eq!(retire(&db, fence, NEWEST).await, [0; 0]);
        db.pause(named.id).await.unwrap();
        record(&db, fence, &[40, 50]).await;
        assert_eq!(retire(&db, fence, NEWEST).await, [30], "paused, named before it was there");
        for job in [named.id, explicit.id, early.id] {
            db.cancel(job).await.unwrap();
        }
        assert_eq!(retire(&db, fence, NEWEST).await, [10, 20, 30, 40]);

        let late = db.submit_sampling(sampling(run, "30")).await.unwrap_err().to_string();
        let said = "/runs/x/step-30 is being removed to make room: \
                    choose another checkpoint of the run";
        assert_eq!(late, said);
        assert_eq!(db.samplings(run).await.unwrap().len(), 3, "nothing was queued");
    });
}

#[test]
fn what_a_sampling_has_chosen_by_a_moving_name_stays_too() {
    let (cluster, runtime, db) = set_up();
    let (fence, claimed) = runtime.block_on(async {
        let me = worker(&db).await;
        let fence = training(&db, &me, "moving", &[10, 20]).await;
        db.submit_sampling(sampling(fence.job, "latest")).await.unwrap();
        assert_eq!(retire(&db, fence, NEWEST).await, [10]);
        (fence, db.claim(&me, &anything(), &lease()).await.unwrap().unwrap())
    });
    let run = fence.job;
    let own = crate::database::runtime().unwrap();
    let theirs = own.block_on(cluster.open());
    let job = claimed.job.clone();
    let attempt = Attempt::start(own, &cluster.home(), theirs, job, lease(), None).unwrap();
    let reference: RunRef = format!("{run}@latest").parse().unwrap();
    let chosen = || attempt.checkpoint_of(claimed.job.id, &reference).unwrap().1.step;
    assert_eq!(chosen(), 20);
    runtime.block_on(async {
        record(&db, fence, &[30, 40]).await;
        assert_eq!(retire(&db, fence, NEWEST).await, [10, 30], "it draws with 20");
    });
    // Whoever asks for the same job later, as another attempt or a share does, draws with the same.
    assert_eq!(chosen(), 20);
    runtime.block_on(async {
        record(&db, fence, &[50]).await;
        assert_eq!(retire(&db, fence, NEWEST).await, [10, 30, 40]);
    });
}

#[test]
fn a_training_attempt_retires_and_forgets() {
    let (cluster, runtime, db) = set_up();
    let claimed = runtime.block_on(async {
        let me = worker(&db).await;
        db.create_run(new_run("child")).await.unwrap();
        db.claim(&me, &anything(), &lease()).await.unwrap().unwrap()
    });
    let own = crate::database::runtime().unwrap();
    let theirs = own.block_on(cluster.open());
    let job = claimed.job.clone();
    let attempt = Attempt::start(own, &cluster.home(), theirs, job, lease(), None).unwrap();
    for step in [10, 20] {
        attempt.checkpoint(&checkpoint(step, 1.0)).unwrap();
    }
    let retiring = attempt.retire_checkpoints(&NEWEST).unwrap();
    assert_eq!(retiring.len(), 1);
    assert_eq!(retiring[0].uri, "/runs/x/step-10");
    attempt.checkpoint_gone(10).unwrap();
    assert_eq!(attempt.retire_checkpoints(&NEWEST).unwrap().len(), 0);
    assert_eq!(attempt.resume_point().unwrap().unwrap().step, 20);
}

#[test]
fn of_a_submission_and_a_retirement_at_the_same_moment_one_gives_way() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let fence = training(&db, &me, "race", &[1]).await;
        let run = fence.job;
        let mut refused = 0;
        for step in 1..=60 {
            record(&db, fence, &[step + 1]).await;
            let other = db.clone();
            let submitting = tokio::spawn(async move {
                other.submit_sampling(sampling(run, &step.to_string())).await
            });
            let retiring = retire(&db, fence, NEWEST).await;
            let submitted = submitting.await.unwrap();
            let retires = retiring.contains(&step);
            assert_eq!(retires, submitted.is_err(), "step {step}");
            assert_eq!(kept(&db, run).await.contains(&step), submitted.is_ok(), "step {step}");
            refused += u32::from(retires);
        }
        println!("refused {refused} of 60 submissions");
    });
}

#[test]
fn a_retirement_waits_for_a_submission_that_has_not_ended() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let fence = training(&db, &me, "waits", &[10, 20]).await;
        let run = fence.job;
        let job = db.submit_sampling(sampling(run, "latest")).await.unwrap().job;
        // As a choice or submission does: the run's row, then the name.
        let mut tx = db.pool.begin().await.unwrap();
        sqlx::query("select from runs where id = $1 for key share")
            .bind(run)
            .execute(&mut *tx)
            .await
            .unwrap();
        let other = db.clone();
        let retiring = tokio::spawn(async move { retire(&other, fence, NEWEST).await });
        let waiting = async || -> bool {
            sqlx::query_scalar("select exists (select from pg_locks where not granted)")
                .fetch_one(&db.pool)
                .await
                .unwrap()
        };
        while !waiting().await {
            assert!(!retiring.is_finished(), "it did not wait");
        }
        sqlx::query("update samplings set step = 10 where job_id = $1")
            .bind(job.id)
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(retiring.await.unwrap(), [0; 0]);
    });
}
