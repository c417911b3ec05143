//! Migrations, submitting, claiming, ending.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::{anything, job, lease, no_lease, set_up, with_cluster, worker};
use crate::queue::attempts::Ended;
use crate::{Error, JobKind, JobState, NewJob, Outcome, Resources};

#[test]
fn migrations_are_applied_once_and_a_difference_is_named() {
    with_cluster(async |cluster| {
        let databases = futures_of(8, || {
            let cluster = Arc::clone(&cluster);
            async move { cluster.open().await }
        })
        .await;
        let db = databases.into_iter().next().unwrap();
        db.submit(job("a")).await.unwrap();

        let refused = async |sql: &'static str| {
            sqlx::query(sql).execute(&db.pool).await.unwrap();
            match crate::Database::open_url(&cluster.url).await {
                Err(Error::Migrations(message)) => message,
                other => panic!("{other:?}"),
            }
        };
        let newer = "insert into _sqlx_migrations
            values (9000, 'later', now(), true, 'x', 0)";
        assert!(refused(newer).await.contains("migration 9000, which this program does not know"));
        let changed = "with gone as (delete from _sqlx_migrations where version = 9000)
            update _sqlx_migrations set checksum = 'x' where version = 1";
        assert!(refused(changed).await.contains("another migration 1 than this program"));
    });
}

/// The results of `count` tasks that run at once.
async fn futures_of<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    count: usize,
    make: impl Fn() -> F,
) -> Vec<T> {
    let tasks: Vec<_> = (0..count).map(|_| tokio::spawn(make())).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

#[test]
fn eight_claimers_take_every_job_exactly_once() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        for number in 0..100 {
            db.submit(job(&number.to_string())).await.unwrap();
        }
        let taken = futures_of(8, || {
            let cluster = Arc::clone(&cluster);
            async move {
                let db = cluster.open().await;
                let worker = worker(&db).await;
                let mut taken = Vec::new();
                while let Some(claimed) = db.claim(&worker, &anything(), &lease()).await.unwrap() {
                    assert_eq!(claimed.fence.number, 1);
                    taken.push(claimed.job.id);
                    let ended = Ended::new(Outcome::Succeeded, None);
                    db.finish(claimed.fence, &ended, &lease()).await.unwrap();
                }
                taken
            }
        })
        .await
        .concat();
        assert_eq!(taken.len(), 100);
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 100);
        assert_eq!(db.open_jobs().await.unwrap(), (0, 0, 0));
    });
}

#[test]
fn claims_follow_priority_age_parents_and_resources() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let me = worker(&db).await;
        let old = db.submit(job("old")).await.unwrap().job;
        db.submit(NewJob { after: vec![old.id], priority: 9, ..job("child") }).await.unwrap();
        db.submit(job("young")).await.unwrap();
        db.submit(NewJob { priority: 5, ..job("urgent") }).await.unwrap();
        db.submit(NewJob { gpus: 2.into(), gpu_memory: 80, priority: 7, ..job("gpus") })
            .await
            .unwrap();
        db.submit(NewJob { labels: [("rack".into(), "a".into())].into(), ..job("rack") })
            .await
            .unwrap();
        db.submit(NewJob { kind: JobKind::Ingest, ..job("ingest") }).await.unwrap();
        db.submit(NewJob { held: true, priority: 99, ..job("held") }).await.unwrap();
        let later = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
        db.submit(NewJob { run_after: Some(later), priority: 99, ..job("later") }).await.unwrap();

        let small = Resources { kinds: vec![JobKind::Train], gpus: vec![], ..anything() };
        let claim = async |resources: &Resources| {
            let claimed = db.claim(&me, resources, &lease()).await.unwrap();
            claimed.map(|claimed| claimed.job.name)
        };
        for expected in ["urgent", "old", "young"] {
            assert_eq!(claim(&small).await.as_deref(), Some(expected));
        }
        assert_eq!(claim(&small).await, None);
        let fence = crate::Fence { job: old.id, number: 1 };
        db.finish(fence, &Ended::new(Outcome::Succeeded, None), &lease()).await.unwrap();
        assert_eq!(claim(&small).await.as_deref(), Some("child"));

        // What the small worker cannot do does not keep it: the claimed ones and the later one do.
        assert!(db.could_do(&small).await.unwrap());
        let weak = Resources { gpus: vec![79, 80], ..small.clone() };
        assert_eq!(claim(&weak).await, None);
        let strong = Resources { gpus: vec![80, 8, 81], ..small.clone() };
        assert_eq!(claim(&strong).await.as_deref(), Some("gpus"));
        let rack = Resources { labels: serde_json::json!({"rack": "a", "x": "y"}), ..small };
        assert_eq!(claim(&rack).await.as_deref(), Some("rack"));
        assert_eq!(claim(&anything()).await.as_deref(), Some("ingest"));
        assert_eq!(claim(&anything()).await, None);
    });
}

