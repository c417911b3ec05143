//! Runs, metrics, checkpoints, and the fence around what attempts write.

use serde_json::json;

use super::{Cluster, anything, checkpoint, lease, new_run, no_lease, points, set_up, worker};
use crate::queue::attempts::Ended;
use crate::{Attempt, NewEvaluation, NewRun, Outcome, Result, RunFacts, RunRef, Stop, Uuid};

#[test]
fn what_an_abandoned_attempt_wrote_past_the_resumed_step_is_not_shown() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let made = db.create_run(new_run("demo")).await.unwrap();
        let run = made.run.id;
        assert_eq!(made.job.run_id, Some(made.job.id));
        let first = db.claim(&me, &anything(), &no_lease()).await.unwrap().unwrap().fence;
        db.mark_resumed(first, run, 0).await.unwrap();
        db.record_metrics(first, run, &points(1..=8, 0.5)).await.unwrap();
        db.record_metrics(first, run, &points(7..=8, 0.9)).await.unwrap();
        db.record_checkpoint(first, run, &checkpoint(5, 0.5)).await.unwrap();
        assert_eq!(db.run(run).await.unwrap().last_step, 8);

        db.reclaim(&lease(), &[]).await.unwrap();
        let stale = [
            db.record_metrics(first, run, &points(9..=9, 0.1)).await,
            db.record_checkpoint(first, run, &checkpoint(9, 0.1)).await,
            db.mark_resumed(first, run, 9).await,
            db.create_chunks(first, run, 10, 5).await.map(|_| ()),
            db.insert_evaluation(Some(first), Uuid::new_v4(), &evaluation(run)).await,
        ];
        assert!(stale.into_iter().all(|result: Result<()>| result.unwrap_err().is_stale()));

        let second = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        assert_eq!(second.number, 2);
        let resumed = db.latest_checkpoint(run).await.unwrap().unwrap();
        assert_eq!(resumed.step, 5);
        db.mark_resumed(second, run, 5).await.unwrap();
        let row = db.run(run).await.unwrap();
        assert_eq!((row.last_step, row.latest), (5, json!({"loss": 0.5})));
        db.record_metrics(second, run, &points(6..=7, 0.25)).await.unwrap();

        let series = db.metric_series(run, Some("loss")).await.unwrap();
        let shown: Vec<_> = series.iter().map(|point| (point.step, point.attempt)).collect();
        assert_eq!(shown, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 2), (7, 2)]);
        let row = db.run(run).await.unwrap();
        assert_eq!(row.latest, json!({"loss": 0.25}));
        assert_eq!(row.initial, json!({"loss": 0.5}));
        assert!(db.record_metrics(first, run, &points(9..=9, 0.1)).await.unwrap_err().is_stale());
    });
}

#[test]
fn an_attempt_that_goes_back_takes_back_what_it_wrote_past_that_step() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let run = db.create_run(new_run("diverged")).await.unwrap().run.id;
        let first = db.claim(&me, &anything(), &no_lease()).await.unwrap().unwrap().fence;
        db.mark_resumed(first, run, 0).await.unwrap();
        db.record_metrics(first, run, &points(1..=9, 0.5)).await.unwrap();
        db.reclaim(&lease(), &[]).await.unwrap();

        let second = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        db.mark_resumed(second, run, 4).await.unwrap();
        db.record_metrics(second, run, &points(5..=8, 0.25)).await.unwrap();
        db.mark_resumed(second, run, 6).await.unwrap();
        let row = db.run(run).await.unwrap();
        assert_eq!((row.last_step, row.latest), (6, json!({"loss": 0.25})));
        let shown = async || {
            let series = db.metric_series(run, None).await.unwrap();
            series.iter().map(|point| (point.step, point.attempt, point.value)).collect::<Vec<_>>()
        };
        let old = [(1, 1, 0.5), (2, 1, 0.5), (3, 1, 0.5), (4, 1, 0.5)];
        let kept = [(5, 2, 0.25), (6, 2, 0.25)];
        assert_eq!(shown().await, [&old[..], &kept].concat());

        // The other course; sent twice it is the same, and within a batch the newer value counts.
        let mut other = points(7..=8, 0.75);
        other.extend(points(8..=8, 0.125));
        for _ in 0..2 {
            db.record_metrics(second, run, &other).await.unwrap();
        }
        let row = db.run(run).await.unwrap();
        assert_eq!((row.last_step, row.latest), (8, json!({"loss": 0.125})));
        let made = [(7, 2, 0.75), (8, 2, 0.125)];
        assert_eq!(shown().await, [&old[..], &kept, &made].concat());

        // Further back than it began: what is left is of the first attempt.
        db.mark_resumed(second, run, 2).await.unwrap();
        let row = db.run(run).await.unwrap();
        assert_eq!((row.last_step, row.latest), (2, json!({"loss": 0.5})));
        assert_eq!(shown().await, old[..2]);
    });
}

