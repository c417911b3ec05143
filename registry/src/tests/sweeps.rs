//! Sweeps, preemption, ends by force, priorities.

use std::time::Duration;

use serde_json::json;

use super::{anything, job, lease, new_run, set_up, with_cluster, worker};
use crate::queue::attempts::Ended;
use crate::queue::preempt::Free;
use crate::{JobState, NewJob, NewSweep, Outcome, StopRequest, WorkerInfo};

fn sweep(name: &str, points: i32, at_most: Option<i32>) -> NewSweep {
    NewSweep {
        name: name.into(),
        owner: "ann".into(),
        submit_key: Some(name.into()),
        at_most,
        runs: (0..points).map(|n| (new_run(&format!("{name}-{n}")), json!({"lr": n}))).collect(),
    }
}

#[test]
fn a_sweep_is_submitted_once_and_claimed_in_its_order() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let me = worker(&db).await;
        let made = db.submit_sweep(sweep("grid", 5, None)).await.unwrap();
        let again = db.submit_sweep(sweep("grid", 5, None)).await.unwrap();
        assert!(!made.existed && again.existed);
        assert_eq!(made.sweep.id, again.sweep.id);
        assert_eq!(again.runs.len(), 5);
        for n in 0..5 {
            let job = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().job;
            assert_eq!(job.name, format!("grid-{n}"));
            assert_eq!(job.sweep_point, Some(json!({"lr": n})));
        }
        let row = db.find_sweep("grid").await.unwrap();
        assert_eq!((row.jobs, row.running, row.queued), (5, 5, 0));
        assert!(db.submit_sweep(sweep("none", 0, None)).await.is_err());
        assert!(db.submit_sweep(sweep("zero", 1, Some(0))).await.is_err());
    });
}

#[test]
fn workers_that_claim_at_once_never_pass_the_limit_of_a_sweep() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let made = db.submit_sweep(sweep("limited", 24, Some(3))).await.unwrap().sweep;
        db.submit(job("beside")).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let cluster = std::sync::Arc::clone(&cluster);
            tasks.spawn(async move {
                let db = cluster.open().await;
                let me = worker(&db).await;
                let mut fences = Vec::new();
                while let Some(claimed) = db.claim(&me, &anything(), &lease()).await.unwrap() {
                    fences.push(claimed.fence);
                }
                fences
            });
        }
        let mut held = Vec::new();
        while let Some(fences) = tasks.join_next().await {
            held.extend(fences.unwrap());
        }
        // Three of the sweep, and what stands beside it is not kept waiting.
        assert_eq!(held.len(), 4);
        assert_eq!(db.sweep(made.id).await.unwrap().running, 3);
        assert!(db.limit_sweep(made.id, Some(2)).await.is_err());

        for fence in held {
            db.finish(fence, &Ended::new(Outcome::Succeeded, None), &lease()).await.unwrap();
        }
        assert_eq!(db.sweep(made.id).await.unwrap().running, 0);
        db.limit_sweep(made.id, None).await.unwrap();
        let me = worker(&db).await;
        let mut more = 0;
        while db.claim(&me, &anything(), &lease()).await.unwrap().is_some() {
            more += 1;
        }
        assert_eq!(more, 21);
    });
}

#[test]
fn a_job_that_may_preempts_the_lowest_and_nobody_twice() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let me = WorkerInfo { offers: anything(), ..worker(&db).await };
        let mut fences = Vec::new();
        for (name, priority, gpus) in [("low", 0, 1), ("lower", -5, 1), ("cpu", -9, 0)] {
            db.submit(NewJob { priority, gpus: gpus.into(), ..job(name) }).await.unwrap();
        }
        for _ in 0..3 {
            fences.push(db.claim(&me, &anything(), &lease()).await.unwrap().unwrap());
        }
        let held = fences.iter().filter(|claimed| claimed.job.gpus > 0);
        let held = held.map(|claimed| (claimed.job.id, vec![i64::MAX])).collect();
        let full = &Free { slots: 0, gpus: vec![], held };
        let names = async |free: &Free| {
            let asked = db.preempt(&me, free, &lease()).await.unwrap();
            asked.into_iter().map(|asked| asked.name).collect::<Vec<_>>()
        };
        // Who does not ask for it waits, and so does who is not higher.
        db.submit(NewJob { priority: 9, gpus: 1.into(), ..job("patient") }).await.unwrap();
        db.submit(NewJob { priority: -9, preempts: true, ..job("equal") }).await.unwrap();
        assert!(names(full).await.is_empty());

        let urgent = NewJob { priority: 7, gpus: 1.into(), preempts: true, ..job("urgent") };
        let urgent = db.submit(urgent).await.unwrap().job;
        assert_eq!(names(full).await, ["lower"], "the lowest with a GPU");
        assert!(names(full).await.is_empty(), "one gives way already");
        let lower = fences.iter().find(|claimed| claimed.job.name == "lower").unwrap();
        let row = db.job(lower.job.id).await.unwrap();
        assert_eq!(row.stop_requested, Some(StopRequest::Yield));
        assert_eq!(row.yields_to, Some(urgent.id));

        let stopped = Ended::new(Outcome::Stopped, None);
        let after = db.finish(lower.fence, &stopped, &lease()).await.unwrap();
        assert_eq!((after.state, after.wait), (JobState::Queued, Duration::ZERO));
        let row = db.job(lower.job.id).await.unwrap();
        assert_eq!((row.attempts_used, row.yields_to), (0, None));

        // Two GPUs need both; more than all of them together asks nobody.
        db.submit(NewJob { priority: 20, gpus: 3.into(), preempts: true, ..job("huge") })
            .await
            .unwrap();
        let free = Free { slots: 1, gpus: vec![80], held: full.held.clone() };
        assert!(names(&free).await.is_empty());
    });
}

#[test]
fn an_end_by_force_makes_the_attempt_stale_at_once() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let id = db.submit(job("forced")).await.unwrap().job.id;
        let claimed = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap();
        assert_eq!(db.cancel_now(id).await.unwrap().state, JobState::Cancelled);
        let late = db.finish(claimed.fence, &Ended::new(Outcome::Succeeded, None), &lease()).await;
        assert!(late.unwrap_err().is_stale());
        let attempts = db.attempts(id).await.unwrap();
        assert_eq!(attempts[0].outcome, Some(Outcome::Stopped));
        assert!(attempts[0].reason.as_ref().unwrap().contains("by force"));
        assert_eq!(db.retry(id).await.unwrap().state, JobState::Queued);

        assert_eq!(db.set_priority(id, 12).await.unwrap().priority, 12);
        db.cancel(id).await.unwrap();
        assert!(db.set_priority(id, 1).await.is_err());
    });
}