#[test]
fn the_same_key_is_the_same_job_also_at_once() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let all = futures_of(8, || {
            let db = db.clone();
            async move {
                let new = NewJob { submit_key: Some("friday".into()), ..job("once") };
                db.submit(new).await.unwrap()
            }
        })
        .await;
        assert_eq!(all.iter().filter(|submitted| !submitted.existed).count(), 1);
        assert_eq!(all.iter().map(|submitted| submitted.job.id).collect::<BTreeSet<_>>().len(), 1);
    });
}

#[test]
fn what_waits_for_a_failed_job_is_cancelled_and_says_why() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let me = worker(&db).await;
        let parent = db.submit(NewJob { max_attempts: 1, ..job("parent") }).await.unwrap().job;
        let child = db.submit(NewJob { after: vec![parent.id], ..job("child") }).await.unwrap().job;
        let grandchild =
            db.submit(NewJob { after: vec![child.id], ..job("grandchild") }).await.unwrap().job;
        let claimed = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap();
        let ended = Ended::new(Outcome::Failed, Some("exit status 1".into()));
        let after = db.finish(claimed.fence, &ended, &lease()).await.unwrap();
        assert_eq!(after.state, JobState::Failed);
        for id in [child.id, grandchild.id] {
            let job = db.job(id).await.unwrap();
            assert_eq!(job.state, JobState::Cancelled);
            assert_eq!(job.reason, Some(format!("job {} failed", parent.short)));
        }
        let refused = db.submit(NewJob { after: vec![parent.id], ..job("late") }).await;
        assert!(matches!(refused, Err(Error::ParentEnded { .. })), "{refused:?}");
        assert!(matches!(db.retry(child.id).await, Err(Error::ParentEnded { .. })));
        let again = db.retry(parent.id).await.unwrap();
        assert_eq!((again.state, again.attempts_used), (JobState::Queued, 0));
        assert_eq!(db.retry(child.id).await.unwrap().state, JobState::Queued);
    });
}

#[test]
fn a_lost_lease_is_taken_back_until_no_try_is_left() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let me = worker(&db).await;
        let id = db.submit(NewJob { max_attempts: 2, ..job("lost") }).await.unwrap().job.id;
        for (number, state) in [(1, JobState::Queued), (2, JobState::Failed)] {
            let claimed = db.claim(&me, &anything(), &no_lease()).await.unwrap().unwrap();
            assert_eq!(claimed.fence.number, number);
            let after = db.reclaim(&lease(), &[]).await.unwrap();
            assert_eq!(after.iter().map(|after| after.state).collect::<Vec<_>>(), [state]);
            let late = Ended::new(Outcome::Succeeded, None);
            let late = db.finish(claimed.fence, &late, &lease()).await;
            assert!(late.unwrap_err().is_stale());
        }
        let attempts = db.attempts(id).await.unwrap();
        assert!(attempts.iter().all(|attempt| attempt.outcome == Some(Outcome::Lost)));
        assert!(db.job(id).await.unwrap().reason.unwrap().contains("worker was lost"));
    });
}

#[test]
fn stopping_as_asked_uses_no_try_and_failing_waits_longer_each_time() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let me = worker(&db).await;
        let id = db.submit(job("stopped")).await.unwrap().job.id;
        let claim = async || db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        let stop = Ended::new(Outcome::Stopped, None);

        let after = db.finish(claim().await, &stop, &lease()).await.unwrap();
        assert_eq!((after.state, after.wait.as_secs()), (JobState::Queued, 0));
        let fence = claim().await;
        assert_eq!(db.pause(id).await.unwrap().state, JobState::Running);
        assert_eq!(db.finish(fence, &stop, &lease()).await.unwrap().state, JobState::Paused);
        assert_eq!(db.resume(id).await.unwrap().state, JobState::Queued);
        let fence = claim().await;
        let slow = crate::Lease { retry_delay: std::time::Duration::from_secs(100), ..lease() };
        let failed = Ended::new(Outcome::Failed, Some("x".into()));
        let after = db.finish(fence, &failed, &slow).await.unwrap();
        assert!((50..=150).contains(&after.wait.as_secs()), "{:?}", after.wait);
        let row = db.job(id).await.unwrap();
        assert_eq!((row.attempt, row.attempts_used, row.state), (3, 1, JobState::Queued));
        assert!(db.claim(&me, &anything(), &lease()).await.unwrap().is_none());
        db.retry(id).await.unwrap();
        let fence = claim().await;
        db.cancel(id).await.unwrap();
        assert_eq!(db.finish(fence, &stop, &lease()).await.unwrap().state, JobState::Cancelled);
    });
}

