//! The same key again: the same request is the job that is there, another one is refused and says what differs.

use serde_json::json;

use super::{anything, job, lease, new_run, set_up, worker};
use crate::queue::attempts::Ended;
use crate::{
    Database, Extension, GpuCount, JobKind, Kind, NewJob, NewRun, NewSampling, NewSweep, Outcome,
    Target,
};

fn keyed() -> NewJob {
    NewJob { submit_key: Some("friday".into()), ..job("scores") }
}

async fn refused(db: &Database, new: NewJob) -> String {
    let error = db.submit(new).await.unwrap_err();
    assert!(error.is_usage(), "{error}");
    error.to_string()
}

#[test]
fn another_request_with_a_known_key_is_refused_with_what_differs() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let parent = db.submit(job("parent")).await.unwrap().job;
        let first = db.submit(keyed()).await.unwrap().job;
        let labels = [("zone".to_owned(), "a".to_owned())].into();
        for (other, says) in [
            (NewJob { name: "others".into(), ..keyed() }, r#"name: "scores" there, "others" here"#),
            (NewJob { payload: json!({"arguments": ["x"]}), ..keyed() }, "payload"),
            (NewJob { gpus: GpuCount::exactly(1), ..keyed() }, r#"gpus: "0..1" there, "1" here"#),
            (NewJob { gpu_memory: 5, ..keyed() }, "gpu_memory: 0 there, 5 here"),
            (NewJob { labels, ..keyed() }, r#"labels.zone: none there, "a" here"#),
            (NewJob { max_attempts: 9, ..keyed() }, "attempts: 3 there, 9 here"),
            (NewJob { preempts: true, ..keyed() }, "preempt: false there, true here"),
            (NewJob { after: vec![parent.id], ..keyed() }, "after: [] there, ["),
        ] {
            let said = refused(&db, other).await;
            assert!(said.contains(says), "{says}: {said}");
            assert!(said.contains(&format!("that of job {}", first.short)), "{said}");
            assert!(said.ends_with("choose another --key"), "{said}");
        }
        assert_eq!(db.jobs(crate::JobFilter::default()).await.unwrap().len(), 2);
    });
}

#[test]
fn what_time_people_and_marks_change_is_the_same_request() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let parent = db.submit(job("parent")).await.unwrap().job;
        let waits = || NewJob { after: vec![parent.id], ..keyed() };
        let first = db.submit(waits()).await.unwrap().job;
        let later = time::OffsetDateTime::now_utc() + time::Duration::hours(2);
        for again in [
            waits(),
            NewJob { run_after: Some(later), priority: 7, ..waits() },
            NewJob { owner: "bob".into(), tags: vec!["night".into()], ..waits() },
        ] {
            let again = db.submit(again).await.unwrap();
            assert!(again.existed && again.job.id == first.id);
        }
        // What the job is called and how urgent it is since then.
        db.rename(Target { kind: Kind::Job, id: first.id }, "renamed").await.unwrap();
        db.set_priority(first.id, 3).await.unwrap();
        assert!(db.submit(waits()).await.unwrap().existed);
        assert!(refused(&db, keyed()).await.contains("after: [\""));

        // To wait for what has succeeded is to wait for nothing.
        let me = worker(&db).await;
        let fence = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        db.finish(fence, &Ended::new(Outcome::Succeeded, None), &lease()).await.unwrap();
        assert!(db.submit(keyed()).await.unwrap().existed);

        // The key that says all of the work: what differs is a warning.
        let lenient = NewJob { key_says_all: true, max_attempts: 9, ..keyed() };
        assert!(db.submit(lenient).await.unwrap().existed);
    });
}

