//! What pages show at a glance.

use std::collections::HashMap;

use super::*;
use crate::{Ended, JobState, NewPoint, Outcome};

#[test]
fn a_sketch_is_made_of_recorded_points_from_the_first_to_the_last() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let made = db.create_run(new_run("long")).await.unwrap();
        let other = db.create_run(new_run("other")).await.unwrap();
        let (run, none) = (made.run.id, other.run.id);
        let worker = worker(&db).await;
        let claimed = db.claim(&worker, &anything(), &lease()).await.unwrap().unwrap();
        assert_eq!(claimed.job.id, run);
        let values: Vec<NewPoint> = (1..=1000)
            .map(|step| NewPoint { step: 5 * step, name: "loss".into(), value: step as f64 })
            .collect();
        db.record_metrics(claimed.fence, run, &values).await.unwrap();
        let sketch = |points| {
            let db = &db;
            async move { db.sketches(&[run, none], "loss", points).await.unwrap() }
        };
        let found: HashMap<_, _> = sketch(9).await;
        assert_eq!(found.len(), 1);
        let steps: Vec<i64> = found[&run].iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, [5, 630, 1255, 1880, 2505, 3130, 3755, 4375, 5000]);
        assert!(found[&run].iter().all(|(step, value)| *step as f64 == 5.0 * value));
        // Of few points each comes once.
        assert_eq!(sketch(5000).await[&run].len(), 1000);
        assert_eq!(sketch(0).await[&run].len(), 2);
        assert!(db.sketches(&[run], "nothing", 9).await.unwrap().is_empty());

        // What a later attempt took back is not shown.
        let ended = Ended::new(Outcome::Failed, Some("no luck".into()));
        db.finish(claimed.fence, &ended, &lease()).await.unwrap();
        let again = db.claim_job(&worker, run, &lease()).await.unwrap();
        db.mark_resumed(again.fence, run, 2500).await.unwrap();
        let last = sketch(64).await[&run].last().unwrap().0;
        assert!(last <= 2500, "{last}");
    });
}

#[test]
fn the_latest_failures_come_first_and_archived_ones_not_at_all() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let worker = worker(&db).await;
        for name in ["first", "second", "third"] {
            db.submit(job(name)).await.unwrap();
            let claimed = db.claim(&worker, &anything(), &lease()).await.unwrap().unwrap();
            let ended =
                Ended { again: false, ..Ended::new(Outcome::Failed, Some(format!("no {name}"))) };
            db.finish(claimed.fence, &ended, &lease()).await.unwrap();
        }
        let names = async |most| -> Vec<String> {
            db.failures(most).await.unwrap().into_iter().map(|job| job.name).collect()
        };
        assert_eq!(names(2).await, ["third", "second"]);
        let third = db.failures(1).await.unwrap().remove(0);
        assert_eq!((third.state, third.reason.as_deref()), (JobState::Failed, Some("no third")));
        db.archive(crate::Target { kind: crate::Kind::Job, id: third.id }).await.unwrap();
        assert_eq!(names(9).await, ["second", "first"]);
    });
}

#[test]
fn a_gpu_is_busy_once_however_many_places_name_it() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let worker = worker(&db).await;
        for gpus in [&["GPU-a", "GPU-b"][..], &["GPU-c"], &[]] {
            db.submit(job("some")).await.unwrap();
            let claimed = db.claim(&worker, &anything(), &lease()).await.unwrap().unwrap();
            let gpus: Vec<String> = gpus.iter().map(|gpu| (*gpu).to_owned()).collect();
            db.take_gpus(worker.id, claimed.fence, &gpus).await.unwrap();
        }
        assert_eq!(db.busy_gpus().await.unwrap(), 3);
    });
}

#[test]
fn runs_of_one_name_come_newest_first() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let first = db.create_run(new_run("same")).await.unwrap().run;
        let second = db.create_run(new_run("same")).await.unwrap().run;
        db.create_run(new_run("other")).await.unwrap();
        assert_eq!(db.runs_called("same").await.unwrap(), [second.short, first.short]);
    });
}