#[test]
fn names_and_beginnings_of_ids_find_jobs() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        db.submit(job("same")).await.unwrap();
        let newest = db.submit(job("same")).await.unwrap().job;
        assert_eq!(db.find_job("same").await.unwrap().id, newest.id);
        assert_eq!(db.find_job(&newest.short).await.unwrap().id, newest.id);
        assert_eq!(db.find_job(&newest.id.to_string()).await.unwrap().id, newest.id);
        for wrong in ["", "nobody", "%", "0123456789abcdef0123456789abcdef0123456789"] {
            assert!(matches!(db.find_job(wrong).await, Err(Error::NotFound { .. })), "{wrong}");
        }
        for number in 0..40 {
            db.submit(job(&number.to_string())).await.unwrap();
        }
        // With so many ids one digit is the beginning of several.
        let mut ambiguous = 0;
        for digit in "0123456789abcdef".chars() {
            if let Err(Error::Ambiguous { count, .. }) = db.find_job(&digit.to_string()).await {
                assert!(count > 1);
                ambiguous += 1;
            }
        }
        assert!(ambiguous > 0);
    });
}

#[test]
fn runs_that_wait_from_before_take_the_gpus_of_their_device() {
    let (_cluster, runtime, db) = super::set_up();
    runtime.block_on(async {
        let create = async |device: Option<&str>, gpus: &str, held: bool| {
            let config = serde_json::json!({ "train": { "device": device } });
            let job = NewJob { gpus: gpus.parse().unwrap(), held, ..job("waits") };
            db.create_run(crate::NewRun { config, job, ..super::new_run("waits") })
                .await
                .unwrap()
                .job
        };
        let jobs = [
            (create(Some("cpu"), "0..1", false).await, (0, 0)),
            (create(Some("cuda"), "0..1", true).await, (1, 1)),
            (create(Some("auto"), "0..1", false).await, (0, 1)),
            (create(None, "0..1", false).await, (0, 1)),
            (create(Some("cuda"), "0", false).await, (0, 0)),
            (db.submit(job("no-run")).await.unwrap().job, (0, 1)),
        ];
        let ended = create(Some("cpu"), "0..1", false).await;
        db.cancel(ended.id).await.unwrap();
        let migration = include_str!("../../../migrations/0011_waiting_devices.sql");
        sqlx::raw_sql(migration).execute(&db.pool).await.unwrap();
        for (job, gpus) in jobs {
            let now = db.job(job.id).await.unwrap();
            assert_eq!((now.gpus, now.gpus_most), gpus, "{}", job.payload);
        }
        let ended = db.job(ended.id).await.unwrap();
        assert_eq!((ended.gpus, ended.gpus_most), (0, 1), "history stays");
    });
}

/// Answered with a job of another kind, whoever submits would take it for what was asked for.
#[test]
fn a_submit_key_is_that_of_one_kind() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let keyed = |kind| NewJob {
            submit_key: Some("friday".into()),
            ..NewJob::new(kind, "once", json!({}))
        };
        let first = db.submit(keyed(JobKind::Ingest)).await.unwrap().job;
        assert!(db.submit(keyed(JobKind::Ingest)).await.unwrap().existed);
        for kind in [JobKind::Train, JobKind::Sample, JobKind::Evaluate] {
            let error = db.submit(keyed(kind)).await.unwrap_err().to_string();
            assert!(error.contains(&first.short) && error.contains("of kind ingest"), "{error}");
        }
    });
}