#[test]
fn a_run_is_asked_for_by_its_configuration_as_it_was_submitted() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let keyed = |steps: i64| {
            let new = new_run("keyed");
            let config = json!({"train": {"steps": steps}});
            let job = NewJob { submit_key: Some("k".into()), ..new.job };
            NewRun { config, total_steps: steps, job, ..new }
        };
        let made = db.create_run(keyed(10)).await.unwrap();
        let run = made.run;
        let config = json!({"train": {"steps": 20}});
        let mut payload = made.job.payload;
        payload["config_digest"] = "of 20 steps".into();
        db.extend_run(run.id, Extension { config, total_steps: 20, payload, ranks: None })
            .await
            .unwrap();
        assert!(db.create_run(keyed(10)).await.unwrap().existed);
        let said = db.create_run(keyed(20)).await.unwrap_err().to_string();
        assert!(said.contains("config.train.steps: 10 there, 20 here"), "{said}");

        // Where the submission says what was asked for, that alone counts.
        let asking = |at: &str, steps| {
            let mut new = keyed(steps);
            new.job.submit_key = Some("fork".into());
            new.job.asked = Some(json!({ "from": at }));
            new
        };
        db.create_run(asking("a@best", 10)).await.unwrap();
        assert!(db.create_run(asking("a@best", 20)).await.unwrap().existed);
        let said = db.create_run(asking("a@latest", 10)).await.unwrap_err().to_string();
        assert!(said.contains(r#"from: "a@best" there, "a@latest" here"#), "{said}");
    });
}

#[test]
fn a_sampling_is_asked_for_with_its_workers_and_its_training_is_not_asked_for() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let run = db.create_run(new_run("drawn")).await.unwrap().run;
        let new = |shares, after| NewSampling {
            run_id: Some(run.id),
            step: None,
            dataset_uri: "/data".into(),
            task: "colorization".into(),
            output_uri: "/out".into(),
            shares,
            job: NewJob {
                submit_key: Some("s".into()),
                after,
                ..NewJob::new(JobKind::Sample, "samples", json!({}))
            },
        };
        db.submit_sampling(new(1, vec![run.id])).await.unwrap();
        assert!(db.submit_sampling(new(1, vec![])).await.unwrap().existed);
        let said = db.submit_sampling(new(2, vec![])).await.unwrap_err().to_string();
        assert!(said.contains("shares: 1 there, 2 here"), "{said}");
    });
}

#[test]
fn a_key_is_that_of_one_job_or_one_sweep() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let sweep = |key: &str, rates: &[f64], at_most| NewSweep {
            name: "grid".into(),
            owner: "ann".into(),
            submit_key: Some(key.into()),
            at_most,
            runs: rates.iter().map(|rate| (new_run("grid-1"), json!({"lr": rate}))).collect(),
        };
        let made = db.submit_sweep(sweep("grid", &[0.1, 0.2], None)).await.unwrap().sweep;
        db.limit_sweep(made.id, Some(2)).await.unwrap();
        let again = db.submit_sweep(sweep("grid", &[0.1, 0.2], None)).await.unwrap();
        assert!(again.existed && again.runs.len() == 2);
        for (other, says) in [
            (sweep("grid", &[0.1, 0.3], None), "points[1].lr: 0.2 there, 0.3 here"),
            (sweep("grid", &[0.1], None), "points[1].lr: 0.2 there, none here"),
            (sweep("grid", &[0.1, 0.2], Some(1)), "at_most: null there, 1 here"),
        ] {
            let said = db.submit_sweep(other).await.unwrap_err().to_string();
            assert!(said.contains(says) && said.contains(&made.short), "{says}: {said}");
        }

        let said = refused(&db, NewJob { submit_key: Some("grid".into()), ..job("one") }).await;
        assert!(said.contains(&format!("that of sweep {}: choose another", made.short)), "{said}");
        let one = db.submit(keyed()).await.unwrap().job;
        let said = db.submit_sweep(sweep("friday", &[0.1], None)).await.unwrap_err().to_string();
        assert!(said.contains(&format!("that of job {}: choose another", one.short)), "{said}");
    });
}

/// What was submitted by an earlier version is answered as that did: what it asked for is not known.
#[test]
fn a_key_of_before_is_answered_as_before() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        db.submit(keyed()).await.unwrap();
        sqlx::query("delete from submissions").execute(&db.pool).await.unwrap();
        assert!(db.submit(NewJob { name: "others".into(), ..keyed() }).await.unwrap().existed);
    });
}