#[test]
fn points_that_wait_when_an_attempt_goes_back_do_not_come_in_later() {
    let (cluster, runtime, db) = set_up();
    let claimed = runtime.block_on(async {
        let me = worker(&db).await;
        db.create_run(new_run("waiting")).await.unwrap();
        db.claim(&me, &anything(), &lease()).await.unwrap().unwrap()
    });
    let attempt = attempt_of(&cluster, &claimed, lease());
    attempt.resumed_at(0).unwrap();
    for step in 1..=8 {
        attempt.metrics(step, &[("loss", step as f64)]);
    }
    attempt.resumed_at(5).unwrap();
    attempt.metrics(6, &[("loss", 0.5)]);
    attempt.flush().unwrap();
    let series = runtime.block_on(db.metric_series(claimed.job.id, None)).unwrap();
    let shown: Vec<_> = series.iter().map(|point| (point.step, point.value)).collect();
    assert_eq!(shown, [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 5.0), (6, 0.5)]);
    assert_eq!(attempt.run().unwrap().last_step, 6);
}

#[test]
fn points_that_a_server_refuses_for_a_while_are_all_stored_in_the_end() {
    let (cluster, runtime, db) = set_up();
    let claimed = runtime.block_on(async {
        let me = worker(&db).await;
        db.create_run(new_run("refused")).await.unwrap();
        let limit = "alter database palette set statement_timeout = '50ms'";
        sqlx::query(limit).execute(&db.pool).await.unwrap();
        db.claim(&me, &anything(), &lease()).await.unwrap().unwrap()
    });
    let attempt = attempt_of(&cluster, &claimed, lease());
    attempt.resumed_at(0).unwrap();
    let mut locked = runtime.block_on(db.pool.begin()).unwrap();
    runtime.block_on(async {
        sqlx::query("lock table metrics in access exclusive mode")
            .execute(&mut *locked)
            .await
            .unwrap();
    });
    let mut begun = std::collections::BTreeSet::new();
    let mut step = 0;
    until("the server has ended two statements", || {
        step += 1;
        attempt.metrics(step, &[("loss", step as f64)]);
        let waiting = sqlx::query_scalar(
            "select query_start::text from pg_stat_activity where wait_event_type = 'Lock'",
        );
        begun.extend(runtime.block_on(waiting.fetch_all(&db.pool)).unwrap() as Vec<String>);
        begun.len() > 2
    });
    runtime.block_on(locked.commit()).unwrap();
    attempt.flush().unwrap();
    let series = runtime.block_on(db.metric_series(claimed.job.id, None)).unwrap();
    let steps: Vec<i64> = series.iter().map(|point| point.step).collect();
    assert_eq!(steps, (1..=step).collect::<Vec<_>>());
    assert_eq!(attempt.stop_requested(), None);
}

#[test]
fn a_submitter_says_where_the_checkpoints_go() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let place = async |uri: Option<&str>, under: Option<&str>| {
            let (uri, under) = (uri.map(str::to_owned), under.map(str::to_owned));
            let run = db.create_run(NewRun { uri, under, ..new_run("placed") }).await.unwrap().run;
            (run.uri, run.short)
        };
        assert_eq!(place(Some("/exactly"), Some("/under")).await.0, "/exactly");
        for under in ["s3://bucket/runs", "s3://bucket/runs/"] {
            let (uri, short) = place(None, Some(under)).await;
            assert_eq!(uri, format!("s3://bucket/runs/{short}"));
        }
    });
}

fn evaluation(run: uuid::Uuid) -> NewEvaluation {
    NewEvaluation {
        run_id: Some(run),
        step: Some(5),
        label: "demo".into(),
        task: Some("colorization".into()),
        outputs_uri: "/out".into(),
        reference_uri: None,
        scores: json!({"mse": 0.1}),
    }
}

#[test]
fn a_run_tells_what_it_was_made_of_and_its_checkpoints_go_by_name() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let keyed = |key: &str| {
            let mut new = new_run("keyed");
            new.job.submit_key = Some(key.into());
            new
        };
        let made = db.create_run(keyed("k")).await.unwrap();
        let again = db.create_run(keyed("k")).await.unwrap();
        assert!(again.existed && again.run.id == made.run.id);
        let run = made.run.id;
        assert_eq!(made.run.config_digest.len(), 64);
        let read = db.run_datasets(run).await.unwrap();
        assert_eq!(
            (&*read[0].dataset.manifest_digest, &*read[0].dataset.uri),
            ("d1", "/data/tiny")
        );
        // A later run reads a copy: each tells where its own data lay.
        let mut copy = new_run("copy");
        copy.datasets[0].uri = "/copies/tiny".into();
        let copy = db.create_run(copy).await.unwrap().run.id;
        assert_eq!(db.run_datasets(copy).await.unwrap()[0].dataset.uri, "/copies/tiny");
        assert_eq!(db.run_datasets(run).await.unwrap()[0].dataset.uri, "/data/tiny");

        let fence = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        for (step, loss) in [(5, 0.2), (10, f64::NAN), (15, 0.3)] {
            db.record_checkpoint(fence, run, &checkpoint(step, loss)).await.unwrap();
        }
        for (text, step) in
            [("keyed", 15), ("keyed@latest", 15), ("keyed@best", 5), ("keyed@10", 10)]
        {
            let reference: RunRef = text.parse().unwrap();
            assert_eq!(db.checkpoint(&reference).await.unwrap().1.step, step, "{text}");
        }
        let missing = db.checkpoint(&"keyed@11".parse().unwrap()).await.unwrap_err().to_string();
        assert!(missing.contains("has no checkpoint keyed@11"), "{missing}");
        let id = Uuid::new_v4();
        for _ in ["sent", "sent again, for the answer was lost"] {
            db.insert_evaluation(Some(fence), id, &evaluation(run)).await.unwrap();
        }
        assert_eq!(db.evaluations(run).await.unwrap().len(), 1);
    });
}