/// The list in `state.rs` is true: no other statement writes the state of a job.
#[test]
fn no_other_statement_moves_a_job() {
    fn count(folder: &std::path::Path, found: &mut std::collections::BTreeMap<String, usize>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if path.is_dir() {
                if name != "tests" {
                    count(&path, found);
                }
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let moves = words.matches("update jobs set state = ").count()
                + words.matches("insert into jobs (id, kind, state").count();
            if moves > 0 {
                *found.entry(name).or_default() += moves;
            }
        }
    }
    let mut found = std::collections::BTreeMap::new();
    count(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let found: Vec<(&str, usize)> = found.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    let told =
        [("attempts.rs", 3), ("claim.rs", 1), ("control.rs", 1), ("jobs.rs", 1), ("serving.rs", 1)];
    assert_eq!(found, told);
}

/// Somebody holds the child's row (as `gc` does) while it is retried and its parent fails.
#[test]
fn a_retry_never_queues_a_job_behind_a_parent_that_fails_meanwhile() {
    with_cluster(|cluster| async move {
        let db = cluster.open().await;
        let me = worker(&db).await;
        let once = |name| NewJob { max_attempts: 1, ..job(name) };
        let failed = Ended::new(Outcome::Failed, Some("no luck".into()));
        let parent = db.submit(once("parent")).await.unwrap().job;
        let child =
            db.submit(NewJob { after: vec![parent.id], ..once("child") }).await.unwrap().job;
        let fail = async |claimed: &crate::Claimed| {
            db.finish(claimed.fence, &failed, &lease()).await.unwrap();
        };
        let claimed = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap();
        fail(&claimed).await;
        assert_eq!(db.job(child.id).await.unwrap().state, JobState::Cancelled);
        for runs_already in [true, false] {
            db.retry(parent.id).await.unwrap();
            let mut claimed = None;
            if runs_already {
                claimed = db.claim(&me, &anything(), &lease()).await.unwrap();
            }
            let held = db.idle(child.id).await.unwrap().unwrap();
            let other = db.clone();
            let retried = tokio::spawn(async move { other.retry(child.id).await });
            let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
            while sqlx::query_scalar::<_, i64>(waits).fetch_one(&db.pool).await.unwrap() == 0 {
                tokio::task::yield_now().await;
            }
            // The parent is locked: nobody claims it, and its end waits.
            assert!(db.claim(&me, &anything(), &lease()).await.unwrap().is_none());
            let (other, fence, end) =
                (db.clone(), claimed.as_ref().map(|it| it.fence), failed.clone());
            let ending = tokio::spawn(async move {
                if let Some(fence) = fence {
                    other.finish(fence, &end, &lease()).await.unwrap();
                }
            });
            held.roll_back().await.unwrap();
            retried.await.unwrap().unwrap();
            ending.await.unwrap();
            if !runs_already {
                let claimed = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap();
                assert_eq!(claimed.job.id, parent.id);
                fail(&claimed).await;
            }
            assert_eq!(db.job(child.id).await.unwrap().state, JobState::Cancelled);
        }
        let refused = db.retry(child.id).await.unwrap_err();
        assert!(matches!(refused, Error::ParentEnded { .. }), "{refused}");
        assert!(!db.could_do(&anything()).await.unwrap());
    });
}

#[test]
fn what_waits_is_counted_through_ends_retries_and_work_that_goes_on() {
    with_cluster(|cluster| async move {
        let db = cluster.open().await;
        let me = worker(&db).await;
        let waits = async |id: crate::Uuid| -> i32 {
            let query = sqlx::query_scalar("select waits from jobs where id = $1").bind(id);
            query.fetch_one(&db.pool).await.unwrap()
        };
        let one = db.submit(job("one")).await.unwrap().job;
        let two = db.submit(job("two")).await.unwrap().job;
        let after = vec![one.id, two.id];
        let child = db.submit(NewJob { after: after.clone(), ..job("child") }).await.unwrap().job;
        assert_eq!(waits(child.id).await, 2);
        let done = Ended::new(Outcome::Succeeded, None);
        let claimed = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap();
        db.finish(claimed.fence, &done, &lease()).await.unwrap();
        assert_eq!(waits(child.id).await, 1);
        // Cancelled, it is told nothing; queued again, it counts anew.
        db.cancel(child.id).await.unwrap();
        let claimed = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap();
        db.finish(claimed.fence, &done, &lease()).await.unwrap();
        db.retry(child.id).await.unwrap();
        assert_eq!(waits(child.id).await, 0);
        let late = db.submit(NewJob { after, ..job("late") }).await.unwrap().job;
        assert_eq!(waits(late.id).await, 0);
        let claimed = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap();
        assert_eq!(claimed.job.id, child.id);
    });
}