#[test]
fn the_childs_side_sends_hears_and_stops() {
    let (cluster, runtime, db) = set_up();
    let (run, claimed) = runtime.block_on(async {
        let me = worker(&db).await;
        let run = db.create_run(new_run("child")).await.unwrap().run.id;
        (run, db.claim(&me, &anything(), &lease()).await.unwrap().unwrap())
    });
    let short = crate::Lease { length: std::time::Duration::from_secs(2), ..lease() };
    let attempt = attempt_of(&cluster, &claimed, short);
    assert!(attempt.folder().is_dir());
    assert_eq!(attempt.resume_point().unwrap().map(|checkpoint| checkpoint.step), None);
    attempt.resumed_at(0).unwrap();
    attempt
        .run_facts(RunFacts { device: "cpu".into(), libtorch: "2.11".into(), git_revision: None })
        .unwrap();
    for step in 1..=3000 {
        attempt.metrics(step, &[("loss", 1.0 / step as f64), ("strange", f64::NAN)]);
    }
    attempt.progress(3000, 4000, "loss 0.1");
    attempt.checkpoint(&checkpoint(3000, 0.1)).unwrap();
    attempt.flush().unwrap();
    assert_eq!(attempt.resume_point().unwrap().unwrap().step, 3000);
    assert_eq!(attempt.run().unwrap().device.as_deref(), Some("cpu"));
    assert_eq!(attempt.stop_requested(), None);

    let (series, job) = runtime.block_on(async {
        db.pause(claimed.job.id).await.unwrap();
        (db.metric_series(run, None).await.unwrap(), db.job(claimed.job.id).await.unwrap())
    });
    assert_eq!(series.len(), 6000);
    assert!(series.iter().any(|point| point.value.is_nan()));
    assert_eq!((job.progress_done, job.progress_total), (Some(3000), Some(4000)));
    until("the pause is heard", || attempt.stop_requested() == Some(Stop::Pause));

    runtime.block_on(async {
        let ended = Ended::new(Outcome::Stopped, None);
        db.finish(claimed.fence, &ended, &lease()).await.unwrap();
    });
    until("the end is heard", || attempt.stop_requested() == Some(Stop::Stale));
    attempt.metrics(3001, &[("loss", 0.0)]);
    assert!(attempt.flush().unwrap_err().is_stale());
}

#[test]
fn an_outage_is_waited_out_until_the_lease_ends() {
    let (cluster, runtime, db) = set_up();
    let claimed = runtime.block_on(async {
        let me = worker(&db).await;
        db.create_run(new_run("outage")).await.unwrap();
        db.claim(&me, &anything(), &lease()).await.unwrap().unwrap()
    });
    let start = |seconds| {
        let length = std::time::Duration::from_secs(seconds);
        attempt_of(&cluster, &claimed, crate::Lease { length, ..lease() })
    };
    let patient = start(60);
    patient.resumed_at(0).unwrap();
    cluster.server.stop().unwrap();
    patient.metrics(1, &[("loss", 0.5)]);
    std::thread::scope(|scope| {
        let flushed = scope.spawn(|| patient.flush());
        cluster.server.ensure_running().unwrap();
        flushed.join().unwrap().unwrap();
    });
    let series = runtime.block_on(db.metric_series(claimed.job.id, None)).unwrap();
    assert_eq!(series.len(), 1);
    assert_eq!(patient.stop_requested(), None);

    // A second attempt object with a lease that the row ends while the server is away.
    runtime.block_on(async {
        sqlx::query("update jobs set lease_expires_at = now() + interval '1 second'")
            .execute(&db.pool)
            .await
            .unwrap();
    });
    let other = start(1);
    cluster.server.stop().unwrap();
    until("the lease has ended", || other.stop_requested() == Some(Stop::Stale));
    assert!(other.resumed_at(1).unwrap_err().is_outage() || other.flush().is_err());
}

/// The child's side of a claim, with a connection of its own.
fn attempt_of(cluster: &Cluster, claimed: &crate::Claimed, lease: crate::Lease) -> Attempt {
    let runtime = crate::database::runtime().unwrap();
    let database = runtime.block_on(cluster.open());
    Attempt::start(runtime, &cluster.home(), database, claimed.job.clone(), lease, None).unwrap()
}

/// Waits for a condition, half a minute at most.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
